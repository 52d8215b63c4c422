#!/bin/sh
# Tests, sanitizers and speed on the GPU of this machine, in under five minutes, without Rust.
#   run-on-gpu.sh --pack FOLDER     on a machine with Rust (and a glibc that is no newer): builds the
#                                   test and bench programs and puts them and this script there
#   run-on-gpu.sh FOLDER [LOGS]     on the machine with the GPU; ends with one table
# Leaves clocks, power and partitions of the card as they are.
set -u
if [ "${1:-}" = --pack ]; then
    folder=${2:?a folder}
    mkdir -p "$folder" || exit
    here=$(cd "$(dirname "$0")" && pwd)
    built=$(mktemp) || exit
    (cd "$here/.." && cargo test --release --locked -p fedpress-cuda --no-run --message-format=json &&
        cargo bench --locked -p fedpress-cuda --no-run --message-format=json) > "$built" || exit
    for name in parity throughput; do
        program=$(sed -n "s|.*\"executable\":\"\\([^\"]*/$name-[^\"]*\\)\".*|\\1|p" "$built" | tail -1)
        cp "$program" "$folder/$name" || exit
    done
    cp "$here/run-on-gpu.sh" "$here/compare.py" "$folder/" || exit
    rm -f "$built"
    echo "packed: copy $folder to the machine with the GPU and run $folder/run-on-gpu.sh $folder"
    exit 0
fi
programs=${1:?the folder that --pack made}
logs=${2:-$programs/logs}
mkdir -p "$logs" || exit
: > "$logs/summary.log"
failed=0
step() { # name, seconds it may take, command
    name=$1 limit=$2 start=$(date +%s)
    shift 2
    timeout "$limit" "$@" > "$logs/$name.log" 2>&1
    status=$?
    echo "$name: exit $status, $(($(date +%s) - start)) s" >> "$logs/summary.log"
    [ $status = 0 ] || { failed=1; echo "== $name failed"; tail -20 "$logs/$name.log"; }
}
has() {
    command -v "$1" > /dev/null && return
    echo "$1: not here, skipped" >> "$logs/summary.log"
    return 1
}
export FEDPRESS_REQUIRE_GPU=1 # a test that finds no device fails
has nvidia-smi && step device 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv
step parity 90 "$programs/parity" streams resident small
if has compute-sanitizer; then
    step memcheck 40 compute-sanitizer --tool memcheck --error-exitcode 9 "$programs/parity" \
        small_blocks small_frames small_stages
    step racecheck 40 compute-sanitizer --tool racecheck --error-exitcode 9 "$programs/parity" small_blocks
fi
step throughput 60 "$programs/throughput" --bench
if has python3; then
    # What others do is not ours to fail for.
    ours=$failed
    step compare 40 python3 -u "$programs/compare.py"
    failed=$ours
fi
for log in device throughput compare summary; do
    [ -f "$logs/$log.log" ] && { echo "== $log"; cat "$logs/$log.log"; }
done
exit $failed
