# Relative paths as lists of names, without touching the disk. The root of the sources is "".
let
  text = import ./text.nix;
in
rec {
  # "crates/app", "../model" → "crates/model". `null` where it leads out of the root.
  join =
    base: relative:
    let
      parts = builtins.filter (part: part != "" && part != ".") (text.split "/" base ++ text.split "/" relative);
      step =
        known: part:
        if known == null then
          null
        else if part != ".." then
          known ++ [ part ]
        else if known == [ ] then
          null
        else
          removeLast known;
      joined = builtins.foldl' step [ ] parts;
    in
    if text.hasPrefix "/" relative || joined == null then null else builtins.concatStringsSep "/" joined;

  removeLast = list: builtins.genList (builtins.elemAt list) (builtins.length list - 1);

  # A file of the directory `base`.
  under = base: name: if base == "" then name else "${base}/${name}";

  parent =
    path:
    let
      parts = text.split "/" path;
    in
    builtins.concatStringsSep "/" (removeLast parts);

  # Whether `path` is `directory` or lies in it.
  isIn = directory: path: directory == "" || path == directory || text.hasPrefix "${directory}/" path;
}
