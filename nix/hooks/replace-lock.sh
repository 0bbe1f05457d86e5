# Puts another lock file in the place of the workspace's.
replaceCargoLock() {
  cp --no-preserve=mode "${1:-${cargoLock:?is not set}}" Cargo.lock
}

if [ -n "${cargoLock-}" ] && [ -z "${doNotReplaceCargoLock-}" ]; then
  prePatchHooks+=(replaceCargoLock)
fi
