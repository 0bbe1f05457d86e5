# Fills the target directory with `cargoArtifacts`.
{ internal, zstd }:
internal.mkHook {
  name = "inherit-cargo-artifacts-hook";
  file = ../hooks/inherit-artifacts.sh;
  before = [ ../hooks/changed-files.sh ];
  tools = [ zstd ];
}
