#!/usr/bin/env bash
# Sends a large tensor through `fedpress encode | fedpress decode` and measures the peak memory of
# both. Usage: soak.sh [GIB [PROGRAM]]; fails if a process took more than 128 MiB.
set -euo pipefail

gib=${1:-4}
fedpress=${2:-target/release/fedpress}
limit_kib=$((128 * 1024))

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# 64 MiB of normal values; repeating them does not matter, chunks know nothing of each other.
python3 - "$folder/values" <<'PYTHON'
import array, random, sys
random.seed(7)
values = array.array("f", (random.gauss(0.0, 1.0) for _ in range(1 << 20)))
with open(sys.argv[1], "wb") as file:
    for _ in range(16):
        values = values[65_537:] + values[:65_537]
        values.tofile(file)
PYTHON

# Runs a command and writes its peak resident memory in KiB to a file.
measured() {
    local to=$1
    shift
    python3 - "$to" "$@" 3<&0 <<'PYTHON'
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:], stdin=3).returncode
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
PYTHON
}

start=$SECONDS
for _ in $(seq $((gib * 16))); do cat "$folder/values"; done |
    measured "$folder/encode" "$fedpress" encode - --dtype f32 --shape -1 -T 2 |
    measured "$folder/decode" "$fedpress" decode - --raw -T 2 |
    wc -c >"$folder/bytes"

bytes=$(cat "$folder/bytes")
echo "$bytes bytes in $((SECONDS - start)) s"
if [ "$bytes" -ne $((gib << 30)) ]; then
    echo "FAILED: $((gib << 30)) bytes were sent" >&2
    exit 1
fi
failed=0
for process in encode decode; do
    peak=$(cat "$folder/$process")
    echo "$process: peak $((peak / 1024)) MiB"
    if [ "$peak" -gt "$limit_kib" ]; then
        echo "FAILED: more than $((limit_kib / 1024)) MiB" >&2
        failed=1
    fi
done
exit "$failed"
