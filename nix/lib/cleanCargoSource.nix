# `src` without what cargo doesn't read: see filterCargoSources.nix. `.git`, results of Nix and what editors leave stay
# behind too, as none of them is kept by that filter.
{ internal, filterCargoSources }:
src:
internal.sources.clean {
  inherit src;
  keep = filterCargoSources;
}
