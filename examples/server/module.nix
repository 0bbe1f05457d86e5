# A binary cache of cargo nixcache, as a NixOS module.
#
#     imports = [ ./module.nix ];
#     services.nixcache = {
#       enable = true;
#       package = <the cargo-nixcache of your choice>;
#       signingKeyFile = "/run/keys/nixcache.secret";
#       keepSize = "200GiB";
#     };
#
# Tokens are made on the machine, and count at once:
#
#     sudo -u nixcache cargo-nixcache nixcache serve token add ci --scope write --tokens /var/lib/nixcache/tokens.toml
#
# docs/server.md says what the server does. With `s3` in place of `dataDir` any number of machines can share a bucket.
{ config, lib, pkgs, ... }:
let
  inherit (lib) escapeShellArgs getExe' mkEnableOption mkIf mkOption optional optionalAttrs types;
  cfg = config.services.nixcache;

  # What systemd would take for a specifier.
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];
  given = variable: value: optionalAttrs (value != null) { ${variable} = literal (toString value); };

  bucket =
    let
      parameter = name: value: if value == null then [ ] else [ "${name}=${value}" ];
      parameters =
        parameter "region" cfg.s3.region
        ++ parameter "endpoint" cfg.s3.endpoint
        ++ parameter "scheme" cfg.s3.scheme
        ++ parameter "addressing-style" cfg.s3.addressingStyle;
    in
    "s3://${cfg.s3.bucket}"
    + (if parameters == [ ] then "" else "?" + builtins.concatStringsSep "&" parameters);

  optionalText = description: mkOption {
    type = types.nullOr types.str;
    default = null;
    inherit description;
  };
