#!/usr/bin/env bash
# Decodes and encodes on x86-64 (every instruction set level), on aarch64 and on big-endian s390x,
# both emulated, and compares what the program prints. Uses Debian's packages: qemu-user, cross
# compilers, and Debian's own rustc with foreign standard libraries, unpacked beside the toolchain.
# A platform whose packages are gone is named and skipped.
set -uo pipefail
cd "$(dirname "$0")/../.."
export DEBIAN_FRONTEND=noninteractive
golden=codec/assets/v0.2
work=target/cross
mkdir -p "$work"

cargo run --quiet --release -p fedpress-cross -- "$golden" > "$work/x86_64.txt" || exit 1
echo "x86-64: $(wc -l < "$work/x86_64.txt") streams, levels agree"

# platform: Debian architecture, Rust target, C compiler prefix, emulator, rustc packages
run() {
    local arch=$1 target=$2 gcc=$3 qemu=$4 packages=$5 sys=$work/$1/sys
    if [ ! -x "$sys/usr/bin/rustc" ]; then
        dpkg --add-architecture "$arch" && apt-get update -q > /dev/null
        apt-get install -qy qemu-user "gcc-$gcc" "libc6-dev-$arch-cross" > "$work/$arch.log" 2>&1
        mkdir -p "$work/$arch"
        # The list is split on purpose.
        # shellcheck disable=SC2086
        (cd "$work/$arch" && apt-get download $packages >> "../$arch.log" 2>&1) || {
            echo "$arch: SKIPPED, packages not to be had: $packages (see $work/$arch.log)"
            dpkg --remove-architecture "$arch"
            return 0
        }
        for deb in "$work/$arch"/*.deb; do dpkg -x "$deb" "$sys"; done
        dpkg --remove-architecture "$arch"
    fi
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s/usr/lib/x86_64-linux-gnu exec %s/usr/bin/rustc "$@"\n' \
        "$PWD/$sys" "$PWD/$sys" > "$work/$arch/rustc"
    chmod +x "$work/$arch/rustc"
    local upper=${target^^}
    upper=${upper//-/_}
    env "RUSTC=$PWD/$work/$arch/rustc" "CARGO_TARGET_DIR=$work/$arch/target" \
        "CARGO_TARGET_${upper}_LINKER=$gcc-gcc" \
        cargo build --quiet --release -p fedpress-cross --target "$target" || {
        echo "$arch: FAILED to build"
        return 1
    }
    "$qemu" -L "/usr/$gcc" "$work/$arch/target/$target/release/fedpress-cross" "$golden" \
        > "$work/$arch.txt" || return 1
    if cmp -s "$work/x86_64.txt" "$work/$arch.txt"; then
        echo "$arch: equal, $(wc -l < "$work/$arch.txt") streams"
    else
        echo "$arch: DIFFERS"
        diff "$work/x86_64.txt" "$work/$arch.txt" | head
        return 1
    fi
}

failed=0
run arm64 aarch64-unknown-linux-gnu aarch64-linux-gnu qemu-aarch64 \
    "rustc-web libstd-rust-web-1.96 libstd-rust-web-dev libstd-rust-web-dev:arm64 libllvm22" || failed=1
v=1.85.0+dfsg3-1~deb12u3
run s390x s390x-unknown-linux-gnu s390x-linux-gnu qemu-s390x \
    "rustc-web=$v libstd-rust-web-1.85=$v libstd-rust-web-dev=$v libstd-rust-web-dev:s390x=$v libllvm19" || failed=1
exit $failed
