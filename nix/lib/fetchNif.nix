# A NIF that was published, by the lock file that `cargo nixcache nif lock` writes: nobody compiles Rust.
#
#   fetchNif { lock = ./nixcache.lock; nif = "demo_nif"; caches = [ "https://cache.example" ]; }
#   fetchNif { …; layout = "precompiled"; }      a directory for RUSTLER_PRECOMPILED_GLOBAL_CACHE_PATH
{
  internal,
  stdenv,
  fetchOutput,
}:
{
  lock,
  nif,
  caches,
  nifVersion ? null,
  target ? null,
  variant ? null,
  # "output" is what `cargo nixcache nif publish` made: `priv/native/<crate>.so`, and the names that other tools look
  # for. "precompiled" are the archives of all variants and NIF versions, of which RustlerPrecompiled takes its own.
  layout ? "output",
}:
let
  inherit (internal) text;
  parsed = internal.nixcacheLock lock;
  known = parsed.nif or { };
  entry =
    known.${nif} or (throw ''
      nixcache: ${toString lock} has no NIF `${nif}`. It has: ${builtins.concatStringsSep ", " (builtins.attrNames known)}.
      Add it: `cargo nixcache nif lock`.
    '');
  targets = {
    x86_64-linux = "x86_64-unknown-linux-gnu";
    aarch64-linux = "aarch64-unknown-linux-gnu";
    x86_64-darwin = "x86_64-apple-darwin";
    aarch64-darwin = "aarch64-apple-darwin";
  };
  system = stdenv.hostPlatform.system;
  wanted =
    if target != null then
      target
    else
      targets.${system} or (throw "nixcache: say which `target` of the NIF `${nif}` is for ${system}.");
  fits =
    file:
    file.target == wanted
    && file.variant or null == variant
    && (nifVersion == null || file.nif-version == nifVersion);
  # The oldest interface where none is named, as the command line takes: every newer Erlang loads it.
  fitting = builtins.sort (a: b: builtins.compareVersions a.nif-version b.nif-version < 0) (
    builtins.filter fits entry.files
  );
  describe =
    file: "${file.target} ${file.nif-version}${text.optionalString (file ? variant) " ${file.variant}"}";
  file =
    if fitting == [ ] then
      throw ''
        nixcache: ${toString lock} has no `${nif}` for ${wanted}${text.optionalString (nifVersion != null) ", NIF ${nifVersion}"}.
        It has: ${builtins.concatStringsSep "; " (map describe entry.files)}.
        Publish it for that system, then write the lock file anew: `cargo nixcache nif lock`.
      ''
    else
      builtins.head fitting;
  output = fetchOutput {
    inherit (file) path;
    narHash = file.nar-hash;
    inherit caches;
  };
  archive =
    file:
    fetchOutput {
      path = file.archive-path;
      narHash = file.archive-nar-hash;
      inherit caches;
    };
  ofTarget = builtins.filter (file: file.target == wanted) entry.files;
  archives = stdenv.mkDerivation {
    name = "nif-archives-${nif}";
    preferLocalBuild = true;
    # Something that fits must be there, or RustlerPrecompiled would go and ask the network.
    buildCommand = builtins.seq file ''
      mkdir -p "$out"
      ${builtins.concatStringsSep "\n" (map (file: ''ln -s ${archive file} "$out/${file.archive}"'') ofTarget)}
    '';
  };
in
if layout == "output" then
  output
else if layout == "precompiled" then
  archives
else
  throw ''
    nixcache: the layout of a NIF is "output" or "precompiled", and not "${layout}".
  ''
