# The patterns of `[workspace] members`: `*`, `?` and `[…]` within a name, `**` over any number of directories.
let
  text = import ./text.nix;

  hasMagic = part: builtins.match ".*[*?[].*" part != null;

  regex =
    part:
    builtins.replaceStrings [ "\\*" "\\?" "\\[!" "\\[" "\\]" ] [ "[^/]*" "[^/]" "[^" "[" "]" ] (text.escapeRegex part);

  directories =
    path:
    let
      entries = builtins.readDir path;
    in
    builtins.filter (name: entries.${name} == "directory") (builtins.attrNames entries);

  under = base: name: if base == "" then name else "${base}/${name}";

  # All directories below `base`, itself among them.
  descend = root: base: [ base ] ++ builtins.concatMap (name: descend root (under base name)) (directories (root + "/${base}"));

  expand =
    root: bases: parts:
    if parts == [ ] then
      bases
    else
      let
        part = builtins.head parts;
        rest = builtins.tail parts;
        next =
          if part == "**" then
            builtins.concatMap (descend root) bases
          else if hasMagic part then
            builtins.concatMap (
              base:
              map (under base) (
                builtins.filter (name: builtins.match (regex part) name != null) (directories (root + "/${base}"))
              )
            ) bases
          else
            builtins.filter (path: builtins.pathExists (root + "/${path}")) (map (base: under base part) bases);
      in
      expand root next rest;
in
{
  inherit hasMagic;

  # The directories below `root` that a pattern names, relative to it.
  match = root: pattern: expand root [ "" ] (builtins.filter (part: part != "" && part != ".") (text.split "/" pattern));
}
