# What every cargo in a derivation wants.
configureCargoCommonVars() {
  # There is no home directory in a sandbox.
  export CARGO_HOME="${CARGO_HOME:-$PWD/.cargo-home}"
  mkdir -p "$CARGO_HOME"
  export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$NIX_BUILD_CORES}"
  export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$NIX_BUILD_CORES}"
  # Nobody builds incrementally in a derivation. Set to nothing, the profile decides.
  export CARGO_BUILD_INCREMENTAL="${CARGO_BUILD_INCREMENTAL-false}"
  # Ours, not cargo's.
  CARGO_PROFILE="${CARGO_PROFILE-release}"
}

postPatchHooks+=(configureCargoCommonVars)
