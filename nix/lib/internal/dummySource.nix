# A skeleton (see skeleton.nix) as a derivation.
{ internal }:
{
  src,
  skeleton,
  extraDummyScript ? "",
  dummyrs ? null,
  dummyBuildrs ? dummyrs,
}:
let
  inherit (internal) text sources;

  stubs = {
    program = if dummyrs != null then dummyrs else builtins.toFile "program.rs" skeleton.programText;
    library = if dummyrs != null then dummyrs else builtins.toFile "library.rs" skeleton.libraryText;
    macro = if dummyrs != null then dummyrs else builtins.toFile "macro.rs" "";
    # A script runs on the machine that builds, which has an operating system.
    script = if dummyBuildrs != null then dummyBuildrs else builtins.toFile "script.rs" "fn main() {}\n";
  };

  place =
    path:
    let
      file = skeleton.files.${path};
      from = if file ? text then builtins.toFile (baseNameOf path) file.text else stubs.${file.stub};
    in
    "place ${from} ${text.shellArgument path}";

  copy = path: "copy ${sources.subtree { inherit src path; }} ${text.shellArgument path}";
in
internal.runScript "source" { passthru = { inherit (skeleton) kept; }; } ''
  place() { mkdir -p "$out/$(dirname "$2")"; cp "$1" "$out/$2"; }
  copy() { mkdir -p "$out/$(dirname "$2")"; cp -r --no-target-directory "$1" "$out/$2"; chmod -R u+w "$out/$2"; }
  mkdir -p $out
  ${text.lines (map copy skeleton.copied)}
  ${text.lines (map place (builtins.attrNames skeleton.files))}
  ${extraDummyScript}
''
