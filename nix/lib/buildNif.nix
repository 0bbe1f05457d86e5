# A NIF: the library that Erlang loads, from a member that uses rustler. The output has the form of those that
# `cargo nixcache nif` publishes: `priv/native/<crate>.so`, and the names that other tools look for.
{
  internal,
  mkCargoDerivation,
  buildDepsOnly,
  vendorCargoDeps,
  crateNameFromCargoToml,
}:
{
  # The package, and the name of its library: `<crate>.so`.
  pname ? (crateNameFromCargoToml args).pname,
  crateName ? internal.text.crateName pname,
  cargoExtraArgs ? "--locked",
  ...
}@args:
let
  vendored = {
    cargoVendorDir = args.cargoVendorDir or (vendorCargoDeps args);
  };
in
mkCargoDerivation (
  builtins.removeAttrs args [
    "cargoExtraArgs"
    "crateName"
  ]
  // vendored
  // {
    pname = "nif-${crateName}";
    doInstallCargoArtifacts = false;
    cargoArtifacts = args.cargoArtifacts or (buildDepsOnly (builtins.removeAttrs args [ "crateName" ] // vendored));
    env = args.env or { } // {
      # Without it rustler leaves `nif_init` out where another package is built first.
      RUSTLER_PRIMARY_NIF_INIT = "1";
    };
    buildPhaseCargoCommand = ''
      cargoBuildLog="$(mktemp "$NIX_BUILD_TOP/cargoBuildLogXXXXXX")"
      cargoWithProfile rustc --message-format json-render-diagnostics ${cargoExtraArgs} --package ${pname} --lib >"$cargoBuildLog"
    '';
    installPhaseCommand = ''
      library="$(grep '"reason":"compiler-artifact"' "$cargoBuildLog" | grep '"kind":\[[^]]*"cdylib"' |
        sed -n 's/.*"filenames":\[\([^]]*\)\].*/\1/p' | tr ',' '\n' | tr -d '"' |
        grep -E '/(lib)?${crateName}\.(so|dylib|dll)$' | tail -n 1)"
      if [ -z "$library" ]; then
        echo "error: ${pname} has no library ${crateName} of the crate type cdylib" >&2
        exit 1
      fi
      if ! grep -qw nif_init "$library"; then
        echo "error: the library of ${pname} has no nif_init: is rustler::init! in it?" >&2
        exit 1
      fi
      # Erlang loads .so everywhere but on Windows.
      extension=so
      case "$library" in *.dll) extension=dll ;; esac
      mkdir -p $out/priv/native $out/lib
      cp "$library" "$out/priv/native/${crateName}.$extension"
      ln -s "${crateName}.$extension" "$out/priv/native/lib${crateName}.$extension"
      ln -s "../priv/native/${crateName}.$extension" "$out/lib/lib${crateName}.$extension"
    '';
  }
)
