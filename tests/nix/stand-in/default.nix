# The few packages of nixpkgs that the flake helper names, over the programs of this machine: derivations that link to
# them, and a builder with the phases and hooks of nixpkgs' own. `host.nix`, which the tests write, says where the
# machine has its programs.
{
  system ? builtins.currentSystem,
  overlays ? [ ],
}:
let
  host = import ./host.nix;
  derivationOf =
    attributes:
    derivation (
      {
        inherit system;
        builder = "/bin/bash";
        args = [
          "-e"
          ./builder.sh
        ];
        PATH = host.path;
        outputs = [ "out" ];
      }
      // attributes
    );

  mkDerivation =
    given:
    let
      plain = builtins.removeAttrs given [
        "env"
        "meta"
        "passthru"
      ];
      drv = derivationOf (
        {
          name = given.name or "${given.pname}-${given.version}";
          setup = ./setup.sh;
        }
        // plain
        // given.env or { }
      );
    in
    drv
    // given.passthru or { }
    // {
      meta = given.meta or { };
      overrideAttrs = change: mkDerivation (given // (if builtins.isFunction change then change given else change));
    };

  # A package whose bin directory has links to programs of the machine.
  programs =
    name: paths:
    mkDerivation {
      inherit name paths;
      buildCommand = ''
        mkdir -p $out/bin
        for path in $paths; do ln -s "$path" $out/bin/; done
      '';
    };

  toolchain =
    name: tools:
    programs name (
      map (tool: "${host.toolchain}/bin/${tool}") (
        builtins.filter (tool: builtins.pathExists (/. + "${host.toolchain}/bin/${tool}")) tools
      )
    );

  packages = final: {
    inherit system;
    stdenv = {
      inherit mkDerivation;
      hostPlatform = {
        inherit system;
      };
    };
    cargo = programs "cargo" [ "${host.toolchain}/bin/cargo" ];
    rustc = programs "rustc" [
      (host.rustc or "${host.toolchain}/bin/rustc")
      "${host.toolchain}/bin/rustdoc"
    ];
    clippy = programs "clippy" [
      "${host.toolchain}/bin/cargo-clippy"
      "${host.toolchain}/bin/clippy-driver"
    ];
    rustfmt = programs "rustfmt" [
      "${host.toolchain}/bin/cargo-fmt"
      "${host.toolchain}/bin/rustfmt"
    ];
    cargo-nextest = programs "cargo-nextest" [ host.cargo-nextest ];
    cargo-nixcache = programs "cargo-nixcache" [ host.cargo-nixcache ];
    zstd = programs "zstd" [ host.zstd ];
    curl = programs "curl" [ host.curl ];
    cacert = mkDerivation {
      name = "cacert";
      buildCommand = "mkdir -p $out/etc/ssl/certs; touch $out/etc/ssl/certs/ca-bundle.crt";
    };
    fetchurl =
      {
        name ? baseNameOf url,
        url,
        sha256,
        postFetch ? "",
      }:
      derivationOf {
        inherit name url postFetch;
        args = [
          "-ec"
          ''
            curl --fail --silent --show-error --location "$url" --output "$out"
            eval "$postFetch"
            exit 0
          ''
        ];
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = sha256;
        preferLocalBuild = true;
      };
    mkShell =
      given:
      mkDerivation (
        builtins.removeAttrs given [
          "inputsFrom"
          "packages"
        ]
        // {
          name = "shell";
          nativeBuildInputs =
            given.packages or [ ] ++ builtins.concatMap (from: from.nativeBuildInputs or [ ]) (given.inputsFrom or [ ]);
          buildCommand = "export >$out";
        }
      );
    lib.fileset = import ./fileset.nix;
  };

  extend =
    layers:
    let
      final = builtins.foldl' (previous: layer: previous // layer final previous) (packages final) layers;
    in
    final // { appendOverlays = more: extend (layers ++ more); extend = overlay: extend (layers ++ [ overlay ]); };
in
extend overlays
