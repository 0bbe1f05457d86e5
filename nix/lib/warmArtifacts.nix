# The built units that a committed lock file names, for derivations that build dependencies:
#
#   buildWorkspace { src = ./.; warmArtifacts = warmArtifacts { lock = ./nixcache.lock; caches = [ "https://…" ]; }; }
#
# Each record is a store path of its own, by its content: it is fetched once, kept as long as something needs it, and
# needs nobody's key. What the lock file doesn't name is compiled. A crate that was bumped is one that it doesn't name.
{
  internal,
  stdenv,
  fetchOutput,
  restoreHook,
}:
{
  lock,
  # Where the contents are, beside Nix's own substituters.
  caches,
  # Which selections of the lock file are wanted; all of them where nothing is said.
  selections ? null,
  system ? stdenv.hostPlatform.system,
}:
let
  inherit (internal) text;
  parsed = internal.nixcacheLock lock;
  systems = parsed.units or { };
  ofSystem =
    systems.${system} or (throw ''
      nixcache: ${toString lock} has no units for ${system}. It has some for: ${builtins.concatStringsSep ", " (builtins.attrNames systems)}.
      Run `cargo nixcache nix lock` on a machine of that system, and commit the file.
    '');
  names = if selections == null then builtins.attrNames ofSystem else selections;
  selection =
    name:
    ofSystem.${name} or (throw ''
      nixcache: ${toString lock} has no selection `${name}` for ${system}. It has: ${builtins.concatStringsSep ", " (builtins.attrNames ofSystem)}.
      Add it: `cargo nixcache nix lock -- ${name}`.
    '');
  records = builtins.concatMap (name: (selection name).records or [ ]) names;
  # Selections share most of their records.
  distinct = builtins.attrValues (
    builtins.listToAttrs (
      map (record: {
        name = record.path;
        value = record;
      }) records
    )
  );
  paths = map (
    record:
    fetchOutput {
      inherit (record) path;
      narHash = record.nar-hash;
      keyPath = record.key-path;
      inherit caches;
    }
  ) distinct;
  list = internal.runScript "warm-artifacts" {
    paths = text.lines paths + "\n";
    passAsFile = [ "paths" ];
  } ''cp "$pathsPath" $out'';
in
{
  inherit paths list;
  hooks = [ (restoreHook { inherit list; }) ];
}
