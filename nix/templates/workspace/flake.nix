{
  description = "A Rust workspace, package by package";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nixcache.url = "github:cargo-nixcache/cargo-nixcache";
    nixcache.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nixcache,
    }:
    let
      systems = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
      forEachSystem =
        function:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = function nixpkgs.legacyPackages.${system};
          }) (builtins.filter (system: nixpkgs.legacyPackages ? ${system}) systems)
        );
      workspaceOf =
        pkgs:
        (nixcache.lib.mkLib { inherit pkgs; }).buildWorkspace {
          src = ./.;
          # What a member needs beside Rust:
          #   members.app.buildInputs = [ pkgs.openssl ];
          # Dependencies that were built elsewhere, by a committed lock file:
          #   warmArtifacts = nixcacheLib.warmArtifacts { lock = ./nixcache.lock; caches = [ "https://cache.example" ]; };
        };
    in
    {
      packages = forEachSystem (
        pkgs:
        let
          workspace = workspaceOf pkgs;
        in
        workspace.packages // { default = workspace.packages.app; }
      );
      checks = forEachSystem (pkgs: (workspaceOf pkgs).checks);
      devShells = forEachSystem (pkgs: {
        default = (nixcache.lib.mkLib { inherit pkgs; }).devShell { };
      });
    };
}
