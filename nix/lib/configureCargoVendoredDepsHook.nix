# Points cargo to `cargoVendorDir`.
{ internal }:
internal.mkHook {
  name = "configure-cargo-vendored-deps-hook";
  file = ../hooks/vendored-sources.sh;
}
