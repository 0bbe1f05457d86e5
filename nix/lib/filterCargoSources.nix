# A filter for `cleanSourceWith`: manifests, lock files, cargo's configuration, and files that end in `.rs` or `.toml`.
{ internal }:
path: type:
let
  inherit (internal) text;
  name = baseNameOf (toString path);
  directory = baseNameOf (dirOf (toString path));
in
if type == "directory" then
  # Never sources, often large, and full of files that look like some.
  name != ".git" && name != "target"
else
  text.hasSuffix ".rs" name
  || text.hasSuffix ".toml" name
  || name == "Cargo.lock"
  || (directory == ".cargo" && name == "config")
