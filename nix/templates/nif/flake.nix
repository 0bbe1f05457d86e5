{
  description = "An Elixir application with a NIF in Rust";

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
    in
    {
      packages = forEachSystem (
        pkgs:
        let
          nixcacheLib = nixcache.lib.mkLib { inherit pkgs; };
        in
        {
          # From source. Everyone else fetches what this made, with no Rust on the machine:
          #   nixcacheLib.fetchNif { lock = ./nixcache.lock; nif = "demo_nif"; caches = [ "https://cache.example" ]; }
          default = nixcacheLib.buildNif { src = ./native/demo_nif; };
        }
      );
    };
}
