# Puts what the derivations of other members built on top of the dependencies, and leaves what this one adds.

inheritMemberLayers() {
  local target="${CARGO_TARGET_DIR:-target}" layer
  mkdir -p "$target"
  for layer in ${memberLayers-}; do
    if [ -f "$layer/layer.tar.zst" ]; then
      echo "unpacking what $layer holds into $target"
      zstd --decompress --stdout --quiet "$layer/layer.tar.zst" | tar -x -C "$target"
    fi
  done
  noteTargetFiles "$target" "$NIX_BUILD_TOP/.nixcache-before-member"
}

# All that was not inherited. Final files have other names, and are in the other output.
installMemberLayer() {
  local target="${CARGO_TARGET_DIR:-target}"
  mkdir -p "$layer"
  changedTargetFiles "$target" "$NIX_BUILD_TOP/.nixcache-before-member" |
    { grep --null-data --invert-match -e '/incremental/' -e '/\.cargo[^/]*lock$' || true; } |
    tar --create --directory="$target" --mtime=@1 --owner=0 --group=0 --numeric-owner --mode=u+w --null \
      --no-recursion --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --files-from=- |
    zstd --quiet "-T${NIX_BUILD_CORES:-0}" -o "$layer/layer.tar.zst"
}

if [ -n "${memberLayers-}${layer-}" ]; then
  # After inheritCargoArtifacts, which is a hook of patching.
  preConfigureHooks+=(inheritMemberLayers)
fi
if [ -n "${layer-}" ]; then
  # Before the check phase builds tests, which no other member needs.
  postBuildHooks+=(installMemberLayer)
fi
