#!/usr/bin/env bash
# Plants bugs in copies of the kernels, one at a time, and requires that the check meant for each
# reports it: a test of the tests. Takes minutes.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() { # kind; output in $work/log
    case $1 in
    ptx) KERNELS=$work/kernels "$here/ptx.sh" --check ;;
    thread) KERNELS=$work/kernels "$here/sim/check.sh" thread small_blocks small_frames ;;
    *) KERNELS=$work/kernels "$here/sim/check.sh" "$1" small ;;
    esac > "$work/log" 2>&1
}

# plant NAME KIND REPORT FILE SED: after the edit, the check of this kind fails and says REPORT.
plant() {
    rm -rf "$work/kernels"
    cp -r "$here/kernels" "$work/kernels"
    sed -i "$5" "$work/kernels/$4"
    if cmp -s "$here/kernels/$4" "$work/kernels/$4"; then
        echo "FAILED  $1: nothing was planted"
        failed=1
    elif check "$2"; then
        echo "FAILED  $1: $2 was silent"
        failed=1
    elif ! grep -qE "$3" "$work/log"; then
        echo "FAILED  $1: $2 said something else"
        tail -5 "$work/log"
        failed=1
    else
        echo "caught  $1: $2, $(grep -oE "$3" "$work/log" | head -1)"
    fi
}

# The n-th line of a file that holds some text.
line() { grep -nF "$3" "$here/kernels/$1" | sed -n "$2p" | cut -d: -f1; }

first_barrier=$(line tile.cuh 1 '__syncthreads();')
plant "barrier missing between write and read" thread 'data race' tile.cuh "${first_barrier}d"
plant "every thread stores the scale" thread 'data race' block.cuh 's/if (t == 0 \&\& is_there)/if (is_there)/'
plant "a sum overwritten while it is read" thread 'data race' kashin.cu '/before others write where it stands/d'
plant "a barrier that some threads pass by" plain 'deadlock' tile.cuh "${first_barrier}s/__sync/if (t > 31) __sync/"
plant "stages in another order" plain 'streams differ' tile.cuh 's/const int h = 1 << register_bit(b);/const int h = 1 << register_bit(BEGIN + END - 1 - b);/'
plant "one draw for two values" plain 'streams differ' block.cuh 's/odd_half(word)/even_half(word)/'
plant "draws by half a key" plain 'streams differ' common.cuh 's/z = z \* FACTOR32 + high;/z = z * FACTOR32;/'
plant "ties to the upper code" plain 'streams differ' uniform.cuh 's/__float2int_rn(fmaxf(on_grid(grid, x), 0.0f))/floorf(fmaxf(on_grid(grid, x), 0.0f) + 0.5f)/'
plant "a grid that passes zero by" plain 'streams differ' uniform.cuh 's/if (p.nearest) return through_zero(grid, lo, hi);/if (p.nearest) return grid;/'
plant "codes below the lowest" plain 'streams differ' uniform.cuh 's/fmaxf(on_grid(grid, x), 0.0f)/on_grid(grid, x)/'
plant "a level of zero without its sign" plain 'streams differ' uniform.cuh 's/grid.lo = -__fmul_rn(below, grid.step);/grid.lo = __fsub_rn(0.0f, __fmul_rn(below, grid.step));/'
plant "a gain for what all blocks keep" plain '(values|sums) differ' general.cu 's/if (i < p.n_gained) v = /v = /'
plant "one value past the end" address 'heap-buffer-overflow' general.cu 's/if (i >= p.n_values) return;/if (i > p.n_values) return;/'
# Far behind the end: what ASan calls it depends on what lies there.
plant "more signs than there is room for" address 'AddressSanitizer: [A-Za-z-]+' hadamard.cu 's|T::BLOCKS \* T::N / 64; i +=|T::BLOCKS * T::N / 16; i +=|'
plant "a shift by the width of the word" address 'shift exponent' hadamard.cu 's/flip(v\[r\], signs >> r)/flip(v[r], signs >> (r + 1))/'
plant "a sum that may be contracted" ptx 'without a rounding mode' common.cuh 's/max.NaN.f32/add.f32/'
plant "a fused product and sum" ptx 'fused operations' uniform.cuh 's/return __fadd_rn(lo, __fmul_rn((float)(int)code, step));/return __fmaf_rn((float)(int)code, step, lo);/'
plant "an approximate division" ptx 'approximate arithmetic' uniform.cuh 's/: __fdiv_rn(grid.top, range)/: __fdividef(grid.top, range)/'
plant "too few registers" ptx 'spills' hadamard.cu 's|1024 / Tile<K>::LAUNCH)|1536 / Tile<K>::LAUNCH)|'
plant "kernels that are not those checked in" ptx 'is not what kernels/ gives' common.cuh 's/const u64 INCREMENT = 0x9E/const u64 INCREMENT = 0x8E/'
exit $failed
