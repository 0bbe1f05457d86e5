# Reads `nixcache.lock`, as `cargo nixcache` writes it.
{ }:
file:
let
  parsed =
    if builtins.pathExists file then
      builtins.fromTOML (builtins.unsafeDiscardStringContext (builtins.readFile file))
    else
      throw ''
        nixcache: there is no ${toString file}.
        Make it with `cargo nixcache nix lock` (or `cargo nixcache nif lock`), and let git know it: `git add -N nixcache.lock`.
      '';
in
if parsed.version or 0 == 1 then
  parsed
else
  throw ''
    nixcache: ${toString file} is of version ${toString (parsed.version or "none")}, and this helper knows 1.
    Take the helper and `cargo nixcache` from one release, and write the file anew: `cargo nixcache nix lock`.
  ''
