#!/usr/bin/env bash
# Speed of this build of the codec against that of commit 35aee92, the last of format 0.1, in one run.
#   codec/compare/run.sh 20 30 'hadamard|q=4' 'identity|q=4'
# that is, of 2^20 values, the best of 30.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/old" "$work/src"
git -C "$root" archive 35aee92 | tar -x -C "$work/old"
cp "$here/main.rs" "$work/src/"
cp "$root/Cargo.lock" "$work/"
cat > "$work/Cargo.toml" <<END
[package]
name = "compare"
version = "0.0.0"
edition = "2024"
[workspace]
exclude = ["old"]
[dependencies]
bytemuck = "1"
new = { package = "fedpress", path = "$root/codec" }
old = { package = "fedpress", path = "old/codec" }
END
cargo run --quiet --release --manifest-path "$work/Cargo.toml" -- "$@"
