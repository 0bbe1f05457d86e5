# A store path by its content: from a cache, without a trusted key, because its hash is in its name.
#
#   fetchOutput { path = "/nix/store/…-app-1.0.0"; narHash = "sha256-…"; url = "https://cache.example/nar/….nar"; }
#   fetchOutput { path = …; narHash = …; caches = [ "https://cache.example" ]; }
#
# With `url`, Nix itself downloads: the URL must be of a plain `.nar` (our server offers `/nar/<hash>.nar`) or a `.nar.xz`.
# With `caches`, `cargo nixcache` downloads, from every kind of cache that it knows, by `keyPath` (the name under which
# the content was published; `path` itself where nothing else is said).
{
  internal,
  stdenv,
  cargo-nixcache,
  cacert,
}:
{
  path,
  narHash,
  keyPath ? path,
  url ? null,
  caches ? [ ],
}:
let
  inherit (internal) text;
  base = baseNameOf path;
  name = builtins.substring 33 (builtins.stringLength base) base;
  system = stdenv.hostPlatform.system;

  byNix = derivation {
    inherit name url;
    system = "builtin";
    builder = "builtin:fetchurl";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = narHash;
    unpack = true;
    executable = false;
    preferLocalBuild = true;
  };

  byUs = stdenv.mkDerivation {
    inherit name;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = narHash;
    preferLocalBuild = true;
    nativeBuildInputs = [ cargo-nixcache ];
    SSL_CERT_FILE = "${cacert}/etc/ssl/certs/ca-bundle.crt";
    impureEnvVars = [
      "http_proxy"
      "https_proxy"
      "all_proxy"
      "no_proxy"
      "NETRC"
    ];
    buildCommand = ''
      cargo-nixcache nixcache nix fetch ${text.shellArgument keyPath} --nar-hash ${narHash} --out "$out" \
        ${builtins.concatStringsSep " " (map (cache: "--from ${text.shellArgument cache}") caches)}
    '';
  };

  result = if url != null then byNix else byUs;
in
if builtins.match "[0-9a-z]{32}-.+" base == null then
  throw "nixcache: fetchOutput is given ${path}, which is no store path."
else if url == null && caches == [ ] then
  throw ''
    nixcache: fetchOutput has nowhere to take ${base} from.
    Give `url = "https://…/nar/….nar"` or `caches = [ "https://…" ]`.
  ''
else if builtins.storeDir == "/nix/store" && result.outPath != path then
  throw ''
    nixcache: the content ${narHash} has the path ${result.outPath}, and ${path} was asked for.
    One of the two is of another version. Write the lock file anew: `cargo nixcache nix lock`.
  ''
else
  result
