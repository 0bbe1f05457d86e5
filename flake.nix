{
  description = "Restores what cargo already built, from a Nix binary cache";

  inputs = {
    # `inputs.nixcache.inputs.nixpkgs.follows = "nixpkgs"` puts yours in its place.
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    # Read only where somebody builds through crane: `mkLib { inherit pkgs; withCrane = true; }`.
    crane.url = "github:ipetkov/crane";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      systems = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-darwin"
        "x86_64-linux"
      ];
      # Of a nixpkgs that has fewer systems, those that it has.
      pkgsOf = nixpkgs.legacyPackages;
      forEachSystem =
        function:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = function pkgsOf.${system};
          }) (builtins.filter (system: pkgsOf ? ${system}) systems)
        );

      mkLib =
        {
          pkgs,
          craneLib ? null,
          # Build through the `crane` of this flake's inputs.
          withCrane ? false,
          cargo-nixcache ? package pkgs,
        }:
        import ./nix/lib.nix {
          inherit pkgs cargo-nixcache;
          craneLib = if craneLib == null && withCrane then crane.mkLib pkgs else craneLib;
        };

      # The program needs no cache to be built.
      package =
        pkgs:
        let
          nixcacheLib = import ./nix/lib.nix { inherit pkgs; };
          manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);
          # Of the programs and the tests nothing but the program.
          keep =
            path: type:
            nixcacheLib.filterCargoSources path type
            || builtins.match ".*/crates/.*" (toString path) != null;
        in
        nixcacheLib.buildPackage {
          pname = "cargo-nixcache";
          inherit (manifest.workspace.package) version;
          src = nixcacheLib.internal.sources.clean {
            src = ./.;
            inherit keep;
          };
          cargoExtraArgs = "--locked --package cargo-nixcache";
          # They want caches, servers and another cargo: `tests/run` runs them.
          doCheck = false;
          meta.mainProgram = "cargo-nixcache";
        };
    in
    {
      lib = {
        inherit mkLib;
        cacheConfig = import ./nix/lib/cacheConfig.nix { };
      };

      overlays.default = final: _: { cargo-nixcache = package final; };

      packages = forEachSystem (pkgs: rec {
        cargo-nixcache = package pkgs;
        default = cargo-nixcache;
      });

      devShells = forEachSystem (pkgs: {
        default = (import ./nix/lib.nix { inherit pkgs; }).devShell { };
      });

      checks = forEachSystem (pkgs: import ./nix/checks.nix { nixcacheLib = import ./nix/lib.nix { inherit pkgs; }; });

      templates = {
        workspace = {
          path = ./nix/templates/workspace;
          description = "A workspace, package by package, with its dependencies from a cache";
        };
        nif = {
          path = ./nix/templates/nif;
          description = "An Elixir application with a NIF in Rust";
        };
        default = self.templates.workspace;
      };

      nixosModules = {
        server =
          { pkgs, lib, ... }:
          {
            imports = [ ./examples/server/module.nix ];
            # Where nothing else is given.
            services.nixcache.package = lib.mkDefault (package pkgs);
          };
        default = self.nixosModules.server;
      };
    };
}
