# Leaves the target directory in the output where `doInstallCargoArtifacts` is set.
{ internal, zstd }:
internal.mkHook {
  name = "install-cargo-artifacts-hook";
  file = ../hooks/install-artifacts.sh;
  before = [ ../hooks/changed-files.sh ];
  tools = [ zstd ];
}
