# `cargo clippy`, all targets where nothing else is said.
{ mkCargoDerivation, clippy }:
{
  cargoExtraArgs ? "--locked",
  cargoClippyExtraArgs ? "--all-targets",
  ...
}@args:
mkCargoDerivation (
  builtins.removeAttrs args [
    "cargoExtraArgs"
    "cargoClippyExtraArgs"
  ]
  // {
    pnameSuffix = args.pnameSuffix or "-clippy";
    buildPhaseCargoCommand = "cargoWithProfile clippy ${cargoExtraArgs} ${cargoClippyExtraArgs}";
    nativeBuildInputs = args.nativeBuildInputs or [ ] ++ [ clippy ];
  }
)
