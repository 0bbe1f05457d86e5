# The real crane over the stand-in: nixpkgs' own `lib`, and the builders and packages that crane names.
{
  # The directory of `tests/crane`.
  fetched,
  pkgs ? import ./stand-in { },
}:
let
  lib = import (fetched + "/nixpkgs.lib/lib");
  platform = lib.systems.elaborate pkgs.system;
  inherit (pkgs.stdenv) mkDerivation;

  programs =
    name: files:
    mkDerivation {
      inherit name;
      buildCommand = ''
        mkdir -p $out/bin
        ${lib.concatMapStrings (file: "ln -s ${file} $out/bin/\n") files}
      '';
    };
  host = name: programs name [ "$(type -P ${name} || echo /nowhere/${name})" ];

  runCommand =
    name: attributes: script:
    mkDerivation (
      attributes
      // {
        inherit name;
        buildCommand = script;
        passAsFile = [ "buildCommand" ] ++ attributes.passAsFile or [ ];
        nativeBuildInputs = attributes.nativeBuildInputs or [ ] ++ attributes.depsBuildBuild or [ ];
      }
    );

  final = pkgs // {
    inherit lib runCommand;
    pkgs = final;
    runCommandLocal = runCommand;
    writeText =
      name: text:
      runCommand name {
        inherit text;
        passAsFile = [ "text" ];
      } ''cp "$textPath" $out'';
    makeSetupHook =
      {
        name,
        substitutions ? { },
        ...
      }:
      file:
      runCommand name { } ''
        mkdir -p $out/nix-support
        cp ${
          builtins.toFile name (
            builtins.replaceStrings (map (key: "@${key}@") (builtins.attrNames substitutions)) (map toString (
              builtins.attrValues (builtins.mapAttrs (_: value: builtins.unsafeDiscardStringContext (toString value)) substitutions)
            )) (builtins.readFile file)
          )
        } $out/nix-support/setup-hook
        # What it names has to be there.
        : ${toString (builtins.attrValues substitutions)}
      '';
    stdenv = pkgs.stdenv // {
      buildPlatform = platform;
      hostPlatform = platform;
      targetPlatform = platform;
    };
    rsync = host "rsync";
    jq = host "jq";
    git = host "git";
    # crane's own tools; its expression wants nixpkgs' builder of Rust programs.
    crane-utils = programs "crane-utils" [
      "${toString fetched}/target/release/crane-json2toml"
      "${toString fetched}/target/release/crane-resolve-workspace-inheritance"
    ];
    rustPlatform.buildRustPackage = _: final.crane-utils;
    writableTmpDirAsHomeHook = null;

    newScope = extra: lib.callPackageWith (final // extra);
    callPackage = final.newScope { };
    splicePackages = splices: splices.pkgsHostTarget;
    makeScopeWithSplicing' = lib.makeScopeWithSplicing' { inherit (final) splicePackages newScope; };
    pkgsBuildBuild = final;
    pkgsBuildHost = final;
    pkgsBuildTarget = final;
    pkgsHostHost = final;
    pkgsHostTarget = final;
    pkgsTargetTarget = final;
  };
in
{
  pkgs = final;
  craneLib = import (fetched + "/crane") { pkgs = final; };
}
