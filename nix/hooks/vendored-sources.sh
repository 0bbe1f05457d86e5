# Points cargo to vendored sources ($1), in a configuration file ($2). In cargo's home, not in the workspace: a project
# that replaces sources itself keeps the last word.
configureCargoVendoredDeps() {
  local vendored="${1:-${cargoVendorDir:?is not set}}"
  local config="${2:-${CARGO_HOME:?is not set}/config.toml}"
  if [ -f "$vendored/config.toml" ]; then
    cat "$vendored/config.toml" >>"$config"
  else
    printf '[source.crates-io]\nreplace-with = "vendored-sources"\n[source.vendored-sources]\ndirectory = "%s"\n' \
      "$vendored" >>"$config"
  fi
}

if [ -n "${cargoVendorDir-}" ]; then
  preConfigureHooks+=(configureCargoVendoredDeps)
fi
