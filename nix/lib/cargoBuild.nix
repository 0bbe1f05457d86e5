# `cargo build`, for its artifacts. `buildPackage` installs what it builds.
{ mkCargoDerivation }:
{
  cargoExtraArgs ? "--locked",
  ...
}@args:
mkCargoDerivation (
  builtins.removeAttrs args [ "cargoExtraArgs" ]
  // {
    pnameSuffix = args.pnameSuffix or "-build";
    buildPhaseCargoCommand = "cargoWithProfile build ${cargoExtraArgs}";
  }
)
