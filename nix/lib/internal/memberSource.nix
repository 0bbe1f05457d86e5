# The sources of one member: the workspace's skeleton, with the real sources of the member and of what it needs in the
# workspace. Nothing else of the workspace is in it, so nothing else changes it.
{ internal }:
{
  src,
  workspace,
  # The skeleton as a derivation and as a description.
  skeletonSource,
  skeleton,
  cargoLock,
  member,
  # More files and directories, relative to `src`.
  extraPaths ? [ ],
}:
let
  inherit (internal)
    text
    lock
    sources
    paths
    toml
    ;
  directories = workspace.closure (package: package.dependencies) member;
  real = map (directory: workspace.byDirectory.${directory}) directories;

  # A package's directory without the packages inside it, which have sources of their own or none.
  inside = directory: builtins.filter (other: other != directory && paths.isIn directory other) (
    map (package: package.directory) workspace.packages
  );

  copyPackage =
    package:
    let
      from = sources.subtree {
        inherit src;
        path = package.directory;
        without = inside package.directory ++ text.optionals (package.directory == "") [ "Cargo.lock" "target" ".git" ];
      };
    in
    "copy ${from} ${text.shellArgument package.directory}";
  copyMore =
    path:
    "copy ${
      sources.subtree {
        inherit src path;
      }
    } ${text.shellArgument path}";

  # The stubs of a real package go: it may not have all of those files itself.
  stubs =
    package:
    builtins.filter (
      path: paths.isIn package.directory path && !builtins.any (other: paths.isIn other path) (inside package.directory)
    ) (builtins.filter (path: skeleton.files.${path} ? stub) (builtins.attrNames skeleton.files));
  forget = path: "rm -f $out/${text.shellArgument path}";

  # The root manifest as it is, but for what the skeleton changes of the others.
  rootTable = workspace.rootManifest.workspace or { };
  rootManifest =
    workspace.rootManifest
    // text.optionalAttrs (workspace.rootManifest ? workspace) {
      workspace =
        builtins.removeAttrs rootTable [ "metadata" ]
        // {
          members = skeleton.members;
        }
        // text.optionalAttrs (rootTable ? dependencies) { dependencies = skeleton.withoutRequirements rootTable.dependencies; };
    };
  rootIsReal = builtins.elem "" directories;
  # A root package that this member doesn't need stays a stub in the same manifest.
  root =
    if rootIsReal || !(workspace.rootManifest ? package) then
      builtins.removeAttrs rootManifest (text.optionals (!rootIsReal) [ "package" ])
    else
      skeleton.rootStub // { inherit (rootManifest) workspace; };

  keptVersions = builtins.listToAttrs (
    map (package: {
      name = "${package.name} ${package.version}";
      value = null;
    }) real
  );
  versions = text.filterAttrs (name: _: !(keptVersions ? ${name})) skeleton.newVersions;
in
# The name is that of all sources: cargo and compilers see the same directory in every derivation.
internal.runScript "source" { } ''
  copy() { mkdir -p "$out/$(dirname "$2")"; cp -r --no-target-directory "$1" "$out/$2"; chmod -R u+w "$out"; }
  cp -r --no-target-directory ${skeletonSource} $out
  chmod -R u+w $out
  ${text.lines (map forget (builtins.concatMap stubs real))}
  ${text.lines (map copyPackage real)}
  ${text.lines (map copyMore extraPaths)}
  cp ${builtins.toFile "Cargo.toml" (toml root)} $out/Cargo.toml
  cp ${builtins.toFile "Cargo.lock" (lock.write (lock.withVersions versions cargoLock))} $out/Cargo.lock
''
