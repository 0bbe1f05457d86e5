# A shell with the toolchain, and with what the given checks need to build.
{
  mkShell,
  cargo,
  rustc,
  clippy,
  rustfmt,
}:
{
  checks ? { },
  inputsFrom ? [ ],
  packages ? [ ],
  ...
}@args:
mkShell (
  builtins.removeAttrs args [ "checks" ]
  // {
    inputsFrom = builtins.attrValues checks ++ inputsFrom;
    packages = [
      cargo
      rustc
      clippy
      rustfmt
    ]
    ++ packages;
  }
)
