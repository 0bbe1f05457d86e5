# Programs name the standard library's sources in the messages of panics. That alone would make the toolchain a part of
# what they need to run.
removeReferencesToRustToolchain() {
  local output="${1:-$out}"
  local sysroot hash
  sysroot="$(rustc --print sysroot)"
  hash="$(realpath "$sysroot" | sed -n 's|^@storeDir@/\([0-9a-z]\{32\}\)-.*|\1|p')"
  if [ -n "$hash" ] && [ -d "$output" ]; then
    find "$output" -type f -print0 | xargs -0 -r sed -i "s|@storeDir@/$hash-|@storeDir@/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g"
  fi
}

if [ -z "${doNotRemoveReferencesToRustToolchain-}" ]; then
  postInstallHooks+=(removeReferencesToRustToolchain)
fi
