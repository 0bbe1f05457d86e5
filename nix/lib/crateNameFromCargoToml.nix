# { pname; version; } from a manifest: `src` (its Cargo.toml), `cargoToml` (a file) or `cargoTomlContents` (a text).
{ internal }:
args:
let
  inherit (internal) sources text;
  file = args.cargoToml or (sources.root (args.src or nothing) + "/Cargo.toml");
  nothing = throw ''
    nixcache: there is nothing to take the package's name from.
    Give `pname` and `version`, or `src`, `cargoToml` or `cargoTomlContents`.
  '';
  contents =
    args.cargoTomlContents or (
      if builtins.pathExists file then
        builtins.readFile file
      else
        throw ''
          nixcache: there is no ${toString file} to take the package's name from.
          Give `pname` and `version`, or `cargoToml = ./path/to/Cargo.toml`.
        ''
    );
  manifest = builtins.fromTOML (builtins.unsafeDiscardStringContext contents);
  metadata = table: [
    (table.metadata.nixcache.name or null)
    (table.metadata.crane.name or null)
  ];
in
{
  pname = text.firstString (
    metadata (manifest.package or { })
    ++ [ (manifest.package.name or null) ]
    ++ metadata (manifest.workspace or { })
    ++ [ (manifest.workspace.package.name or null) ]
  ) "cargo-package";
  version = text.firstString [
    (manifest.package.version or null)
    (manifest.workspace.package.version or null)
  ] "0.0.1";
}
