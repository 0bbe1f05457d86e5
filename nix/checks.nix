# What `nix flake check` builds: nothing that compiles Rust.
{ nixcacheLib }:
let
  inherit (nixcacheLib.internal) runScript;
  cases = builtins.attrNames (builtins.readDir ./checks/skeleton);
  compare =
    name:
    let
      skeleton = nixcacheLib.mkDummySrc { src = ./checks/skeleton + "/${name}/input"; };
    in
    {
      name = "skeleton-${name}";
      value = runScript "skeleton-${name}" { } ''
        diff --recursive --unified ${./checks/skeleton + "/${name}/expected"} ${skeleton}
        touch $out
      '';
    };
in
builtins.listToAttrs (map compare cases)
// {
  functions =
    let
      failed = import ./checks/functions.nix { inherit nixcacheLib; };
    in
    if failed == [ ] then
      runScript "functions" { } "touch $out"
    else
      throw "nixcache: these are not as expected: ${builtins.concatStringsSep ", " failed}";
}
