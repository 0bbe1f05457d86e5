# The scope with more registries, as `registryFromDownloadUrl` makes them.
{ overrideScope, craneLib }:
registries:
overrideScope (
  _: previous:
  {
    crateRegistries = builtins.foldl' (all: one: all // one) previous.crateRegistries registries;
  }
  // (if craneLib == null then { } else { craneLib = craneLib.appendCrateRegistries registries; })
)
