# Fills the target directory ($2) with what another derivation built ($1): a directory with `target.tar.zst` or `target`,
# or such a file or directory itself. An archive that goes on where another ended has a link to that one beside it,
# `target.tar.zst.prev`.
inheritCargoArtifacts() {
  local from="${1:-${cargoArtifacts:?is not set}}"
  local target="${2:-${CARGO_TARGET_DIR:-target}}"
  if [ -f "$from/target.tar.zst" ]; then
    from="$from/target.tar.zst"
  elif [ -d "$from/target" ]; then
    from="$from/target"
  fi
  mkdir -p "$target"
  if [ -f "$from" ]; then
    if [ -e "$from.prev" ]; then
      inheritCargoArtifacts "$(realpath "$from.prev")" "$target"
    fi
    echo "unpacking what $from holds into $target"
    zstd --decompress --stdout --quiet "$from" | tar -x -C "$target"
  elif [ -d "$from" ]; then
    echo "copying $from to $target"
    # Links into the store become files: cargo writes to some.
    cp -r --dereference --preserve=timestamps --no-target-directory "$from" "$target"
    chmod -R u+w "$target"
    # Cargo takes a lock of long ago for one that it can't write.
    find "$target" -name '.cargo*lock' -delete
  else
    echo "error: cargoArtifacts is $from, where there is neither target.tar.zst nor target" >&2
    return 1
  fi
  # What is built on top is what differs from this.
  noteTargetFiles "$target" "$NIX_BUILD_TOP/.nixcache-inherited${target//\//%}"
}

# After patching: so everything that is restored is newer than a source that was patched.
if [ -n "${cargoArtifacts-}" ]; then
  postPatchHooks+=(inheritCargoArtifacts)
fi
