# The parts that need no derivation: a list of what is not as expected.
{ nixcacheLib }:
let
  inherit (nixcacheLib.internal) paths text toml glob;
  same = actual: expected: actual == expected;
  throws = value: !(builtins.tryEval (builtins.deepSeq value value)).success;
  roundTrip = value: builtins.fromTOML (toml value) == value;
  example = ./skeleton/workspace/input;

  cases = {
    "a path below the root" = same (paths.join "crates/app" "../model") "crates/model";
    "a path out of the root" = same (paths.join "crates" "../../model") null;
    "a path with dots" = same (paths.join "" "./a//b/.") "a/b";
    "a suffix" = same (text.removeSuffix ".rs" "main.rs") "main";
    "a quoted argument" = same (text.shellArgument "it's") "'it'\\''s'";
    "a text with what TOML escapes" = roundTrip { a = "\"\\\n\t"; };
    "numbers" = roundTrip {
      whole = 3;
      fraction = 1.5;
      even = 2.0;
    };
    "nested tables" = roundTrip {
      a.b.c = [ { d = 1; } ];
      list = [ { x = 1; } { y = [ ]; } ];
      "key with spaces" = { };
      target."cfg(unix)".dependencies.libc = "0.2";
    };
    "members by a pattern" = same (glob.match example "crates/*") [
      "crates/app"
      "crates/excluded"
      "crates/library"
      "crates/macros"
      "crates/native"
      "crates/no-manifest"
    ];
    "members by a set of characters" = same (glob.match example "crates/[am]*") [
      "crates/app"
      "crates/macros"
    ];
    "a name and a version" = same (nixcacheLib.crateNameFromCargoToml { src = example + "/crates/app"; }) {
      pname = "app";
      version = "0.0.1";
    };
    "a name that is given for Nix" =
      same
        (nixcacheLib.crateNameFromCargoToml {
          cargoTomlContents = ''
            [workspace.package]
            version = "1.2.3"
            [workspace.metadata.crane]
            name = "all"
          '';
        })
        {
          pname = "all";
          version = "1.2.3";
        };
    "no manifest" = throws (nixcacheLib.crateNameFromCargoToml { src = example + "/crates/no-manifest"; });
    "no lock file" = throws (nixcacheLib.vendorCargoDeps { src = example + "/crates/app"; }).drvPath;
    "Rust files are kept" = nixcacheLib.filterCargoSources "/x/src/main.rs" "regular";
    "cargo's old configuration is kept" = nixcacheLib.filterCargoSources "/x/.cargo/config" "regular";
    "other files are not kept" = !(nixcacheLib.filterCargoSources "/x/README.md" "regular");
    "a cache without a key" = throws (nixcacheLib.cacheConfig { url = "https://x"; });
    "a cache" = same (nixcacheLib.cacheConfig {
      url = "https://x";
      publicKey = "x-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    }).nixos.substituters [ "https://x" ];
    "a store path by its content" = throws (
      nixcacheLib.fetchOutput {
        path = "/tmp/x";
        narHash = "sha256-AAAA";
        caches = [ "https://x" ];
      }
    );
    "an overridden tool" =
      same ((nixcacheLib.overrideScope (_: _: { cargo = "mine"; })).internal.text.hasPrefix "a" "ab") true;
    "an overridden toolchain" = same (nixcacheLib.overrideToolchain "mine").rustc "mine";
  };
in
builtins.filter (name: !cases.${name}) (builtins.attrNames cases)
