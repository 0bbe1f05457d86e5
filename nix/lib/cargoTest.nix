# `cargo test`.
{ mkCargoDerivation }:
{
  cargoExtraArgs ? "--locked",
  cargoTestExtraArgs ? "",
  ...
}@args:
mkCargoDerivation (
  builtins.removeAttrs args [
    "cargoExtraArgs"
    "cargoTestExtraArgs"
  ]
  // {
    doCheck = args.doCheck or true;
    pnameSuffix = args.pnameSuffix or "-test";
    buildPhaseCargoCommand = "";
    checkPhaseCargoCommand = "cargoWithProfile test ${cargoExtraArgs} ${cargoTestExtraArgs}";
  }
)
