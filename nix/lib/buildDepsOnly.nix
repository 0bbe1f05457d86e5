# The third-party dependencies of a workspace, built for checks, for programs and for tests. It is the skeleton that is
# built, so it changes with the dependencies alone.
{
  internal,
  mkCargoDerivation,
  mkDummySrc,
  vendorCargoDeps,
  crateNameFromCargoToml,
  forgetStubsHook,
}:
{
  cargoBuildCommand ? "cargoWithProfile build",
  cargoCheckCommand ? "cargoWithProfile check",
  cargoTestCommand ? "cargoWithProfile test",
  cargoExtraArgs ? "--locked",
  cargoBuildExtraArgs ? "",
  cargoCheckExtraArgs ? if args.doCheck or true then "--all-targets" else "",
  cargoTestExtraArgs ? "--no-run",
  ...
}@args:
let
  inherit (internal) text;
  passed = builtins.removeAttrs args [
    "cargoBuildCommand"
    "cargoBuildExtraArgs"
    "cargoCheckCommand"
    "cargoCheckExtraArgs"
    "cargoExtraArgs"
    "cargoTestCommand"
    "cargoTestExtraArgs"
    "dummyrs"
    "dummyBuildrs"
    "dummySrc"
    "extraDummyScript"
    "outputs"
  ];
  # A skeleton that is given says what ours would.
  sources = args // text.optionalAttrs (args ? dummySrc) { src = args.dummySrc; };
  crate = crateNameFromCargoToml sources;
  dummySrc = args.dummySrc or (mkDummySrc args);
in
mkCargoDerivation (
  passed
  // {
    src = dummySrc;
    pname = args.pname or crate.pname;
    # Not the workspace's: a release would build all of it again.
    version = "deps";
    pnameSuffix = "";
    doCheck = args.doCheck or true;
    cargoArtifacts = null;
    cargoVendorDir = args.cargoVendorDir or (vendorCargoDeps sources);
    doInstallCargoArtifacts = true;
    cargoKeptPackages = dummySrc.kept or [ ];

    env = args.env or { } // {
      CRANE_BUILD_DEPS_ONLY = args.env.CRANE_BUILD_DEPS_ONLY or 1;
    };

    buildPhaseCargoCommand =
      args.buildPhaseCargoCommand or ''
        ${cargoCheckCommand} ${cargoExtraArgs} ${cargoCheckExtraArgs}
        ${cargoBuildCommand} ${cargoExtraArgs} ${cargoBuildExtraArgs}
      '';
    checkPhaseCargoCommand = args.checkPhaseCargoCommand or "${cargoTestCommand} ${cargoExtraArgs} ${cargoTestExtraArgs}";
    nativeBuildInputs = args.nativeBuildInputs or [ ] ++ [ forgetStubsHook ];
  }
)
