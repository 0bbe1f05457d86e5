# The flake helper: crane's names and arguments, with dependencies that come from a cache, crate by crate.
#
#   mkLib { inherit pkgs; }                    builds through its own derivations
#   mkLib { inherit pkgs; craneLib = …; }      builds through crane's
#
# The result is a scope: one function per file of nix/lib, which take each other and their tools from it by name.
# `overrideScope (final: prev: { … })` puts another function or tool in place of one, for all that use it.
#
# Of `pkgs` it takes only what is named in `tools` below, and each of it only when it is needed.
{
  pkgs,
  craneLib ? null,
  # The program itself, for the hooks that restore and collect.
  cargo-nixcache ? null,
}:
let
  missing = name: throw ''
    nixcache: `pkgs` has no `${name}`. Give one:
      (mkLib { inherit pkgs; }).overrideScope (final: prev: { ${name} = …; })
  '';
  tool = name: pkgs.${name} or (missing name);

  tools = {
    inherit pkgs craneLib;
    stdenv = tool "stdenv";
    cargo = tool "cargo";
    rustc = tool "rustc";
    clippy = tool "clippy";
    rustfmt = tool "rustfmt";
    cargo-nextest = tool "cargo-nextest";
    zstd = tool "zstd";
    curl = tool "curl";
    cacert = tool "cacert";
    fetchurl = tool "fetchurl";
    mkShell = tool "mkShell";
    # For `fileset` alone.
    lib = tool "lib";
    cargo-nixcache = if cargo-nixcache != null then cargo-nixcache else pkgs.cargo-nixcache or (missing "cargo-nixcache");
  };

  functions =
    self:
    let
      # A file is `{ what, it, needs }: function`.
      call =
        file:
        let
          function = import file;
        in
        function (builtins.intersectAttrs (builtins.functionArgs function) self);
      # Crane's function of the name where we build through crane, else ours. Crane's own functions call each other.
      cranes = name: file: if self.craneLib != null then self.craneLib.${name} else call file;
    in
    {
      internal = {
        text = import ./lib/internal/text.nix;
        paths = import ./lib/internal/paths.nix;
        toml = import ./lib/internal/toml.nix;
        glob = import ./lib/internal/glob.nix;
        sources = call ./lib/internal/sources.nix;
        lock = call ./lib/internal/lock.nix;
        gitSources = call ./lib/internal/gitSources.nix;
        workspace = call ./lib/internal/workspace.nix;
        skeleton = call ./lib/internal/skeleton.nix;
        dummySource = call ./lib/internal/dummySource.nix;
        memberSource = call ./lib/internal/memberSource.nix;
        runScript = call ./lib/internal/runScript.nix;
        mkHook = call ./lib/internal/mkHook.nix;
        nixcacheLock = call ./lib/internal/nixcacheLock.nix;
      };

      # Sources
      cleanCargoSource = cranes "cleanCargoSource" ./lib/cleanCargoSource.nix;
      filterCargoSources = cranes "filterCargoSources" ./lib/filterCargoSources.nix;
      fileset = cranes "fileset" ./lib/fileset.nix;
      path = cranes "path" ./lib/path.nix;
      crateNameFromCargoToml = cranes "crateNameFromCargoToml" ./lib/crateNameFromCargoToml.nix;
      mkDummySrc = cranes "mkDummySrc" ./lib/mkDummySrc.nix;
      writeTOML = cranes "writeTOML" ./lib/writeTOML.nix;

      # Third-party sources
      crateRegistries = self.registryFromDownloadUrl {
        dl = "https://static.crates.io/crates";
        indexUrl = "https://github.com/rust-lang/crates.io-index";
      };
      registryFromDownloadUrl = call ./lib/registryFromDownloadUrl.nix;
      appendCrateRegistries = call ./lib/appendCrateRegistries.nix;
      vendorCargoDeps = cranes "vendorCargoDeps" ./lib/vendorCargoDeps.nix;

      # Derivations
      mkCargoDerivation = cranes "mkCargoDerivation" ./lib/mkCargoDerivation.nix;
      buildDepsOnly = cranes "buildDepsOnly" ./lib/buildDepsOnly.nix;
      buildPackage = cranes "buildPackage" ./lib/buildPackage.nix;
      cargoBuild = cranes "cargoBuild" ./lib/cargoBuild.nix;
      cargoTest = cranes "cargoTest" ./lib/cargoTest.nix;
      cargoNextest = cranes "cargoNextest" ./lib/cargoNextest.nix;
      cargoClippy = cranes "cargoClippy" ./lib/cargoClippy.nix;
      cargoDoc = cranes "cargoDoc" ./lib/cargoDoc.nix;
      cargoFmt = cranes "cargoFmt" ./lib/cargoFmt.nix;
      devShell = cranes "devShell" ./lib/devShell.nix;

      # Hooks, by crane's names
      cargoHelperFunctionsHook = cranes "cargoHelperFunctionsHook" ./lib/cargoHelperFunctionsHook.nix;
      configureCargoCommonVarsHook = cranes "configureCargoCommonVarsHook" ./lib/configureCargoCommonVarsHook.nix;
      configureCargoVendoredDepsHook = cranes "configureCargoVendoredDepsHook" ./lib/configureCargoVendoredDepsHook.nix;
      inheritCargoArtifactsHook = cranes "inheritCargoArtifactsHook" ./lib/inheritCargoArtifactsHook.nix;
      installCargoArtifactsHook = cranes "installCargoArtifactsHook" ./lib/installCargoArtifactsHook.nix;
      installFromCargoBuildLogHook = cranes "installFromCargoBuildLogHook" ./lib/installFromCargoBuildLogHook.nix;
      removeReferencesToRustToolchainHook =
        cranes "removeReferencesToRustToolchainHook" ./lib/removeReferencesToRustToolchainHook.nix;
      removeReferencesToVendoredSourcesHook =
        cranes "removeReferencesToVendoredSourcesHook" ./lib/removeReferencesToVendoredSourcesHook.nix;
      replaceCargoLockHook = cranes "replaceCargoLockHook" ./lib/replaceCargoLockHook.nix;

      # What crane doesn't have
      forgetStubsHook = call ./lib/forgetStubsHook.nix;
      memberLayersHook = call ./lib/memberLayersHook.nix;
      buildWorkspace = call ./lib/buildWorkspace.nix;
      fetchOutput = call ./lib/fetchOutput.nix;
      buildNif = call ./lib/buildNif.nix;
      fetchNif = call ./lib/fetchNif.nix;
      warmArtifacts = call ./lib/warmArtifacts.nix;
      restoreHook = call ./lib/restoreHook.nix;
      collectHook = call ./lib/collectHook.nix;
      cacheConfig = call ./lib/cacheConfig.nix;
      postBuildHook = call ./lib/postBuildHook.nix;
    };

  makeScope =
    compose:
    let
      self = compose self // {
        overrideScope =
          overlay:
          makeScope (
            final:
            let
              previous = compose final;
            in
            previous // overlay final previous
          );
        # One derivation with all of cargo, rustc, clippy and rustfmt; or a function from `pkgs` to it.
        overrideToolchain =
          given:
          self.overrideScope (
            final: previous:
            let
              toolchain = if builtins.isFunction given then given final.pkgs else given;
            in
            {
              cargo = toolchain;
              rustc = toolchain;
              clippy = toolchain;
              rustfmt = toolchain;
            }
            // (if previous.craneLib == null then { } else { craneLib = previous.craneLib.overrideToolchain given; })
          );
      };
    in
    self;
in
makeScope (self: tools // functions self)
