# Puts built units in place inside a derivation, without a network: `cargo` becomes `cargo nixcache` with a store of the
# derivation's own, filled with the records that `list` names (a file of store paths, as `warmArtifacts` makes it) and
# with those in the directories `units` (outputs of derivations with collectHook).
{ internal, cargo-nixcache }:
{
  list ? null,
  units ? [ ],
}:
internal.mkHook {
  name = "restore-hook";
  file = ../hooks/restore.sh;
  tools = [ cargo-nixcache ];
  values = {
    warmList = if list == null then "" else list;
    units = builtins.concatStringsSep " " (map toString units);
  };
}
