# The packages of a workspace, from its manifests alone: where they are, what they are called, which of each other they
# need, and which targets they have. Only manifests that cargo would read are read, from the root's on: whatever else
# is called Cargo.toml does not matter.
{ internal }:
let
  inherit (internal)
    text
    paths
    sources
    glob
    ;

  dependencyTables = [
    "dependencies"
    "dev-dependencies"
    "dev_dependencies"
    "build-dependencies"
    "build_dependencies"
  ];

  tablesOf = table: builtins.filter builtins.isAttrs (map (name: table.${name} or null) dependencyTables);

  # Without what tests alone need.
  linkedTables =
    manifest:
    let
      of =
        table:
        tablesOf (
          builtins.removeAttrs table [
            "dev-dependencies"
            "dev_dependencies"
          ]
        );
    in
    of manifest ++ builtins.concatMap of (builtins.attrValues (manifest.target or { }));

  # All tables of dependencies of one manifest.
  allTables = manifest: tablesOf manifest ++ builtins.concatMap tablesOf (builtins.attrValues (manifest.target or { }));

  # `[patch."…"] name = { path = … }` and `[replace]`.
  patches = manifest: builtins.attrValues (manifest.patch or { }) ++ text.optional (manifest ? replace) manifest.replace;
in
{ src }:
let
  root = sources.root src;
  shown = toString root;
  rootFile = root + "/Cargo.toml";
  rootManifest =
    if builtins.pathExists rootFile then
      sources.readManifest rootFile
    else
      throw ''
        nixcache: there is no Cargo.toml in ${shown}.
        `src` must be the directory of the workspace's root manifest.
      '';

  workspaceTable = rootManifest.workspace or { };
  inherited = workspaceTable.dependencies or { };

  excluded =
    directory: builtins.any (exclude: paths.isIn (paths.join "" exclude) directory) (workspaceTable.exclude or [ ]);

  hasManifest = directory: builtins.pathExists (root + "/${paths.under directory "Cargo.toml"}");

  declaredMembers = builtins.concatMap (
    pattern:
    if glob.hasMagic pattern then
      builtins.filter (directory: hasManifest directory && !excluded directory) (glob.match root pattern)
    else
      let
        directory = paths.join "" pattern;
      in
      if directory != null && hasManifest directory then
        [ directory ]
      else
        throw ''
          nixcache: the workspace in ${shown} names the member `${pattern}`, and there is no ${pattern}/Cargo.toml.
          A flake sees only what git knows: `git add -N ${pattern}`. A filter of `src` may have left it out.
        ''
  ) (workspaceTable.members or [ ]);

  # The directories that the path dependencies of a manifest lead to.
  pathDependencies =
    directory: manifest:
    let
      resolve =
        base: name: relative:
        let
          found = paths.join base relative;
        in
        if found == null then
          throw ''
            nixcache: ${paths.under directory "Cargo.toml"} depends on `${name}` at ${relative}, outside of ${shown}.
            Give a `src` that holds both, for example the directory above.
          ''
        else if hasManifest found then
          found
        else
          throw ''
            nixcache: ${paths.under directory "Cargo.toml"} depends on `${name}` at ${relative}, and there is no
            Cargo.toml there. A flake sees only what git knows: `git add -N ${found}`.
          '';
      ofTable =
        table:
        builtins.concatMap (
          name:
          let
            dependency = table.${name};
            ours = inherited.${name} or null;
          in
          if !(builtins.isAttrs dependency) then
            [ ]
          else if dependency ? path then
            [ (resolve directory name dependency.path) ]
          else if dependency.workspace or false && builtins.isAttrs ours && ours ? path then
            [ (resolve "" name ours.path) ]
          else
            [ ]
        ) (builtins.attrNames table);
    in
    {
      dependencies = text.unique (builtins.concatMap ofTable (allTables manifest));
      linked = text.unique (builtins.concatMap ofTable (linkedTables manifest));
      patched = text.unique (builtins.concatMap ofTable (patches manifest));
    };

  node =
    directory:
    let
      manifest =
        if directory == "" then rootManifest else sources.readManifest (root + "/${directory}/Cargo.toml");
    in
    {
      key = directory;
      inherit directory manifest;
      edges = pathDependencies directory manifest;
    };

  nodes = builtins.genericClosure {
    startSet = map node (text.unique ([ "" ] ++ declaredMembers));
    operator = found: map node (found.edges.dependencies ++ found.edges.patched);
  };

  packageOf =
    found:
    let
      inherit (found) directory manifest;
      package = manifest.package;
      field =
        name:
        let
          value = package.${name} or null;
        in
        if builtins.isAttrs value && value.workspace or false then workspaceTable.package.${name} or null else value;
      at = name: root + "/${paths.under directory name}";
      exists = name: builtins.pathExists (at name);
      files = name: sources.list (at name);

      edition = if field "edition" == null then "2015" else field "edition";
      version = if field "version" == null then "0.0.0" else field "version";

      # `src/bin/*.rs`, `src/bin/*/main.rs`, and the same of `examples`, `tests` and `benches`.
      found' =
        where:
        let
          entries = files where;
          target =
            name:
            if entries.${name} == "regular" || entries.${name} == "symlink" then
              text.optional (text.hasSuffix ".rs" name) {
                name = text.removeSuffix ".rs" name;
                path = "${where}/${name}";
              }
            else
              text.optional (exists "${where}/${name}/main.rs") {
                inherit name;
                path = "${where}/${name}/main.rs";
              };
        in
        builtins.concatMap target (builtins.attrNames entries);

      # The declared targets of a kind with their places, and those that cargo finds by itself.
      targets =
        {
          declared,
          automatic,
          where,
          more ? [ ],
        }:
        let
          # Up to edition 2015 one declared target turned the search off.
          searches = package.${automatic} or (edition != "2015" || declared == [ ]);
          candidates = more ++ found' where;
          place =
            target:
            let
              same = builtins.filter (candidate: candidate.name == target.name) candidates;
            in
            if target ? path then
              target
            else if same != [ ] then
              target // { inherit (builtins.head same) path; }
            else
              target // { path = "${where}/${target.name}.rs"; };
          placed = map place declared;
          isPlaced =
            candidate: builtins.any (target: target.name == candidate.name || target.path == candidate.path) placed;
        in
        {
          declared = placed;
          found = text.optionals searches (builtins.filter (candidate: !isPlaced candidate) candidates);
        };

      declaredLib = manifest.lib or { };
      hasLib = manifest ? lib || exists "src/lib.rs" && package.autolib or true;
      build =
        if package.build or null == false then
          null
        else if builtins.isString (package.build or null) then
          package.build
        else if builtins.isList (package.build or null) then
          # Several scripts are an unstable feature; one stands for all in a skeleton.
          builtins.head package.build
        else if exists "build.rs" then
          "build.rs"
        else
          null;
    in
    {
      inherit
        directory
        manifest
        version
        edition
        build
        ;
      inherit (package) name;
      inherit (found.edges) dependencies linked;
      isMember = !excluded directory;
      lib =
        if hasLib then
          {
            name = text.crateName package.name;
            path = "src/lib.rs";
          }
          // declaredLib
        else
          null;
      bins = targets {
        declared = manifest.bin or [ ];
        automatic = "autobins";
        where = "src/bin";
        more = text.optional (exists "src/main.rs") {
          inherit (package) name;
          path = "src/main.rs";
        };
      };
      examples = targets {
        declared = manifest.example or [ ];
        automatic = "autoexamples";
        where = "examples";
      };
      tests = targets {
        declared = manifest.test or [ ];
        automatic = "autotests";
        where = "tests";
      };
      benches = targets {
        declared = manifest.bench or [ ];
        automatic = "autobenches";
        where = "benches";
      };
    };

  packages = map packageOf (builtins.filter (found: found.manifest ? package) nodes);
  # The directories that `edges` of a package lead to, its own among them.
  closure =
    edges: package:
    let
      node = directory: { key = directory; };
    in
    map (found: found.key) (
      builtins.genericClosure {
        startSet = [ (node package.directory) ];
        operator = found: map node (edges byDirectory.${found.key});
      }
    );

  byDirectory = builtins.listToAttrs (
    map (package: {
      name = package.directory;
      value = package;
    }) packages
  );
in
{
  inherit
    root
    byDirectory
    closure
    rootManifest
    packages
    declaredMembers
    ;
  members = builtins.filter (package: package.isMember) packages;
}
