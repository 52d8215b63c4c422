#!/bin/sh
# Builds the simulated driver: build.sh OUT_DIR [plain|address|thread] [KERNEL_DIR]
# address: with the address and undefined-behaviour sanitizers; thread: with the thread sanitizer.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
kernels=${3:-$here/../kernels}
case ${2:-plain} in
plain) flags="-O2" ;;
address) flags="-O1 -g -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all" ;;
thread) flags="-O1 -g -fsanitize=thread -Wno-tsan" ;;
*) echo "build.sh: plain, address or thread" >&2; exit 2 ;;
esac
mkdir -p "$out"
# Nothing contracted: the products and sums of the kernels round one by one.
# shellcheck disable=SC2086
g++ -std=c++17 $flags -ffp-contract=off -fno-strict-aliasing -Wall -Wextra -Werror -Wno-unknown-pragmas -fPIC -shared \
    -Wl,-soname,libcuda.so -I"$here" -I"$kernels" "$here/driver.cpp" -o "$out/libcuda.so"
