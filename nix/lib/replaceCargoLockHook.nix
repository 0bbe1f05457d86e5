# Puts `cargoLock` in the place of the workspace's lock file.
{ internal }:
internal.mkHook {
  name = "replace-cargo-lock-hook";
  file = ../hooks/replace-lock.sh;
}
