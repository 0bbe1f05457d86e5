# Forgets what was built of a skeleton's own packages. Cargo knows a member's sources by their times, and all files of
# the store have the same: it would take the stubs' output for the members'.
forgetStubs() {
  local target="${1:-${CARGO_TARGET_DIR:-target}}"
  [ -d "$target" ] || return 0
  local name crate hash='[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
  while IFS= read -r name; do
    case " ${cargoKeptPackages-} " in *" $name "*) continue ;; esac
    crate="${name//-/_}"
    # Fingerprints and scripts of the older layout, and the directory of the newer one, which has all of them.
    find "$target" -depth \( \
      -path "*/.fingerprint/$name-$hash" -o -path "*/build/$name-$hash" \
      -o -path "*/build/$name/$hash" \
      -o -path "*/deps/$crate-$hash*" -o -path "*/deps/lib$crate-$hash*" -o -path "*/deps/$crate.*" -o -path "*/deps/lib$crate.*" \
      \) -exec rm -rf {} +
  done < <(
    # The name in the table `package` of every manifest of the workspace.
    find . -path "./$target" -prune -o -name Cargo.toml -print | while IFS= read -r manifest; do
      awk '/^\[/ { table = $0 } table == "[package]" && /^name *=/ { split($0, part, "\""); print part[2] }' "$manifest"
    done | sort -u
  )
}

preInstallHooks+=(forgetStubs)
