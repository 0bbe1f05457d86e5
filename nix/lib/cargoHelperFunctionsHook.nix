# `cargo` that shows how it is called, and `cargoWithProfile`.
{ internal }:
internal.mkHook {
  name = "cargo-helper-functions-hook";
  file = ../hooks/cargo-helpers.sh;
}