in
{
  options.services.nixcache = {
    enable = mkEnableOption "the binary cache server of cargo nixcache";

    package = mkOption {
      type = types.package;
      description = "The package that has `bin/cargo-nixcache`.";
    };

    listen = mkOption {
      type = types.str;
      default = "127.0.0.1:8080";
      example = "[::]:443";
      description = "Where to listen: address and port.";
    };

    dataDir = mkOption {
      type = types.nullOr types.str;
      default = "/var/lib/nixcache/data";
      description = "Where the cache's files are. Outside of `/var/lib/nixcache` it must be there, and be the user's.";
    };

    s3 = mkOption {
      default = null;
      description = "The bucket with the cache's files, in place of `dataDir`.";
      type = types.nullOr (types.submodule {
        options = {
          bucket = mkOption {
            type = types.str;
            description = "Its name.";
          };
          region = optionalText "Its region.";
          endpoint = optionalText "The host, and port, of a store that isn't Amazon's.";
          scheme = mkOption {
            type = types.nullOr (types.enum [ "http" "https" ]);
            default = null;
            description = "How the endpoint is spoken to; https unless it is said.";
          };
          addressingStyle = mkOption {
            type = types.nullOr (types.enum [ "path" "virtual" ]);
            default = null;
            description = "Whether the bucket is part of the path or of the host; of the path unless it is said.";
          };
          environmentFile = optionalText ''
            A file with `AWS_ACCESS_KEY_ID=…` and `AWS_SECRET_ACCESS_KEY=…`, which only root needs to read.
          '';
        };
      });
    };

    tokensFile = mkOption {
      type = types.nullOr types.str;
      default = "/var/lib/nixcache/tokens.toml";
      description = ''
        The file of tokens, which holds their hashes alone. Without it nobody may upload. The user must be able to read
        it; a file that isn't there has no tokens.
      '';
    };

    signingKeyFile = optionalText ''
      The secret key that signs every narinfo that is uploaded, which only root needs to read.
    '';

    publicReading = mkOption {
      type = types.bool;
      default = true;
      description = "Whether anyone may read. Otherwise it needs a token with the scope `read`.";
    };

    trustedKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "If there are any, only narinfos that one of these keys has signed are taken.";
    };

    priority = mkOption {
      type = types.ints.unsigned;
      default = 30;
      description = "Clients ask caches with lower numbers first; cache.nixos.org has 40.";
    };

    tls = mkOption {
      default = null;
      description = ''
        Certificate and key, in PEM. The user must be able to read them (`users.users.nixcache.extraGroups`); renewed
        ones count at once.
      '';
      type = types.nullOr (types.submodule {
        options = {
          certificate = mkOption {
            type = types.str;
            description = "The file of the certificate, with its chain.";
          };
          key = mkOption {
            type = types.str;
            description = "The file of its key.";
          };
        };
      });
    };

    keepSize = optionalText "Garbage collection drops what was not used for longest until everything fits this size.";
    keepTime = optionalText "Garbage collection drops what was not used for this long, such as `90d`.";
    gcEvery = mkOption {
      type = types.nullOr types.str;
      default = "1d";
      description = "How often garbage is collected.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--upstream" "https://cache.nixos.org" "--upstream-key" "cache.nixos.org-1:…" ];
      description = "More options of `cargo nixcache serve`.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.dataDir == null) != (cfg.s3 == null);
        message = "services.nixcache: set one of dataDir and s3, and the other one to null";
      }
      {
        assertion = cfg.publicReading || cfg.tokensFile != null;
        message = "services.nixcache: reading with tokens needs tokensFile";
      }
    ];

    environment.systemPackages = [ cfg.package ];

    users.users.nixcache = {
      isSystemUser = true;
      group = "nixcache";
      home = "/var/lib/nixcache";
    };
    users.groups.nixcache = { };

    systemd.services.nixcache = {
      description = "Binary cache of cargo nixcache";
      documentation = [ "https://github.com/cargo-nixcache/cargo-nixcache/blob/main/docs/server.md" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      environment =
        {
          NIXCACHE_SERVE_LISTEN = literal cfg.listen;
          NIXCACHE_SERVE_PRIORITY = toString cfg.priority;
        }
        // given "NIXCACHE_SERVE_DATA" (if cfg.s3 != null then bucket else cfg.dataDir)
        // given "NIXCACHE_SERVE_TOKENS" cfg.tokensFile
        // given "NIXCACHE_SERVE_KEEP_SIZE" cfg.keepSize
        // given "NIXCACHE_SERVE_KEEP_TIME" cfg.keepTime
        // given "NIXCACHE_SERVE_GC_EVERY" cfg.gcEvery
        // optionalAttrs (!cfg.publicReading) { NIXCACHE_SERVE_PRIVATE = "true"; }
        // optionalAttrs (cfg.trustedKeys != [ ]) {
          NIXCACHE_SERVE_TRUSTED_KEYS = literal (builtins.concatStringsSep " " cfg.trustedKeys);
        }
        // optionalAttrs (cfg.tls != null) {
          NIXCACHE_SERVE_TLS_CERTIFICATE = literal cfg.tls.certificate;
          NIXCACHE_SERVE_TLS_KEY = literal cfg.tls.key;
        }
        # The directory of the unit's credentials.
        // optionalAttrs (cfg.signingKeyFile != null) { NIXCACHE_SERVE_SIGNING_KEY = "%d/signing-key"; };

      serviceConfig =
        {
          ExecStart = escapeShellArgs (
            [ (getExe' cfg.package "cargo-nixcache") "nixcache" "serve" ] ++ map literal cfg.extraArgs
          );
          Restart = "on-failure";
          # Requests that are running get a minute to end.
          KillSignal = "SIGTERM";
          TimeoutStopSec = 90;

          User = "nixcache";
          Group = "nixcache";
          StateDirectory = "nixcache";
          UMask = "0077";
          LimitNOFILE = 4096;
          LoadCredential = optional (cfg.signingKeyFile != null) "signing-key:${cfg.signingKeyFile}";
          ReadWritePaths = optional (cfg.dataDir != null) "-${cfg.dataDir}";

          # Ports below 1024, and nothing else.
          AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
          CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
          NoNewPrivileges = true;
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateTmp = true;
          PrivateDevices = true;
          ProtectClock = true;
          ProtectHostname = true;
          ProtectKernelTunables = true;
          ProtectKernelModules = true;
          ProtectKernelLogs = true;
          ProtectControlGroups = true;
          ProtectProc = "invisible";
          ProcSubset = "pid";
          RestrictAddressFamilies = [ "AF_INET" "AF_INET6" ];
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [ "@system-service" "~@privileged" ];
        }
        // optionalAttrs (cfg.s3 != null && cfg.s3.environmentFile != null) {
          EnvironmentFile = cfg.s3.environmentFile;
        };
    };
  };
}
