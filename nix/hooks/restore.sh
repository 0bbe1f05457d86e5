# Every cargo of this derivation restores what is known first.
restoreUnits() {
  export NIXCACHE_STORE="${NIXCACHE_STORE:-$NIX_BUILD_TOP/.nixcache-store}"
  relocateVendoredSources
  # What is known: a list of records, and directories of them.
  nixcacheImported="$NIX_BUILD_TOP/.nixcache-imported"
  local directory
  {
    if [ -n "@warmList@" ]; then cat "@warmList@"; fi
    for directory in @units@; do find "$directory" -mindepth 1 -maxdepth 1 -type d; done
  } >"$nixcacheImported"
  if [ -s "$nixcacheImported" ]; then
    command cargo-nixcache nixcache nix import --list "$nixcacheImported"
  fi
  # In place of the helper of the same name. Nothing is fetched or published from inside a derivation, whatever the
  # workspace's configuration says.
  cargo() {
    case "${1-}" in
      build | check | test | clippy | rustc | bench | run | nextest)
        (
          # Nixpkgs sets it for archives. Compilers read it too, so it is an input of what they make, and nobody has it
          # set outside of derivations.
          unset SOURCE_DATE_EPOCH
          set -x
          command cargo nixcache --offline "$@"
        )
        ;;
      *)
        (
          set -x
          command cargo "$@"
        )
        ;;
    esac
  }
}

# Puts the vendored sources where cargo unpacks what it downloads: then a unit is the same one inside of derivations and
# outside, and what it says of its sources is right in both.
relocateVendoredSources() {
  local config="$CARGO_HOME/config.toml" vendored sources package
  [ -f "$config" ] || return 0
  vendored="$(awk -F'"' '
    /^\[/ { section = $0; gsub(/[]["]/, "", section) }
    section == "source.crates-io" && /^replace-with/ { wanted = "source." $2 }
    /^directory/ { directory[section] = $2 }
    END { print directory[wanted] }' "$config")"
  [ -d "$vendored" ] || return 0
  # Cargo's name for crates.io, since 1.85.
  sources="$CARGO_HOME/registry/src/index.crates.io-1949cf8c6b5b557f"
  mkdir -p "$sources"
  cp -r --dereference --preserve=timestamps --reflink=auto "$vendored/." "$sources/"
  chmod -R u+w "$sources"
  for package in "$sources"/*/; do
    # Cargo's mark of a package that was unpacked whole.
    echo '{"v":1}' >"$package/.cargo-ok"
  done
  sed -i "s|\"$vendored\"|\"$sources\"|" "$config"
}

preBuildHooks+=(restoreUnits)
