# The skeleton of a workspace as a source: what `buildDepsOnly` builds. See internal/skeleton.nix for what it holds.
#
# Everything is read while evaluating and written down again, so the result changes when the skeleton does and not with
# every source file.
{ internal }:
{
  src,
  # A shell script that adds to `$out`. The sources are not there.
  extraDummyScript ? "",
  # A file for every target and script in place of ours, and one for the scripts alone.
  dummyrs ? null,
  dummyBuildrs ? dummyrs,
  ...
}@args:
internal.dummySource {
  inherit
    src
    extraDummyScript
    dummyrs
    dummyBuildrs
    ;
  skeleton = internal.skeleton {
    workspace = internal.workspace { inherit src; };
    cargoLock = internal.lock.read args;
  };
}
