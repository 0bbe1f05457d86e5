# A workspace, package by package:
#
#   deps                all third-party dependencies of all members, built once
#   packages.<member>   programs and C libraries of a member; depends on its own sources and on those of the members
#                       that it needs, and on nothing else of the workspace
#   nifs.<member>       of members that use rustler: the library that Erlang loads
#   checks.<member>-test, checks.<member>-clippy, checks.fmt
#
# A member's derivation has a second output: what it compiled, for the members that need it. That is a `layer` of the
# target directory; with `warmArtifacts` it is `units`, records that are in place wherever a derivation builds. Cargo
# unifies features by what is selected, so `deps` builds what each member selects, one after the other.
{
  internal,
  mkCargoDerivation,
  vendorCargoDeps,
  cargoFmt,
  clippy,
  forgetStubsHook,
  memberLayersHook,
  restoreHook,
  collectHook,
  installFromCargoBuildLogHook,
  removeReferencesToRustToolchainHook,
  removeReferencesToVendoredSourcesHook,
  buildNif,
}:
{
  src,
  pname ? null,
  cargoExtraArgs ? "--locked",
  # Whether dependencies of tests and lints are built too.
  doCheck ? true,
  # What a member needs beyond the others: `app = { buildInputs = [ … ]; extraPaths = [ "migrations" ]; }`. `extraPaths`
  # are files and directories of `src` outside of the member's own.
  members ? { },
  # Attributes of the dependencies' derivation alone.
  deps ? { },
  # Built units, from the function of the same name.
  warmArtifacts ? null,
  ...
}@args:
let
  inherit (internal) text lock;

  common =
    builtins.removeAttrs args [
      "cargoExtraArgs"
      "deps"
      "doCheck"
      "members"
      "pname"
      "src"
      "warmArtifacts"
    ]
    // {
      cargoVendorDir = args.cargoVendorDir or (vendorCargoDeps args);
      strictDeps = args.strictDeps or true;
    };

  workspace = internal.workspace { inherit src; };
  cargoLock = lock.read args;
  skeleton = internal.skeleton { inherit workspace cargoLock; };
  skeletonSource = internal.dummySource { inherit src skeleton; };

  names = map (package: package.name) workspace.members;
  unknown = builtins.filter (name: !(builtins.elem name names)) (builtins.attrNames members);
  checked =
    if unknown == [ ] then
      workspace.members
    else
      throw ''
        nixcache: buildWorkspace is given attributes for `${builtins.head unknown}`, which is no member of the workspace.
        Its members are: ${builtins.concatStringsSep ", " names}.
      '';

  selection = package: "${cargoExtraArgs} --package ${package.name}";
  workspaceName = if pname != null then pname else args.name or "workspace";

  dependencies = mkCargoDerivation (
    common
    // {
      pname = "${workspaceName}-deps";
      version = "0";
      src = skeletonSource;
      cargoArtifacts = null;
      cargoKeptPackages = skeleton.kept;
      # With units, those are what is handed on.
      doInstallCargoArtifacts = !isWarm;
      inherit doCheck;
      buildPhaseCargoCommand = text.lines (map (package: "cargoWithProfile build ${selection package}") checked);
      checkPhaseCargoCommand = text.lines (
        map (package: ''
          cargoWithProfile check ${selection package} --all-targets
          cargoWithProfile test ${selection package} --no-run
        '') checked
      );
    }
    // text.optionalAttrs isWarm {
      outputs = [
        "out"
        "units"
      ];
    }
    // deps
    // {
      nativeBuildInputs =
        args.nativeBuildInputs or [ ]
        ++ deps.nativeBuildInputs or [ ]
        ++ [ forgetStubsHook ]
        ++ text.optionals isWarm (warmArtifacts.hooks ++ [ collectHook ]);
    }
  );

  isWarm = warmArtifacts != null;
  layerOutput = if isWarm then "units" else "layer";

  # What the derivations of the members that a member needs have compiled.
  layers =
    package:
    let
      directories = builtins.filter (directory: directory != package.directory) (
        workspace.closure (needed: needed.linked) package
      );
    in
    map (directory: derivations.${workspace.byDirectory.${directory}.name}.${layerOutput}) (
      builtins.filter (directory: workspace.byDirectory.${directory}.isMember) directories
    );

  # How a derivation gets what others compiled.
  onTopOf =
    given:
    if isWarm then
      {
        cargoArtifacts = null;
        hooks = [
          (restoreHook {
            inherit (warmArtifacts) list;
            units = [ dependencies.units ] ++ given;
          })
        ];
      }
    else
      {
        cargoArtifacts = dependencies;
        memberLayers = given;
        hooks = [ memberLayersHook ];
      };

  attributesOf =
    package: given:
    let
      own = members.${package.name} or { };
      base = onTopOf given;
    in
    common
    // builtins.removeAttrs own [ "extraPaths" ]
    // builtins.removeAttrs base [ "hooks" ]
    // {
      inherit (package) version;
      src = internal.memberSource {
        inherit
          src
          workspace
          skeletonSource
          skeleton
          cargoLock
          ;
        member = package;
        extraPaths = own.extraPaths or [ ];
      };
      doInstallCargoArtifacts = false;
      nativeBuildInputs = args.nativeBuildInputs or [ ] ++ own.nativeBuildInputs or [ ] ++ base.hooks;
    };

  derivation =
    package:
    let
      attributes = attributesOf package (layers package);
    in
    mkCargoDerivation (
      attributes
      // {
        pname = package.name;
        outputs = [
          "out"
          layerOutput
        ];
        doCheck = false;
        buildPhaseCargoCommand = ''
          cargoBuildLog="$(mktemp "$NIX_BUILD_TOP/cargoBuildLogXXXXXX")"
          cargoWithProfile build --message-format json-render-diagnostics ${selection package} >"$cargoBuildLog"
        '';
        # Of all that cargo built, this member's alone.
        installPhaseCommand = ''
          mkdir -p $out
          grep '"package_id":"[^"]*[/#]${package.name}[@#"]' "$cargoBuildLog" >"$cargoBuildLog.own" || true
          installFromCargoBuildLog $out "$cargoBuildLog.own"
        '';
        doNotPostBuildInstallCargoBinaries = true;
        nativeBuildInputs = attributes.nativeBuildInputs ++ [
          installFromCargoBuildLogHook
          removeReferencesToRustToolchainHook
          removeReferencesToVendoredSourcesHook
        ]
        ++ text.optional isWarm collectHook;
      }
    );
  derivations = builtins.listToAttrs (
    map (package: {
      inherit (package) name;
      value = derivation package;
    }) checked
  );

  # On top of what the member's own derivation compiled.
  check =
    package: suffix: more:
    let
      attributes = attributesOf package (layers package ++ [ derivations.${package.name}.${layerOutput} ]);
    in
    mkCargoDerivation (
      attributes
      // {
        pname = "${package.name}-${suffix}";
      }
      // more attributes
    );
  checksOf = package: [
    {
      name = "${package.name}-test";
      value = check package "test" (_: {
        doCheck = true;
        buildPhaseCargoCommand = "";
        checkPhaseCargoCommand = "cargoWithProfile test ${selection package}";
      });
    }
    {
      name = "${package.name}-clippy";
      value = check package "clippy" (attributes: {
        doCheck = false;
        buildPhaseCargoCommand = "cargoWithProfile clippy ${selection package} --all-targets --no-deps";
        nativeBuildInputs = attributes.nativeBuildInputs ++ [ clippy ];
      });
    }
  ];

  isNif =
    package:
    builtins.elem "cdylib" (package.lib.crate-type or package.lib.crate_type or [ ])
    && package.manifest.dependencies or { } ? rustler;
  hasLib = package: package.lib != null;
in
{
  deps = dependencies;
  packages = derivations;
  nifs = builtins.listToAttrs (
    map (package: {
      inherit (package) name;
      value = buildNif (
        attributesOf package (layers package)
        // {
          pname = package.name;
          inherit cargoExtraArgs;
          crateName = package.lib.name or (text.crateName package.name);
        }
      );
    }) (builtins.filter (package: hasLib package && isNif package) checked)
  );
  checks =
    text.optionalAttrs doCheck (builtins.listToAttrs (builtins.concatMap checksOf checked))
    // {
      fmt = cargoFmt {
        inherit src;
        pname = workspaceName;
        version = "0";
      };
    };
}
