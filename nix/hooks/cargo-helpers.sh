# Runs cargo, and shows how.
cargo() {
  (
    set -x
    command cargo "$@"
  )
}

# Runs cargo's command $1 in the profile that $CARGO_PROFILE names; in cargo's own default where it is empty.
cargoWithProfile() {
  local command=$1
  shift
  case "${CARGO_PROFILE-}" in
    "") cargo "$command" "$@" ;;
    release) cargo "$command" --release "$@" ;;
    *) cargo "$command" --profile "$CARGO_PROFILE" "$@" ;;
  esac
}
