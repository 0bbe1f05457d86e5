# A program for Nix's `post-build-hook`: copies what was built to a cache, in the background, signed. It never fails a build
# and never makes one wait: without a network, paths stay in a list, and the next build tries them again.
#
#   nix.settings.post-build-hook = postBuildHook { to = "https://cache.example"; secretKeyFile = "/etc/nix/key"; };
{ internal, pkgs }:
{
  # Where to, as `nix copy --to` takes it.
  to,
  secretKeyFile ? null,
  # Where paths wait.
  queue ? "/var/lib/nixcache/post-build-queue",
  nix ? pkgs.nix or null,
}:
let
  inherit (internal) text;
  script = builtins.readFile ../hooks/post-build.sh;
  values = {
    to = text.shellArgument to;
    key = text.shellArgument (if secretKeyFile == null then "" else secretKeyFile);
    queue = text.shellArgument queue;
    nix = if nix == null then "" else "${nix}/bin:";
  };
  names = builtins.attrNames values;
in
internal.runScript "post-build-hook" {
  script = builtins.replaceStrings (map (name: "@${name}@") names) (map (name: values.${name}) names) script;
  passAsFile = [ "script" ];
} ''cp "$scriptPath" $out && chmod +x $out''
