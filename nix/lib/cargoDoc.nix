# `cargo doc`, without dependencies where nothing else is said. The pages are in `share/doc`.
{ mkCargoDerivation }:
{
  cargoExtraArgs ? "--locked",
  cargoDocExtraArgs ? "--no-deps",
  ...
}@args:
mkCargoDerivation (
  builtins.removeAttrs args [
    "cargoExtraArgs"
    "cargoDocExtraArgs"
  ]
  // {
    pnameSuffix = args.pnameSuffix or "-doc";
    doInstallCargoArtifacts = args.doInstallCargoArtifacts or false;
    docInstallRoot = args.docInstallRoot or "";
    buildPhaseCargoCommand = "cargoWithProfile doc ${cargoExtraArgs} ${cargoDocExtraArgs}";
    # For another target they are in that one's directory.
    installPhaseCommand =
      args.installPhaseCommand or ''
        for directory in "$docInstallRoot" "''${CARGO_TARGET_DIR:-target}/''${CARGO_BUILD_TARGET:-none}/doc" "''${CARGO_TARGET_DIR:-target}/doc"; do
          if [ -n "$directory" ] && [ -d "$directory" ]; then
            mkdir -p $out/share
            mv "$directory" $out/share/doc
            break
          fi
        done
        if [ ! -d $out/share/doc ]; then
          echo "error: cargo left no documentation: set docInstallRoot to its directory" >&2
          exit 1
        fi
      '';
  }
)
