# Stands in for nixpkgs where it can't be reached: `--override-input nixpkgs path:…`.
{
  outputs =
    { self }:
    let
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
    in
    {
      legacyPackages = builtins.listToAttrs (
        map (system: {
          name = system;
          value = import ./. { inherit system; };
        }) systems
      );
    };
}
