# For `buildDepsOnly`: the stubs' output is not handed on.
{ internal }:
internal.mkHook {
  name = "forget-stubs-hook";
  file = ../hooks/forget-stubs.sh;
}
