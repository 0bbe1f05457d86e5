# What a `src` can be: a path, a text or flake with a path, or what nixpkgs' `cleanSourceWith` and `fileset.toSource`
# make, whose form ours has too. A derivation can be built from and not looked into: that would build it while
# evaluating.
{ internal }:
let
  inherit (internal) text;

  isFiltered = src: builtins.isAttrs src && src ? _isLibCleanSourceWith;
  isDerivation = src: builtins.isAttrs src && (src.type or "") == "derivation";
in
rec {
  inherit isDerivation;

  # The directory before any filter, to be looked into.
  root =
    src:
    if isFiltered src then
      src.origSrc
    else if isDerivation src then
      throw ''
        nixcache: `src` is the derivation ${src.name}, which had to be built to evaluate this.
        Give the sources as a path, a flake input or the result of `builtins.fetchGit`; or, if they must be a
        derivation, give `pname`, `version`, `cargoVendorDir` and `dummySrc` (or `cargoArtifacts`) too.
      ''
    else
      src;

  filterOf = src: if isFiltered src then src.filter else _: _: true;

  # A source with one more filter, by a relative path and a type. It has the form of nixpkgs' `cleanSourceWith`.
  clean =
    {
      src,
      name ? "source",
      keep,
    }:
    let
      origSrc = root src;
      before = filterOf src;
      filter = path: type: before path type && keep path type;
      outPath = builtins.path {
        inherit filter name;
        path = origSrc;
      };
    in
    {
      _isLibCleanSourceWith = true;
      inherit origSrc filter name outPath;
    };

  # `path` below `src`, in the store, without what lies in the directories `without` (relative to `src`).
  subtree =
    {
      src,
      path,
      without ? [ ],
    }:
    let
      origSrc = root src;
      at = if path == "" then origSrc else origSrc + "/${path}";
      before = filterOf src;
      # Nix asks with the whole path; all that we need is the part after the root.
      prefix = builtins.unsafeDiscardStringContext (toString at) + "/";
      outPath = builtins.path {
        path = at;
        name = "source";
        filter =
          file: type:
          let
            relative = text.removePrefix prefix file;
            whole = if path == "" then relative else "${path}/${relative}";
          in
          before file type && !(builtins.elem whole without);
      };
    in
    outPath;

  # The files of a directory and what each is. None where the directory isn't.
  list = directory: if builtins.pathExists directory then builtins.readDir directory else { };

  readText = file: builtins.unsafeDiscardStringContext (builtins.readFile file);

  # A manifest. What is wrong with it is told with its name.
  readManifest = file: builtins.fromTOML (readText file);
}
