# Leaves the units that this derivation built. They are those of its store, which restoreHook sets up.
collectUnits() {
  command cargo-nixcache nixcache --store "$NIXCACHE_STORE" nix export \
    --out "${units:?the derivation has no output named units}" --without "$nixcacheImported"
}

preInstallHooks+=(collectUnits)
