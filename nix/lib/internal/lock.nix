# Cargo.lock: where it is, what it holds, and which packages of this workspace others are compiled against.
{ internal }:
let
  inherit (internal) text sources toml;
in
rec {
  # Of what was given, the first: `cargoLockParsed`, `cargoLockContents`, `cargoLock`, or the file in `src`.
  read =
    given:
    let
      file = if given ? src && given.src != null then sources.root given.src + "/Cargo.lock" else null;
    in
    if given.cargoLockParsed or null != null then
      given.cargoLockParsed
    else if given.cargoLockContents or null != null then
      builtins.fromTOML given.cargoLockContents
    else if given.cargoLock or null != null then
      if builtins.pathExists given.cargoLock then
        builtins.fromTOML (sources.readText given.cargoLock)
      else
        throw "nixcache: `cargoLock` is ${toString given.cargoLock}, which does not exist."
    else if file == null then
      throw "nixcache: there is no `src` to find Cargo.lock in. Give `src`, `cargoLock` or `cargoVendorDir`."
    else if builtins.pathExists file then
      builtins.fromTOML (sources.readText file)
    else
      throw ''
        nixcache: there is no Cargo.lock in ${toString (sources.root given.src)}.
        Make it with `cargo generate-lockfile`. A flake sees only what git knows: `git add -N Cargo.lock`, and take it
        out of .gitignore. Or give `cargoLock = ./path/to/Cargo.lock`.
      '';

  packages = lock: lock.package or [ ];

  isLocal = package: !(package ? source);

  # Packages of this workspace that packages from elsewhere depend on (by `[patch]`), with all that they need in
  # it. Nothing else can stand in for these.
  neededByOthers =
    lock:
    let
      byName = builtins.groupBy (package: package.name) (packages lock);
      # "name", "name version" or "name version (source)": the last is never one of ours.
      locals =
        package:
        builtins.concatMap (
          dependency:
          let
            parts = text.split " " dependency;
            name = builtins.head parts;
            version = builtins.elemAt parts 1;
            candidates = builtins.filter isLocal (byName.${name} or [ ]);
          in
          if builtins.length parts == 1 then
            candidates
          else if builtins.length parts == 2 then
            builtins.filter (candidate: candidate.version == version) candidates
          else
            [ ]
        ) (package.dependencies or [ ]);
      node = package: {
        key = "${package.name} ${package.version}";
        inherit package;
      };
      start = builtins.concatMap locals (builtins.filter (package: !isLocal package) (packages lock));
    in
    map (found: found.package) (
      builtins.genericClosure {
        startSet = map node start;
        operator = found: map node (locals found.package);
      }
    );

  # The lock file with other versions of our own packages, `versions` being by "name version".
  withVersions =
    versions: lock:
    let
      changed =
        package:
        let
          version = versions."${package.name} ${package.version}" or package.version;
          dependency =
            written:
            let
              parts = text.split " " written;
            in
            if builtins.length parts == 2 && versions ? ${written} then
              "${builtins.head parts} ${versions.${written}}"
            else
              written;
        in
        (if isLocal package then package // { inherit version; } else package)
        // text.optionalAttrs (package ? dependencies) { dependencies = map dependency package.dependencies; };
    in
    lock // { package = map changed (packages lock); };

  # In cargo's own form: there are readers that go line by line.
  write =
    lock:
    let
      field = package: name: text.optionalString (package ? ${name}) "${name} = ${builtins.toJSON package.${name}}\n";
      list =
        package: name:
        text.optionalString (package.${name} or [ ] != [ ]) (
          "${name} = [\n${builtins.concatStringsSep "" (map (entry: " ${builtins.toJSON entry},\n") package.${name})}]\n"
        );
      entry =
        package:
        "\n[[package]]\n"
        + builtins.concatStringsSep "" (
          map (field package) [
            "name"
            "version"
            "source"
            "checksum"
          ]
        )
        + list package "dependencies"
        + field package "replace";
    in
    text.optionalString (lock ? version) "version = ${toString lock.version}\n"
    + builtins.concatStringsSep "" (map entry (packages lock))
    + toml (
      builtins.removeAttrs lock [
        "package"
        "version"
      ]
    );
}
