# Leaves the target directory ($2) in the output ($1), so that another derivation can go on from it. What came from
# elsewhere ($4) is not packed again, it is linked to.

# Every file that is packed has this time.
nixcacheEpoch=1

installCompressedArtifacts() {
  local output="$1" target="$2" previous="$3"
  local archive="$output/target.tar.zst"
  # What inheritCargoArtifacts left in this directory. Where nothing is known of that, all of it is packed.
  local note="$NIX_BUILD_TOP/.nixcache-inherited${target//\//%}"
  mkdir -p "$output"
  if [ ! -d "$target" ]; then
    echo "there is no $target to install"
    return
  fi
  local -a pack=(
    tar --create --sort=name "--mtime=@$nixcacheEpoch" --owner=0 --group=0 --numeric-owner --mode=u+w
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
  )
  if [ -n "$previous" ] && [ -f "$note" ] && [ -z "${doCompressAndInstallFullArchive-}" ] &&
    [ "$(uname -s)" != Darwin ]; then
    ln -s "$previous" "$archive.prev"
    changedTargetFiles "$target" "$note" | "${pack[@]}" -C "$target" --null --no-recursion --files-from=-
  else
    "${pack[@]}" -C "$target" .
  fi | zstd --quiet "-T${NIX_BUILD_CORES:-0}" -o "$archive" ${zstdCompressionExtraArgs:-}
  echo "installed the target directory as $archive"
}

installLinkedArtifacts() {
  local output="$1" target="$2" previous="$3"
  mkdir -p "$output"
  if [ -d "$previous" ]; then
    local file name
    while IFS= read -r -d '' file; do
      name="${file#"$target"/}"
      if cmp --silent "$previous/$name" "$file"; then
        ln --symbolic --force "$previous/$name" "$file"
      fi
    done < <(find "$target" -type f -print0)
  fi
  mv "$target" "$output/target"
}

prepareAndInstallCargoArtifactsDir() {
  local output="${1:-$out}"
  local target="${2:-${CARGO_TARGET_DIR:-target}}"
  local mode="${3:-${installCargoArtifactsMode:-use-zstd}}"
  local previous="${4:-${cargoArtifacts-}}"
  case "$mode" in
    use-zstd)
      if [ -f "$previous/target.tar.zst" ]; then
        previous="$previous/target.tar.zst"
      elif [ ! -f "$previous" ]; then
        # A directory can't be gone on from: all of it is packed.
        previous=
      fi
      installCompressedArtifacts "$output" "$target" "$previous"
      ;;
    use-symlink) installLinkedArtifacts "$output" "$target" "$previous/target" ;;
    *)
      echo "error: installCargoArtifactsMode is '$mode'; it can be use-zstd or use-symlink" >&2
      return 1
      ;;
  esac
}

if [ "${doInstallCargoArtifacts-}" = 1 ]; then
  postInstallHooks+=(prepareAndInstallCargoArtifactsDir)
fi
