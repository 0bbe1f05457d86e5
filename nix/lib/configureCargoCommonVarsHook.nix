# Cargo's home, its number of jobs, no incremental builds, and the profile.
{ internal }:
internal.mkHook {
  name = "configure-cargo-common-vars-hook";
  file = ../hooks/common-variables.sh;
}
