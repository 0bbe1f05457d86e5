# For `buildWorkspace`: what members' derivations hand on to each other.
{ internal, zstd }:
internal.mkHook {
  name = "member-layers-hook";
  file = ../hooks/member-layers.sh;
  before = [ ../hooks/changed-files.sh ];
  tools = [ zstd ];
}
