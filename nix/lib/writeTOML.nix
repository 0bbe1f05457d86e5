# A file of TOML from a name and a value, written while evaluating.
{ internal }:
name: value:
builtins.toFile name (internal.toml value)
