# Phases, hooks and inputs by the names and in the order of nixpkgs' generic builder.
export NIX_BUILD_CORES="${NIX_BUILD_CORES:-2}"
export HOME=/homeless-shelter
export SOURCE_DATE_EPOCH=1
export TERM=dumb
umask 022
set -eu -o pipefail
shopt -s nullglob

runHook() {
  local name="$1" command
  local -n hooks="${name}Hooks"
  # As nixpkgs does it: hooks may look at variables that are not set.
  set +u
  for command in "${hooks[@]}"; do
    eval "$command"
  done
  if declare -F "$name" >/dev/null; then "$name"; elif [ -n "${!name-}" ]; then eval "${!name}"; fi
  set -u
}
for phase in Unpack Patch Configure Build Check Install Fixup; do
  declare -a "pre${phase}Hooks=()" "post${phase}Hooks=()"
done

for input in ${nativeBuildInputs-} ${propagatedNativeBuildInputs-}; do
  [ -d "$input/bin" ] && PATH="$input/bin:$PATH"
done
for input in ${nativeBuildInputs-}; do
  if [ -f "$input" ]; then source "$input"; elif [ -f "$input/nix-support/setup-hook" ]; then source "$input/nix-support/setup-hook"; fi
done

defaultUnpack() {
  runHook preUnpack
  if [ -n "${src-}" ]; then
    local name
    name="$(basename "$src")"
    name="${name:33}"
    cp -r --preserve=timestamps --no-preserve=ownership "$src" "$name"
    chmod -R u+w "$name"
    sourceRoot="$name"
  fi
  runHook postUnpack
}
defaultPatch() { runHook prePatch; runHook postPatch; }
defaultConfigure() { runHook preConfigure; runHook postConfigure; }
defaultBuild() { runHook preBuild; runHook postBuild; }
defaultCheck() { runHook preCheck; runHook postCheck; }
defaultInstall() { runHook preInstall; runHook postInstall; }
defaultFixup() { runHook preFixup; runHook postFixup; }

genericBuild() {
  if [ -f "${buildCommandPath-}" ]; then source "$buildCommandPath"; return; fi
  if [ -n "${buildCommand-}" ]; then eval "$buildCommand"; return; fi
  local phase
  for phase in unpack patch configure build check install fixup; do
    if [ "$phase" = check ] && [ -z "${doCheck-}" ]; then continue; fi
    local name="${phase}Phase"
    echo "phase: $name"
    if [ -n "${!name-}" ]; then eval "${!name}"; else "default${phase^}"; fi
    if [ "$phase" = unpack ]; then cd "${sourceRoot:-.}"; fi
  done
}
