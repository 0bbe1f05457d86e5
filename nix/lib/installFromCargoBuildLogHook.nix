# Installs programs and C libraries that cargo says it built.
{ internal }:
internal.mkHook {
  name = "install-from-cargo-build-log-hook";
  file = ../hooks/install-from-log.sh;
}
