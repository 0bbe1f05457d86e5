# `stdenv.mkDerivation` with cargo: vendored sources, inherited and installed artifacts, and phases that run what is
# given as commands. All other attributes go through as they are.
{
  internal,
  stdenv,
  cargo,
  rustc,
  zstd,
  crateNameFromCargoToml,
  vendorCargoDeps,
  cargoHelperFunctionsHook,
  configureCargoCommonVarsHook,
  configureCargoVendoredDepsHook,
  inheritCargoArtifactsHook,
  installCargoArtifactsHook,
  replaceCargoLockHook,
  writeTOML,
}:
{
  buildPhaseCargoCommand,
  checkPhaseCargoCommand ? "",
  installPhaseCommand ? "mkdir -p $out",
  # What another derivation built, or `null`.
  cargoArtifacts ? null,
  ...
}@args:
let
  inherit (internal) text;
  crate = crateNameFromCargoToml args;

  passed = builtins.removeAttrs args [
    "buildPhaseCargoCommand"
    "cargoLock"
    "cargoLockContents"
    "cargoLockParsed"
    "checkPhaseCargoCommand"
    "installPhaseCommand"
    "outputHashes"
    "overrideVendorCargoPackage"
    "pnameSuffix"
    "stdenv"
    "warmArtifacts"
  ];

  lock =
    if args.cargoLock or null != null then
      args.cargoLock
    else if args.cargoLockContents or null != null then
      builtins.toFile "Cargo.lock" args.cargoLockContents
    else if args.cargoLockParsed or null != null then
      writeTOML "Cargo.lock" args.cargoLockParsed
    else
      null;

  phase = name: command: ''
    runHook pre${name}
    ${command}
    runHook post${name}
  '';
in
(args.stdenv or stdenv).mkDerivation (
  passed
  // text.optionalAttrs (lock != null) { cargoLock = lock; }
  // {
    inherit cargoArtifacts;
    pname = "${args.pname or crate.pname}${args.pnameSuffix or ""}";
    version = args.version or crate.version;
    cargoVendorDir = args.cargoVendorDir or (vendorCargoDeps args);
    doInstallCargoArtifacts = args.doInstallCargoArtifacts or true;
    strictDeps = args.strictDeps or true;

    nativeBuildInputs =
      args.nativeBuildInputs or [ ]
      ++ [
        cargo
        rustc
        zstd
        cargoHelperFunctionsHook
        configureCargoCommonVarsHook
        configureCargoVendoredDepsHook
        replaceCargoLockHook
        inheritCargoArtifactsHook
        installCargoArtifactsHook
      ]
      ++ args.warmArtifacts.hooks or [ ];

    # Nothing is configured in a workspace; `./configure` in one is somebody else's.
    configurePhase = args.configurePhase or (phase "Configure" ":");
    buildPhase = args.buildPhase or (phase "Build" "cargo --version\n${buildPhaseCargoCommand}");
    checkPhase = args.checkPhase or (phase "Check" checkPhaseCargoCommand);
    installPhase = args.installPhase or (phase "Install" installPhaseCommand);
  }
)
