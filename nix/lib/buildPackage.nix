# The programs and C libraries of a workspace, on top of its dependencies.
{
  internal,
  mkCargoDerivation,
  buildDepsOnly,
  vendorCargoDeps,
  crateNameFromCargoToml,
  installFromCargoBuildLogHook,
  removeReferencesToRustToolchainHook,
  removeReferencesToVendoredSourcesHook,
}:
{
  cargoBuildCommand ? "cargoWithProfile build",
  cargoTestCommand ? "cargoWithProfile test",
  cargoExtraArgs ? "--locked",
  cargoBuildExtraArgs ? "",
  cargoTestExtraArgs ? "",
  ...
}@args:
let
  crate = crateNameFromCargoToml args;
  common = {
    pname = args.pname or crate.pname;
    version = args.version or crate.version;
    cargoVendorDir = args.cargoVendorDir or (vendorCargoDeps args);
  };
  passed = builtins.removeAttrs args [
    "cargoBuildCommand"
    "cargoBuildExtraArgs"
    "cargoExtraArgs"
    "cargoTestCommand"
    "cargoTestExtraArgs"
    "dummyrs"
    "dummyBuildrs"
    "extraDummyScript"
  ];
  # The phases that a caller writes are about the real sources, and find none in a skeleton.
  forDependencies = builtins.removeAttrs (args // common) [
    "installPhase"
    "installPhaseCommand"
    "preInstall"
    "postInstall"
    "preFixup"
    "postFixup"
  ];
in
mkCargoDerivation (
  passed
  // common
  // {
    doCheck = args.doCheck or true;
    doInstallCargoArtifacts = args.doInstallCargoArtifacts or false;
    cargoArtifacts = args.cargoArtifacts or (buildDepsOnly forDependencies);

    buildPhaseCargoCommand =
      args.buildPhaseCargoCommand or ''
        cargoBuildLog="$(mktemp "$NIX_BUILD_TOP/cargoBuildLogXXXXXX")"
        ${cargoBuildCommand} --message-format json-render-diagnostics ${cargoExtraArgs} ${cargoBuildExtraArgs} >"$cargoBuildLog"
      '';
    checkPhaseCargoCommand = args.checkPhaseCargoCommand or "${cargoTestCommand} ${cargoExtraArgs} ${cargoTestExtraArgs}";
    installPhaseCommand =
      args.installPhaseCommand or ''
        mkdir -p $out
        if [ ! -d "''${postBuildInstallFromCargoBuildLogOut-}" ]; then
          echo "error: nothing was staged for installation: set installPhaseCommand, or let the build phase keep cargo's log" >&2
          exit 1
        fi
        cp -r "$postBuildInstallFromCargoBuildLogOut/." $out/
      '';
    nativeBuildInputs = args.nativeBuildInputs or [ ] ++ [
      installFromCargoBuildLogHook
      removeReferencesToRustToolchainHook
      removeReferencesToVendoredSourcesHook
    ];
  }
)
