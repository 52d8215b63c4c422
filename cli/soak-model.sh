#!/usr/bin/env bash
# A large model in shards through `fedpress encode` and `fedpress decode`, and one of very many small tensors.
# Usage: soak-model.sh [PROGRAM]; fails if a process took more than 200 MiB, if encode or decode took more
# than twice the time of cp of the same shards on the same disk, or if what comes back is not what went in.
#
# From the environment: SOAK_GIB (20) of bf16 in shards of 1 GiB, SOAK_SPEC (hadamard|q=4) for them, SOAK_TENSORS
# (500000) small ones, SOAK_BEFORE another program to compare with on these, SOAK_FOLDER where to work (a GiB and
# 1.3 times SOAK_GIB are needed there).
set -euo pipefail

fedpress=$(realpath "${1:-target/release/fedpress}")
gib=${SOAK_GIB:-20}
spec=${SOAK_SPEC:-hadamard|q=4}
tensors=${SOAK_TENSORS:-500000}
limit_mib=200

folder=$(mktemp -d -p "${SOAK_FOLDER:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$folder"' EXIT
failed=0

fail() {
    echo "FAILED: $*" >&2
    failed=1
}

# Runs a command; leaves its seconds, until the file it ends with is on the disk, in $seconds, those of all
# processors in $work, and its peak memory in $peak. (fedpress syncs what it writes.)
measured() {
    read -r seconds work peak < <(python3 - "$@" <<'PYTHON'
import os, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
if os.path.isfile(sys.argv[-1]):
    with open(sys.argv[-1], "rb+") as file:
        os.fsync(file.fileno())
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{time.monotonic() - start:.1f} {used.ru_utime + used.ru_stime:.1f}", used.ru_maxrss >> 10)
sys.exit(code)
PYTHON
    ) && wait $!
}

# So that nothing of these files is in memory.
forget() {
    python3 - "$@" <<'PYTHON'
import os, sys
for path in sys.argv[1:]:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
PYTHON
}

# Shards of 16 matrices of 4096 x 8192 normal values and their index; no two matrices are alike.
shards() {
    python3 - "$folder/in" "$gib" <<'PYTHON'
import array, json, os, random, sys
folder, gib = sys.argv[1], int(sys.argv[2])
random.seed(7)
f32 = array.array("f", (random.gauss(0.0, 0.02) for _ in range(1 << 20))).tobytes()
bf16 = bytearray(len(f32) // 2)
bf16[0::2], bf16[1::2] = f32[2::4], f32[3::4]
os.mkdir(folder)
weight_map = {}
for shard in range(gib):
    name = f"model-{shard + 1:05}-of-{gib:05}.safetensors"
    names = [f"layers.{16 * shard + i}.weight" for i in range(16)]
    entry = lambda i: {"dtype": "BF16", "shape": [4096, 8192], "data_offsets": [i << 26, (i + 1) << 26]}
    header = json.dumps({n: entry(i) for i, n in enumerate(names)}).encode()
    header += b" " * (-len(header) % 8)
    with open(f"{folder}/{name}", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for i in range(16):
            at = 2 * (65537 * (16 * shard + i) % (1 << 20))
            turned = bf16[at:] + bf16[:at]
            for _ in range(32):
                file.write(turned)
    weight_map.update({n: name for n in names})
with open(f"{folder}/model.safetensors.index.json", "w") as file:
    json.dump({"metadata": {"total_size": gib << 30}, "weight_map": weight_map}, file)
PYTHON
}

# Against the seconds of cp and the limit of memory.
judge() {
    local speed
    speed=$(python3 -c "print(f'{$cp / $seconds:.2f}')")
    echo "$1: $seconds s, $speed of the speed of cp (work of $work s), peak $peak MiB"
    python3 -c "exit($seconds > 2 * $cp)" || fail "$1 took more than twice the time of cp"
    [ "$peak" -le $limit_mib ] || fail "$1 took more than $limit_mib MiB"
}

large() {
    shards
    local shard=$folder/in/model-00001-of-$(printf %05d "$gib").safetensors
    forget "$folder"/in/*
    cp=0
    local file cp_work=0
    for file in "$folder"/in/*; do
        measured cp "$file" "$folder/copy"
        cp=$(python3 -c "print(round($cp + $seconds, 1))")
        cp_work=$(python3 -c "print(round($cp_work + $work, 1))")
        rm "$folder/copy"
    done
    echo "$gib GiB of bf16 in $gib shards, $spec; cp: $cp s (work of $cp_work s)"
    forget "$folder"/in/*
    measured "$fedpress" encode -q "$folder/in" -o "$folder/model.fp" -s "$spec" -T 0
    judge encode
    # One shard is enough to compare with, and makes room.
    find "$folder/in" -name '*.safetensors' ! -path "$shard" -delete
    forget "$folder/model.fp"
    mkdir "$folder/out"
    measured "$fedpress" decode -q "$folder/model.fp" -T 0 --shard-size 1G \
        -o "$folder/out/model.safetensors.index.json"
    judge decode
    [ "$(cat "$folder"/out/*.safetensors | wc -c)" -ge $((gib << 30)) ] || fail "bytes are missing"
    "$fedpress" diff "$shard" "$folder/out/$(basename "$shard")" --fail-above nmse=0.05 > /dev/null ||
        fail "what came back is something else"
    rm -r "$folder/in" "$folder/out" "$folder/model.fp"
}

# Matrices of 8 x 4 values.
small_tensors() {
    python3 - "$folder/small.safetensors" "$tensors" <<'PYTHON'
import array, json, random, sys
n = int(sys.argv[2])
random.seed(11)
values = array.array("f", (random.gauss(0.0, 1.0) for _ in range(1 << 20))).tobytes()
entry = lambda i: {"dtype": "F32", "shape": [8, 4], "data_offsets": [128 * i, 128 * (i + 1)]}
header = json.dumps({f"layer.{i}.weight": entry(i) for i in range(n)}).encode()
header += b" " * (-len(header) % 8)
with open(sys.argv[1], "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header)
    while n > 0:
        file.write(values[:128 * n])
        n -= len(values) // 128
PYTHON
}

# Of a program: the least seconds of two runs, of the clock and of all processors.
of_small() {
    local best=(1e9 1e9 1e9 1e9)
    least() { python3 -c "print(min($1, $2))"; }
    for _ in 1 2; do
        measured "$1" encode -q -f "$folder/small.safetensors" -o "$folder/small.fp" -s "$spec" -T "$2"
        best[0]=$(least "${best[0]}" "$seconds") best[1]=$(least "${best[1]}" "$work")
        measured "$1" decode -q -f "$folder/small.fp" -o "$folder/back.safetensors" -T "$2"
        best[2]=$(least "${best[2]}" "$seconds") best[3]=$(least "${best[3]}" "$work")
    done
    echo "$tensors tensors, $1 -T $2: encode ${best[0]} s (work of ${best[1]} s)," \
        "decode ${best[2]} s (work of ${best[3]} s)"
    "$fedpress" diff "$folder/small.safetensors" "$folder/back.safetensors" --fail-above nmse=0 > /dev/null ||
        fail "small tensors did not come back"
    sum=$(python3 -c "print(${best[1]} + ${best[3]})")
}

[ "$gib" -eq 0 ] || large
small_tensors
of_small "$fedpress" 2
of_small "$fedpress" 1
if [ -n "${SOAK_BEFORE:-}" ]; then
    now=$sum
    of_small "$(realpath "$SOAK_BEFORE")" 1
    python3 -c "exit($now > 1.15 * $sum)" || fail "small tensors take more work than before"
fi
exit "$failed"
