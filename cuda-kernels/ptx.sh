#!/usr/bin/env bash
# The kernels as PTX, by the pinned nvcc from PyPI; no GPU, no CUDA installation. Needs python3.
#   ptx.sh           writes ptx/*.ptx and ptx/VERSIONS
#   ptx.sh --check   compares them with what the sources give, and judges the code:
#                    - no arithmetic that the compiler may contract, none contracted, no approximate
#                      operation
#                    - no more registers than ptx/BUDGET says; no spills, no stack, no local memory
#   ptx.sh --count   instructions for each value of the fused kernels, f32 in, and what share of the speed
#                    of a copy they leave room for on an H200 (132 multiprocessors, 1.755 GHz, 128
#                    instructions a clock, 4.3e12 bytes copied a second); see PERFORMANCE.md
# Exit code 69: the compiler cannot be fetched.
# KERNELS=FOLDER takes the sources from elsewhere (negative.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
kernels=${KERNELS:-$here/kernels}
# SOURCE, or SOURCE_K: the kernels of blocks of 2^K alone.
files=(hadamard_{8..15} kashin_{8..14} general)
flags=(-std=c++17 -fmad=false -ftz=false -prec-div=true -prec-sqrt=true)
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86)
venv=$root/target/cuda-venv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() {
    if [ "$(cat "$venv/wheels" 2>/dev/null)" != "${wheels[*]}" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "${wheels[@]}" || {
            # Only where nothing can be fetched: a wheel that has gone is an error.
            "$venv/bin/pip" download --quiet --no-deps --dest "$work" pip && exit 1
            echo "ptx.sh: PyPI cannot be reached" >&2
            exit 69
        }
        echo "${wheels[*]}" > "$venv/wheels"
    fi
    CUDA=$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)
    export CUDA PATH=$CUDA/bin:$PATH
}

generate() { # folder
    for file in "${files[@]}"; do
        size=()
        case $file in *_*) size=(-DBLOCK_LOG2="${file#*_}") ;; esac
        nvcc "${flags[@]}" "${size[@]}" -ptx -arch=compute_80 "$kernels/${file%_*}.cu" -o "$1/$file.compute_80.ptx"
    done
    {
        echo "nvcc $(nvcc --version | sed -n 's/.*, V//p')"
        echo "flags ${flags[*]} -arch=compute_80"
        (cd "$kernels" && sha256sum ./*.cu ./*.cuh | sed 's|\./||')
    } > "$1/VERSIONS"
}

# name, registers, stack, spill stores, spill loads of every kernel, by what ptxas says
resources() { # architecture
    for file in "${files[@]}"; do
        ptxas -v -arch="$1" "$work/$file.compute_80.ptx" -o "$work/$file.$1.cubin" 2>&1
    done | awk '/Compiling entry function/ { split($0, quoted, "\047"); name = quoted[2] }
        /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
        / Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used") print name, $(i + 1), stack, stores, loads }'
}

failed=0
fail() {
    echo "ptx.sh: $*" >&2
    failed=1
}

check_same() {
    for file in "${files[@]/%/.compute_80.ptx}" VERSIONS; do
        cmp -s "$work/$file" "$here/ptx/$file" || fail "ptx/$file is not what kernels/ gives; run ptx.sh"
    done
}

# Contraction is allowed for add, sub and mul without a rounding mode, and happens for nothing else.
check_arithmetic() {
    for file in "${files[@]}"; do
        grep -nE '^\s*(@!?%\w+ )?(add|sub|mul|mad)\.f(32|64)' "$work/$file.compute_80.ptx" &&
            fail "$file: arithmetic without a rounding mode"
        grep -nE '\.approx|\.full|\.ftz|\bex2\.|\blg2\.|\brsqrt\.|\bsin\.|\bcos\.' "$work/$file.compute_80.ptx" &&
            fail "$file: approximate arithmetic"
        grep -nE '\bfma\.' "$work/$file.compute_80.ptx" && fail "$file: fused operations"
    done
    return 0
}

check_resources() { # architecture
    resources "$1" > "$work/resources"
    [ "$(wc -l < "$work/resources")" = "$(grep -c . "$here/ptx/BUDGET")" ] || fail "$1: kernels missing from ptx/BUDGET"
    while read -r name registers stack stores loads; do
        budget=$(awk -v name="$name" '$1 == name { print $2 }' "$here/ptx/BUDGET")
        [ "$registers" -le "${budget:-0}" ] || fail "$1 $name: $registers registers, expected at most ${budget:-0}"
        [ "$stack$stores$loads" = 000 ] || fail "$1 $name: stack $stack, spills $stores and $loads bytes"
    done < "$work/resources"
    for file in "${files[@]}"; do
        cuobjdump -sass "$work/$file.$1.cubin" > "$work/$file.$1.sass"
        grep -qE '\b(LDL|STL)\b' "$work/$file.$1.sass" && fail "$1 $file: local memory"
    done
    return 0
}

# Kernels of one case, all else compiled away, so that nearly all that is counted is executed. Behind
# the last EXIT stand the slow paths of divisions, which no ordinary value takes: they do not count.
count_case() { # case, name of encoding, name of decoding, bytes that move for a value
    nvcc "${flags[@]}" -DCOUNTED_CASE="$1" -cubin -arch=sm_90 "$kernels/hadamard.cu" -o "$work/count.cubin"
    cuobjdump -sass "$work/count.cubin" | awk -v encode="$2" -v decode="$3" -v bytes="$4" '
        /Function :/ { since = since_exchange = 0; name = $3; sub("encode_blocks", encode, name); sub("decode_blocks", decode, name) }
        /^ +\/\*[0-9a-f]+\*\/ / {
            op = $2 ~ /^@/ ? $3 : $2
            sub(/[.;].*/, "", op)
            if (op == "NOP") next
            since++
            if (op ~ /^(LDS|STS|SHFL)$/) since_exchange++
            if (op != "EXIT") next
            n[name] += since
            exchange[name] += since_exchange
            since = since_exchange = 0
        }
        END {
            for (name in n) {
                each = n[name] / 32
                fit = bytes * 132 * 1.755e9 * 128 / 4.3e12
                share = fit < each ? 100 * fit / each : 100
                printf "%s %.1f %.1f %.1f %.0f %.0f%%\n", name, each, exchange[name] / 32, bytes, fit, share
            }
        }' | sort -V
}

count() {
    echo "for one value: kernel, instructions, exchange, bytes, instructions that fit, share of a copy at most"
    count_case 1 encode_q4 decode_q4 4.5
    count_case 2 rotate unrotate 8
}

install
case ${1:-} in
"") generate "$here/ptx" ;;
--check)
    generate "$work"
    check_same
    check_arithmetic
    check_resources sm_80
    check_resources sm_90
    [ $failed = 0 ] && echo "ptx.sh: $(grep -c . "$here/ptx/BUDGET") kernels as checked in, within their budgets"
    exit $failed
    ;;
--count) count ;;
*)
    echo "ptx.sh [--check|--count]" >&2
    exit 2
    ;;
esac
