# The skeleton of a workspace: all that decides how its third-party dependencies are compiled, and nothing that people
# edit every day. A description: which files have which text, and which directories are taken as they are.
#
# - Manifests with what concerns dependencies, features, profiles and targets. Our own versions are 0.0.0, in the
#   lock file too: a release compiles no dependency again. Every target is named with its place, so nothing depends on
#   what cargo finds.
# - A small file for each target. Tests and benches that cargo finds by itself are left out where the package has a
#   library or program, as that one's own tests need the same dependencies: a new test file changes nothing.
# - A package that others are compiled against (a `[patch]` with a path) keeps its manifest, version and sources.
# - `.cargo`, and what its configuration names by a path.
{ internal }:
let
  inherit (internal)
    text
    paths
    toml
    lock
    sources
    ;

  # Of a manifest's first level.
  keptTables = [
    "build-dependencies"
    "build_dependencies"
    "cargo-features"
    "dependencies"
    "dev-dependencies"
    "dev_dependencies"
    "features"
    "target"
  ];
  # Cargo reads these in the root manifest alone.
  rootTables = [
    "patch"
    "profile"
    "replace"
  ];
  keptOfPackage = [
    "default-target"
    "edition"
    "forced-target"
    "links"
    "name"
    "resolver"
    "workspace"
  ];
  keptOfTarget = [
    "crate-type"
    "crate_type"
    "edition"
    "harness"
    "name"
    "path"
    "proc-macro"
    "proc_macro"
  ];

  only = names: values: builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) names)) values;

  # A dependency on a package of ours has no requirement: its version is 0.0.0.
  withoutRequirements =
    table:
    builtins.mapAttrs (
      _: dependency:
      if builtins.isAttrs dependency && dependency ? path then
        builtins.removeAttrs dependency [ "version" ]
      else
        dependency
    ) table;
  dependencyNames = [
    "build-dependencies"
    "build_dependencies"
    "dependencies"
    "dev-dependencies"
    "dev_dependencies"
  ];
  mapDependencies =
    table: builtins.mapAttrs (name: value: if builtins.elem name dependencyNames then withoutRequirements value else value) table;

  bare = ''any(target_os = "none", target_os = "uefi", target_os = "cuda")'';

  # What a library or program has to be, to be one. Where there is no operating system there is no standard library
  # either, and whatever is linked needs somebody to call when all is lost.
  libraryText = ''
    #![cfg_attr(${bare}, no_std)]

    #[cfg(${bare})]
    #[panic_handler]
    fn lost(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
  '';
  programText = ''
    #![cfg_attr(${bare}, no_std, no_main)]

    #[cfg(${bare})]
    #[panic_handler]
    fn lost(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[cfg(not(${bare}))]
    fn main() {}
  '';

  isProcMacro =
    library:
    library.proc-macro or library.proc_macro or false
    || builtins.elem "proc-macro" (library.crate-type or library.crate_type or [ ]);

  # The paths that a `.cargo/config.toml` names: wrappers, linkers, runners, other configuration files.
  pathsInConfig =
    config:
    let
      build = config.build or { };
      tables = builtins.filter builtins.isAttrs (builtins.attrValues (config.target or { }));
      first = value: if builtins.isList value then text.firstString value "" else value;
      programs = map (name: build.${name} or "") [
        "rustc"
        "rustc-wrapper"
        "rustc-workspace-wrapper"
        "rustdoc"
      ]
      ++ builtins.concatMap (table: [
        (table.linker or "")
        (first (table.runner or ""))
      ]) tables;
      includes =
        let
          given = config.include or [ ];
        in
        map (entry: if builtins.isAttrs entry then entry.path or "" else entry) (
          if builtins.isList given then given else [ given ]
        );
      # Programs without a slash are looked for in PATH; a relative path is relative to the parent of `.cargo`.
      relative = builtins.filter (path: builtins.match ".+/.*" path != null) programs;
      target = build.target or "";
      specifications = builtins.filter (text.hasSuffix ".json") (if builtins.isList target then target else [ target ]);
    in
    relative ++ specifications ++ map (path: ".cargo/${path}") (builtins.filter (path: path != "") includes);
in
{ workspace, cargoLock }:
let
  inherit (workspace) root rootManifest packages;

  needed = map (package: package.name) (lock.neededByOthers cargoLock);
  isKept = package: builtins.elem package.name needed;
  kept = builtins.filter isKept packages;
  stubbed = builtins.filter (package: !isKept package) packages;

  # Two packages of one name must stay apart.
  byName = builtins.groupBy (package: package.name) packages;
  version = package: if builtins.length byName.${package.name} == 1 then "0.0.0" else package.version;

  newVersions = builtins.listToAttrs (
    map (package: {
      name = "${package.name} ${package.version}";
      value = version package;
    }) stubbed
  );

  members = builtins.filter (member: member != "") (
    text.unique (workspace.declaredMembers ++ map (package: package.directory) workspace.members)
  );

  workspaceTable =
    table:
    only [ "default-members" "exclude" "resolver" "dependencies" ] table
    // text.optionalAttrs (table ? dependencies) { dependencies = withoutRequirements table.dependencies; }
    // {
      inherit members;
      # Packages that are taken as they are inherit what they inherit.
      package = if kept != [ ] then table.package or { } else only [ "edition" ] (table.package or { });
    }
    // text.optionalAttrs (kept != [ ] && table ? lints) { inherit (table) lints; };

  shared =
    directory: manifest:
    mapDependencies (only (keptTables ++ text.optionals (directory == "") rootTables) manifest)
    // text.optionalAttrs (manifest ? target) {
      target = builtins.mapAttrs (_: table: if builtins.isAttrs table then mapDependencies table else table) manifest.target;
    }
    // text.optionalAttrs (manifest ? workspace) { workspace = workspaceTable manifest.workspace; };

  target = only keptOfTarget;

  targetsOf =
    package:
    let
      hasBody = package.lib != null || bins != [ ];
      bins = package.bins.declared ++ package.bins.found;
      examples = package.examples.declared ++ package.examples.found;
      # A package of tests alone has to have one.
      optional = kind: kind.declared ++ text.optionals (!hasBody && examples == [ ]) kind.found;
    in
    {
      inherit bins examples;
      tests = optional package.tests;
      benches = optional package.benches;
    };

  manifestOf =
    package:
    let
      targets = targetsOf package;
      list = name: values: text.optionalAttrs (values != [ ]) { ${name} = map target values; };
    in
    shared package.directory package.manifest
    // {
      package = only keptOfPackage package.manifest.package // {
        version = version package;
        build = if package.build == null then false else package.build;
        autobins = false;
        autoexamples = false;
        autotests = false;
        autobenches = false;
      };
    }
    // text.optionalAttrs (package.lib != null) { lib = target package.lib; }
    // list "bin" targets.bins
    // list "example" targets.examples
    // list "test" targets.tests
    // list "bench" targets.benches;

  stub =
    package:
    let
      targets = targetsOf package;
      at = paths.under package.directory;
      file = kind: path: {
        name = at path;
        value = kind;
      };
      programs = targets.bins ++ targets.examples ++ targets.tests ++ targets.benches;
    in
    [
      {
        name = at "Cargo.toml";
        value = {
          text = toml (manifestOf package);
        };
      }
    ]
    ++ map (program: file { stub = "program"; } program.path) programs
    # A program may have the file of a library: the first of a name counts, and a program must have a `main`.
    ++ text.optional (package.lib != null) (
      file { stub = if isProcMacro package.lib then "macro" else "library"; } package.lib.path
    )
    ++ text.optional (package.build != null) (file { stub = "script"; } package.build);

  # The root of a workspace that is no package itself.
  virtualRoot = text.optional (!(rootManifest ? package)) {
    name = "Cargo.toml";
    value.text = toml (shared "" rootManifest);
  };

  hasConfig = sources.list root ? ".cargo";
  configFile =
    let
      candidates = builtins.filter (name: builtins.pathExists (root + "/${name}")) [
        ".cargo/config.toml"
        ".cargo/config"
      ];
    in
    if candidates == [ ] then null else builtins.head candidates;
  config = if configFile == null then { } else sources.readManifest (root + "/${configFile}");
  taken = text.optional hasConfig ".cargo" ++ builtins.filter (path: path != null && !paths.isIn ".cargo" path && builtins.pathExists (root + "/${path}")) (
    map (paths.join "") (pathsInConfig config)
  );
  toolchainFiles = builtins.filter (name: builtins.pathExists (root + "/${name}")) [
    "rust-toolchain.toml"
    "rust-toolchain"
  ];
in
{
  inherit libraryText programText;

  # For those who put real packages in place of stubs.
  inherit members newVersions withoutRequirements;
  rootStub = manifestOf workspace.byDirectory."";

  # path → { text } or { stub = "program" | "library" | "macro" | "script" }
  files = builtins.listToAttrs (builtins.concatMap stub stubbed ++ virtualRoot) // {
    "Cargo.lock".text = lock.write (lock.withVersions newVersions cargoLock);
  };

  # Paths that come with all that is in them.
  copied = text.unique (map (package: package.directory) kept ++ taken ++ toolchainFiles);

  # The names of the packages that are what they are.
  kept = map (package: package.name) kept;
}
