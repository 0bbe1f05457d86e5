# Leaves the units that a derivation built as an output, `units`, which `cargo nixcache push --from` publishes:
#
#   buildWorkspace {
#     src = ./.;
#     deps = { outputs = [ "out" "units" ]; nativeBuildInputs = [ (restoreHook { }) collectHook ]; };
#   }
#
# It goes with restoreHook, by which cargo keeps what it builds.
{ internal, cargo-nixcache }:
internal.mkHook {
  name = "collect-hook";
  file = ../hooks/collect.sh;
  tools = [ cargo-nixcache ];
}
