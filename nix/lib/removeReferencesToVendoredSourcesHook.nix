# Outputs don't need the vendored sources to run.
{ internal }:
internal.mkHook {
  name = "remove-references-to-vendored-sources-hook";
  file = ../hooks/remove-vendor-references.sh;
  values.storeDir = builtins.storeDir;
}
