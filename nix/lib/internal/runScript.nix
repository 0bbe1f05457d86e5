# A derivation whose output a shell script makes. It has no sources and needs no compiler. The script comes in a file:
# one variable of the environment holds 128 KiB at most.
{ stdenv }:
name: attributes: script:
stdenv.mkDerivation (
  {
    inherit name;
    buildCommand = script;
    preferLocalBuild = true;
    allowSubstitutes = false;
  }
  // attributes
  // {
    passAsFile = [ "buildCommand" ] ++ attributes.passAsFile or [ ];
  }
)
