# `cargo nextest run`. With `partitions`, the tests are built once and run in as many derivations.
{
  internal,
  mkCargoDerivation,
  cargo-nextest,
}:
{
  cargoExtraArgs ? "",
  cargoNextestExtraArgs ? "",
  cargoNextestPartitionsExtraArgs ? "",
  partitions ? 1,
  partitionType ? "count",
  ...
}@args:
let
  passed = builtins.removeAttrs args [
    "cargoExtraArgs"
    "cargoNextestExtraArgs"
    "cargoNextestPartitionsExtraArgs"
    "partitions"
    "partitionType"
  ];
  derivation =
    {
      command,
      suffix,
      more ? { },
    }:
    mkCargoDerivation (
      passed
      // {
        doCheck = args.doCheck or true;
        pnameSuffix = "-nextest${suffix}";
        buildPhaseCargoCommand = "mkdir -p $out\ncargo nextest --version";
        checkPhaseCargoCommand = command;
        nativeBuildInputs = args.nativeBuildInputs or [ ] ++ [ cargo-nextest ];
        env = {
          # A bar that is drawn again and again is no use in a log.
          NEXTEST_SHOW_PROGRESS = args.NEXTEST_SHOW_PROGRESS or "counter";
        }
        // args.env or { };
      }
      // more
    );
  profile = "\${CARGO_PROFILE:+--cargo-profile $CARGO_PROFILE}";
  archive = derivation {
    command = "cargo nextest archive ${profile} ${cargoExtraArgs} ${cargoNextestExtraArgs} --archive-file $out/archive.tar.zst";
    suffix = "-archive";
  };
  partition =
    number:
    derivation {
      command = ''
        cargo nextest run --archive-file ${archive}/archive.tar.zst --workspace-remap . \
          --partition ${partitionType}:${toString number}/${toString partitions} ${cargoNextestPartitionsExtraArgs}
      '';
      suffix = "-p${toString number}";
      more = {
        # All of it is in the archive.
        cargoArtifacts = null;
        doInstallCargoArtifacts = false;
      };
    };
in
if partitions < 1 then
  throw "nixcache: cargoNextest runs in ${toString partitions} partitions; there must be one at least."
else if partitions == 1 then
  derivation {
    command = "cargo nextest run ${profile} ${cargoExtraArgs} ${cargoNextestExtraArgs} ${cargoNextestPartitionsExtraArgs}";
    suffix = "";
  }
else
  internal.runScript "cargo-nextest-tests" { } ''
    mkdir -p $out
    ls -d ${builtins.concatStringsSep " " (builtins.genList (index: "${partition (index + 1)}") partitions)}
  ''
