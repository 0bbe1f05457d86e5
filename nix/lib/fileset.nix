# Sets of files for nixpkgs' `lib.fileset`: `toSource { root = ./.; fileset = unions [ (fileset.rust ./.) … ]; }`.
{ lib }:
let
  filter = keep: path: lib.fileset.fileFilter keep path;
  hasEnd = end: file: builtins.match ".*\\.${end}" file.name != null;
in
rec {
  cargoTomlAndLock = filter (file: file.name == "Cargo.toml" || file.name == "Cargo.lock");
  configToml = filter (file: file.name == "config.toml");
  rust = filter (hasEnd "rs");
  toml = filter (hasEnd "toml");
  commonCargoSources =
    path:
    lib.fileset.unions [
      (cargoTomlAndLock path)
      (rust path)
      (toml path)
    ];
}
