# `cargo fmt --check`. It needs no dependencies.
{ mkCargoDerivation, rustfmt }:
{
  cargoExtraArgs ? "",
  rustFmtExtraArgs ? "",
  ...
}@args:
mkCargoDerivation (
  builtins.removeAttrs args [
    "cargoExtraArgs"
    "rustFmtExtraArgs"
  ]
  // {
    pnameSuffix = args.pnameSuffix or "-fmt";
    cargoArtifacts = null;
    cargoVendorDir = null;
    doInstallCargoArtifacts = false;
    buildPhaseCargoCommand = "cargo fmt ${cargoExtraArgs} -- --check ${rustFmtExtraArgs}";
    nativeBuildInputs = args.nativeBuildInputs or [ ] ++ [ rustfmt ];
  }
)
