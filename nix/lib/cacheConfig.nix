# The settings that make a cache known, for each place that wants them:
#
#   cacheConfig { url = "https://cache.example"; publicKey = "cache.example-1:…"; }
#     .nixConfig      for `nixConfig` of a flake
#     .nixos          for `nix.settings` of NixOS and nix-darwin
#     .nixConf        lines of nix.conf, for CI
#     .environment    variables of `cargo nixcache`
{ }:
{
  url ? null,
  publicKey ? null,
  caches ? [ { inherit url publicKey; } ],
}:
let
  checked = map (
    cache:
    if cache.url or null == null || cache.publicKey or null == null then
      throw "nixcache: cacheConfig needs `url` and `publicKey` of each cache: `cargo nixcache key public` shows the key."
    else if builtins.match "[^:[:space:]]+:[A-Za-z0-9+/]{43}=" cache.publicKey == null then
      throw "nixcache: `${cache.publicKey}` is no public key. It looks like `cache.example-1:` and 44 characters of base64."
    else
      cache
  ) caches;
  urls = map (cache: cache.url) checked;
  keys = map (cache: cache.publicKey) checked;
in
{
  nixConfig = {
    extra-substituters = urls;
    extra-trusted-public-keys = keys;
  };
  nixos = {
    substituters = urls;
    trusted-public-keys = keys;
  };
  nixConf = ''
    extra-substituters = ${builtins.concatStringsSep " " urls}
    extra-trusted-public-keys = ${builtins.concatStringsSep " " keys}
  '';
  environment = {
    NIXCACHE_CACHES = builtins.concatStringsSep " " urls;
    NIXCACHE_TRUSTED_KEYS = builtins.concatStringsSep " " keys;
  };
}
