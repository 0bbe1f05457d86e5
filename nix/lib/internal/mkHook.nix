# A setup hook from a shell file. `tools` are put at the end of PATH, `values` in place of `@name@` in the file. `before`
# are files of functions that it calls.
{ internal }:
{
  name,
  file,
  before ? [ ],
  tools ? [ ],
  values ? { },
}:
let
  inherit (internal) text;
  names = builtins.attrNames values;
  script = builtins.replaceStrings (map (key: "@${key}@") names) (map (key: toString values.${key}) names) (
    builtins.concatStringsSep "\n" (map builtins.readFile (before ++ [ file ]))
  );
  path = builtins.concatStringsSep "" (map (tool: ":${tool}/bin") tools);
in
internal.runScript name
  {
    inherit script;
    passAsFile = [ "script" ];
  }
  ''
    mkdir -p $out/nix-support
    {
      ${text.optionalString (tools != [ ]) ''echo 'export PATH="$PATH${path}"' ''}
      cat "$scriptPath"
    } >$out/nix-support/setup-hook
  ''
