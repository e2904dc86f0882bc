# The words of everyday work; `just` lists them.

target := arch() + "-unknown-linux-musl"

_default:
    @just --list

# Everything CI runs: format, clippy, tests.
check:
    ./test

# Only the tests whose name contains one of NAMES.
test +NAMES:
    ./test {{ NAMES }}

# Back up, wreck and restore a clinic on a service in this process.
demo *OPTIONS:
    cargo run --release -- demo {{ OPTIONS }}

# Beside the peers, as ratios.
bench *OPTIONS:
    bench/run {{ OPTIONS }}

# Format the sources.
fmt:
    cargo fmt --all

# A static binary. It needs the musl target of Rust and, for the C in SQLite, zstd and ring, musl-gcc:
# `rustup target add x86_64-unknown-linux-musl` and `apt-get install musl-tools`.
dist:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v musl-gcc >/dev/null || { echo "musl-gcc is missing: apt-get install musl-tools" >&2; exit 2; }
    [[ -d $(rustc --print sysroot)/lib/rustlib/{{ target }} ]] ||
        { echo "the target is missing: rustup target add {{ target }}" >&2; exit 2; }
    CC_{{ replace(target, "-", "_") }}=musl-gcc cargo build --release --locked --target {{ target }} -p nexus
    ls -l target/{{ target }}/release/nexus
