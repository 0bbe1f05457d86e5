# Outputs don't need the toolchain to run.
{ internal }:
internal.mkHook {
  name = "remove-references-to-rust-toolchain-hook";
  file = ../hooks/remove-toolchain-references.sh;
  values.storeDir = builtins.storeDir;
}
