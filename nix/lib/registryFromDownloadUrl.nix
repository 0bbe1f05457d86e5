# A registry for `appendCrateRegistries`: the URL of its index, and `dl` as in the index's config.json.
{ internal }:
{
  indexUrl,
  dl,
  # More arguments for `fetchurl`, for registries that want to know who asks.
  fetchurlExtraArgs ? { },
}:
let
  inherit (internal) text;
  hasMarker = builtins.match ".*\\{(crate|version|prefix|lowerprefix|sha256-checksum)}.*" dl != null;
in
{
  ${if text.hasPrefix "sparse+" indexUrl then indexUrl else "registry+${indexUrl}"} = {
    downloadUrl = if hasMarker then dl else "${dl}/{crate}/{version}/download";
    inherit fetchurlExtraArgs;
  };
}
