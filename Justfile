# `just` lists what there is.

default:
    @just --list

# Format, lints, documentation, dependencies, tests: what CI runs.
check:
    ./.ci/run

# Every test; arguments go to cargo test.
test *arguments:
    ./tests/run {{arguments}}

# Cold, then warm, on the example workspace.
demo:
    ./examples/warm/demo

# Medians and ratios on one large workload, with the peers that are installed.
bench *arguments:
    ./bench/run {{arguments}}

# Caches on the same workload, then the server: all numbers about caches (needs curl, zstd, tar, wrk and nginx).
bench-caches *arguments:
    ./bench/caches {{arguments}}
    ./bench/server

# The server beside nginx, and garbage collection of a million paths (needs wrk and nginx).
bench-server *arguments:
    ./bench/server {{arguments}}

# What the Mix compiler costs (needs Elixir).
bench-elixir *arguments:
    ./bench/elixir {{arguments}}

# Build Garage, a distributed S3 store, once, and run the tests that need it: three nodes, one of which dies.
garage *arguments:
    ./tests/garage
    NIXCACHE_TEST_SKIPS=/dev/null cargo test --locked --package nixcache-tests --test s3_garage {{arguments}}

# Build large published crates once, and never again; arguments as in docs/large-crates.md.
large *arguments:
    cargo run --release --locked --package nixcache-tests --bin large -- {{arguments}}
