# The part of nixpkgs' `lib.fileset` that the tests use: filters of files, unions of them, and a source of them.
rec {
  fileFilter = keep: root: {
    inherit root;
    has = path: keep { name = baseNameOf path; };
  };
  unions = sets: {
    inherit (builtins.head sets) root;
    has = path: builtins.any (set: set.has path) sets;
  };
  toSource =
    { root, fileset }:
    let
      filter = path: type: type == "directory" || fileset.has path;
    in
    {
      _isLibCleanSourceWith = true;
      origSrc = root;
      name = "source";
      inherit filter;
      outPath = builtins.path {
        path = root;
        name = "source";
        inherit filter;
      };
    };
}
