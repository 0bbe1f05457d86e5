# Installs what cargo says it built: programs to bin, C libraries to lib. The log ($2) is cargo's own, of
# `--message-format json-render-diagnostics`: one message a line, without spaces, written by one serializer.
installFromCargoBuildLog() {
  local output="${1:-$out}"
  local log="${2:-${cargoBuildLog:?is not set}}"
  # Of packages of this machine, no tests, and nothing that was built as an input of another package.
  local messages
  messages="$(grep '"reason":"compiler-artifact"' "$log" | grep '"package_id":"path+' | grep '"test":false' |
    grep -v '/deps/artifact/' || true)"
  local file
  while IFS= read -r file; do
    [ -n "$file" ] || continue
    mkdir -p "$output/bin"
    cp "$file" "$output/bin/"
    echo "installed $output/bin/$(basename "$file")"
  done < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$messages" | sort -u)
  while IFS= read -r file; do
    [ -n "$file" ] || continue
    mkdir -p "$output/lib"
    cp "$file" "$output/lib/"
    echo "installed $output/lib/$(basename "$file")"
  done < <(grep -E '"kind":\[[^]]*"(cdylib|dylib|staticlib)"' <<<"$messages" |
    sed -n 's/.*"filenames":\[\([^]]*\)\].*/\1/p' | tr ',' '\n' | tr -d '"' | grep -vE '\.(rlib|rmeta)$' | sort -u)
}

# Right after the build: `cargo test` may put other files in the same places.
stageCargoBuildLog() {
  if [ -z "${cargoBuildLog-}" ] || [ ! -f "$cargoBuildLog" ]; then
    cat >&2 <<'END'
error: nothing says what cargo built. A buildPhaseCargoCommand of your own has to keep cargo's log:
  cargoBuildLog=$(mktemp cargoBuildLogXXXX.json)
  cargo build --release --message-format json-render-diagnostics >"$cargoBuildLog"
or set doNotPostBuildInstallCargoBinaries = true and installPhaseCommand.
END
    return 1
  fi
  installFromCargoBuildLog "$postBuildInstallFromCargoBuildLogOut" "$cargoBuildLog"
}

if [ -z "${doNotPostBuildInstallCargoBinaries-}" ]; then
  postBuildInstallFromCargoBuildLogOut="$(mktemp -d "$NIX_BUILD_TOP/installXXXXXX")"
  postBuildHooks+=(stageCargoBuildLog)
fi
