# The same for the vendored sources, which programs name in the messages of panics too.
removeReferencesToVendoredSources() {
  local output="${1:-$out}"
  local vendored="${2:-${cargoVendorDir:?is not set}}"
  [ -d "$output" ] || return 0
  local hash
  # The directory, and what it links to where another tool made it.
  { echo "$vendored"; find "$vendored" -maxdepth 2 -type l -exec readlink {} +; } |
    sed -n 's|^@storeDir@/\([0-9a-z]\{32\}\)-.*|\1|p' | sort -u | while IFS= read -r hash; do
      echo "s|@storeDir@/$hash-|@storeDir@/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g"
    done >"$NIX_BUILD_TOP/.vendor-references.sed"
  find "$output" -type f -print0 | xargs -0 -r sed -i -f "$NIX_BUILD_TOP/.vendor-references.sed"
}

if [ -z "${doNotRemoveReferencesToVendorDir-}" ] && [ -n "${cargoVendorDir-}" ]; then
  postInstallHooks+=(removeReferencesToVendoredSources)
fi
