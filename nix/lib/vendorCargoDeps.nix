# The sources of all third-party packages of a lock file: one directory per source, with a configuration that points
# cargo there (`config.toml`).
#
# Each crate is a download of its own, which survives any change of the lock file. The directory holds plain files and no
# links to other store paths: what a compiler writes down about its sources then is below one path that we know.
{
  internal,
  crateRegistries,
  fetchurl,
}:
{
  # Hashes of git sources, by the `source` of the lock file: `"git+https://…#commit" = "sha256-…"`; or, as nixpkgs has
  # them, by one of its packages: `"name-version" = "sha256-…"`.
  outputHashes ? { },
  # Changes one crate's download: the package in the lock file → its derivation → another.
  overrideVendorCargoPackage ? _: crate: crate,
  ...
}@args:
let
  inherit (internal) text lock gitSources;

  packages = builtins.filter (package: package ? source) (lock.packages (lock.read args));
  ofGit = builtins.filter (package: text.hasPrefix "git+" package.source) packages;
  ofRegistry = builtins.filter (package: !(text.hasPrefix "git+" package.source)) packages;

  short = source: builtins.substring 0 12 (builtins.hashString "sha256" source);
  isCratesIo =
    source:
    source == "registry+https://github.com/rust-lang/crates.io-index" || source == "sparse+https://index.crates.io/";
  directoryOf = source: if isCratesIo source then "crates-io" else short source;

  url =
    package:
    let
      registry =
        crateRegistries.${package.source} or (throw ''
          nixcache: Cargo.lock takes ${package.name} ${package.version} from ${package.source}, which is not known.
          Make it known:
            nixcacheLib.appendCrateRegistries [
              (nixcacheLib.registryFromDownloadUrl { indexUrl = "…"; dl = "…the `dl` of its config.json…"; })
            ]
        '');
      length = builtins.stringLength package.name;
      part = builtins.substring;
      prefix =
        if length <= 2 then
          toString length
        else if length == 3 then
          "3/${part 0 1 package.name}"
        else
          "${part 0 2 package.name}/${part 2 2 package.name}";
      lower = builtins.replaceStrings capitals small;
    in
    {
      inherit (registry) fetchurlExtraArgs;
      url =
        builtins.replaceStrings
          [ "{crate}" "{version}" "{prefix}" "{lowerprefix}" "{sha256-checksum}" ]
          [ package.name package.version prefix (lower prefix) package.checksum ]
          registry.downloadUrl;
    };
  characters = word: builtins.genList (at: builtins.substring at 1 word) (builtins.stringLength word);
  capitals = characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  small = characters "abcdefghijklmnopqrstuvwxyz";

  crate =
    package:
    let
      from = url package;
      checksum =
        package.checksum or (throw ''
          nixcache: Cargo.lock has no checksum for ${package.name} ${package.version}. Write it anew: `cargo update -w`.
        '');
    in
    overrideVendorCargoPackage package (
      fetchurl (
        {
          name = "${package.name}-${package.version}.crate";
          inherit (from) url;
          sha256 = checksum;
          # Nix would say what it got, and not why it wanted something else.
          postFetch = ''
            fetched="$(sha256sum <"$out" | cut -d ' ' -f 1)" || fetched=
            if [ -n "$fetched" ] && [ "$fetched" != ${checksum} ]; then
              cat >&2 <<END
            nixcache: ${package.name} ${package.version} from ${from.url}
            has the checksum $fetched, and Cargo.lock says ${checksum}.
            What was published under a version never changes. If Cargo.lock was edited, take it from version control again, or
            delete the package's entry in it and run \`cargo metadata\`. If it was not, don't build what came: ask the registry.
            END
              exit 1
            fi
          '';
        }
        // from.fetchurlExtraArgs
      )
    );

  registryLine =
    package: "crate ${directoryOf package.source} ${package.name}-${package.version} ${crate package} ${package.checksum}";

  repositories = builtins.mapAttrs (
    source: members:
    let
      names = [ source ] ++ map (package: "${package.name}-${package.version}") members;
      given = builtins.filter (name: outputHashes ? ${name}) names;
      hash = if given == [ ] then null else outputHashes.${builtins.head given};
    in
    gitSources.repository source (gitSources.parse source) hash
  ) (builtins.groupBy (package: package.source) ofGit);
  gitLine =
    package:
    let
      found = gitSources.package repositories.${package.source} package.name;
    in
    "git ${short (gitSources.parse package.source).key} ${package.name}-${package.version} ${found.sources} ${builtins.toFile "Cargo.toml" found.manifest}";

  registrySources = text.unique (map (package: package.source) ofRegistry);
  gitKeys = text.unique (map (package: package.source) ofGit);
  config =
    builtins.concatMap (
      source:
      let
        name = if isCratesIo source then "crates-io" else text.removePrefix "registry+" source;
      in
      [ "[source.${builtins.toJSON name}]" ]
      ++ text.optional (!isCratesIo source) "registry = ${builtins.toJSON name}"
      ++ [
        ''replace-with = "nixcache-${directoryOf source}"''
        "[source.nixcache-${directoryOf source}]"
        ''directory = "@out@/${directoryOf source}"''
      ]
    ) registrySources
    ++ builtins.concatMap (
      source:
      let
        parsed = gitSources.parse source;
      in
      [
        "[source.${builtins.toJSON parsed.key}]"
        "git = ${builtins.toJSON parsed.url}"
      ]
      ++ map (name: "${name} = ${builtins.toJSON parsed.reference.${name}}") (builtins.attrNames parsed.reference)
      ++ [
        ''replace-with = "nixcache-${short parsed.key}"''
        "[source.nixcache-${short parsed.key}]"
        ''directory = "@out@/${short parsed.key}"''
      ]
    ) gitKeys;
in
internal.runScript "vendor-cargo-deps"
  {
    list = text.lines (map registryLine ofRegistry ++ map gitLine ofGit) + "\n";
    config = text.lines config + "\n";
    passAsFile = [
      "list"
      "config"
    ];
  }
  ''
    mkdir -p $out
    while read -r kind directory name from more; do
      mkdir -p "$out/$directory/$name"
      case "$kind" in
        crate)
          tar -xzf "$from" -C "$out/$directory/$name" --strip-components=1
          printf '{"files":{},"package":"%s"}' "$more" >"$out/$directory/$name/.cargo-checksum.json"
          ;;
        git)
          cp -r "$from/." "$out/$directory/$name/"
          chmod -R u+w "$out/$directory/$name"
          cp --no-preserve=mode "$more" "$out/$directory/$name/Cargo.toml"
          printf '{"files":{},"package":null}' >"$out/$directory/$name/.cargo-checksum.json"
          ;;
      esac
    done <"$listPath"
    sed "s|@out@|$out|" "$configPath" >$out/config.toml
  ''
