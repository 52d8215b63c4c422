#!/usr/bin/env bash
# Runs the laws of tests/parity on the simulated device: check.sh plain|address|thread [FILTER...]
# address and thread: with the sanitizers of build.sh. KERNELS=FOLDER takes the kernels from there,
# SIMT_SEED=N runs their threads in another order. NVRTC=FOLDER, with libnvrtc.so in it: with the feature
# `nvrtc`, so that the sources are compiled at run time (what runs is still the simulation).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kind=${1:?plain, address or thread}
shift
driver=$(mktemp -d)
trap 'rm -rf "$driver"' EXIT
sh "$here/build.sh" "$driver" "$kind" "${KERNELS:-$here/../kernels}"
case $kind in
plain) preload= threads=2 ;;
address) preload=$(g++ -print-file-name=libasan.so) threads=2 ;;
# Rust is not instrumented: one test at a time, and its own synchronisation is passed over.
thread) preload=$(g++ -print-file-name=libtsan.so) threads=1 ;;
esac
cd "$here/../.."
# Only the tests get the environment, not cargo.
features=()
[ -z "${NVRTC:-}" ] || features=(--features nvrtc)
runner="env LD_LIBRARY_PATH=$driver:${NVRTC:-} LD_PRELOAD=$preload FEDPRESS_SIMULATED=1 FEDPRESS_REQUIRE_GPU=1"
runner+=" ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1:suppressions=$here/thread.suppressions"
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner
cargo test --quiet --locked -p fedpress-cuda "${features[@]}" --test parity -- --test-threads "$threads" "$@"
