# Packages of git repositories. `builtins.fetchGit` brings a repository by its commit while evaluating, so its manifests
# can be read without building anything.
{ internal }:
let
  inherit (internal) text paths sources toml;

  # Directories of manifests that name the package.
  search =
    root: name: directory:
    let
      entries = builtins.readDir (root + "/${directory}");
      sub = builtins.filter (
        entry: entries.${entry} == "directory" && entry != ".git" && entry != "target"
      ) (builtins.attrNames entries);
      written = sources.readText (root + "/${paths.under directory "Cargo.toml"}");
      # Repositories hold broken manifests for their tests: only likely ones are parsed.
      mayBe = entries ? "Cargo.toml" && builtins.length (builtins.split "name[ ]*=[ ]*[\"']${text.escapeRegex name}[\"']" written) > 1;
      manifest = builtins.fromTOML written;
    in
    text.optional (mayBe && manifest.package.name or null == name) directory
    ++ builtins.concatMap (entry: search root name (paths.under directory entry)) sub;

  # The `[workspace]` table that a package inherits from.
  workspaceOf =
    root: directory:
    let
      file = root + "/${paths.under directory "Cargo.toml"}";
      manifest = if builtins.pathExists file then sources.readManifest file else { };
    in
    if manifest ? workspace then
      { table = manifest.workspace; inherit directory; }
    else if directory == "" then
      { table = { }; inherit directory; }
    else
      workspaceOf root (paths.parent directory);

  # What a manifest says when nothing in it is inherited any more.
  standAlone =
    table: manifest:
    let
      isInherited = value: builtins.isAttrs value && value.workspace or false == true;
      dependency =
        name: value:
        if isInherited value then
          let
            given = table.dependencies.${name};
            base = if builtins.isString given then { version = given; } else given;
            more = builtins.removeAttrs value [ "workspace" ];
            features = base.features or [ ] ++ more.features or [ ];
          in
          base // more // text.optionalAttrs (features != [ ]) { inherit features; }
        else
          value;
      tables = [ "dependencies" "dev-dependencies" "dev_dependencies" "build-dependencies" "build_dependencies" ];
      resolve =
        given: builtins.mapAttrs (name: value: if builtins.elem name tables then builtins.mapAttrs dependency value else value) given;
      field = name: value: if isInherited value then table.package.${name} else value;
    in
    builtins.removeAttrs (resolve manifest) [ "lints" "workspace" ]
    // { package = builtins.mapAttrs field (builtins.removeAttrs manifest.package [ "workspace" ]); }
    // text.optionalAttrs (manifest ? target) { target = builtins.mapAttrs (_: resolve) manifest.target; };
in
{
  # "git+https://host/repo?rev=…#commit"
  parse =
    source:
    let
      parts = text.split "#" (text.removePrefix "git+" source);
      address = text.split "?" (builtins.head parts);
      query = if builtins.length address > 1 then builtins.elemAt address 1 else "";
      reference = builtins.match "(rev|tag|branch)=(.*)" query;
    in
    {
      url = builtins.head address;
      commit = builtins.elemAt parts 1;
      # The source as cargo's configuration names it.
      key = builtins.head (text.split "#" source);
      reference =
        if reference == null then
          { }
        else
          { ${builtins.elemAt reference 0} = builtins.replaceStrings [ "%2F" "%23" "%2B" ] [ "/" "#" "+" ] (builtins.elemAt reference 1); };
    };

  # What `outputHashes` says of it is compared here: Nix would say what it got, and not where to write it.
  repository =
    source: parsed: hash:
    let
      fetched = builtins.fetchGit {
        inherit (parsed) url;
        rev = parsed.commit;
        allRefs = true;
        submodules = true;
      };
    in
    if hash == null || hash == fetched.narHash then
      fetched
    else
      throw ''
        nixcache: ${parsed.url} has at ${parsed.commit} the content ${fetched.narHash}, and `outputHashes` says ${hash}.
        If that commit is the one that you want, write: outputHashes."${source}" = "${fetched.narHash}";
      '';

  # { sources; manifest; } of a package in a repository.
  package =
    repository: name:
    let
      root = repository.outPath;
      found = search root name "";
      directory = builtins.head found;
      manifest = sources.readManifest (root + "/${paths.under directory "Cargo.toml"}");
    in
    if found == [ ] then
      throw "nixcache: the repository ${root} has no package `${name}`, which Cargo.lock takes from it."
    else
      {
        sources = builtins.path {
          path = if directory == "" then root else root + "/${directory}";
          name = "${name}-source";
        };
        manifest = toml (standAlone (workspaceOf root directory).table manifest);
      };
}
