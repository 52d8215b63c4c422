#!/usr/bin/env python3
"""Kills, fills and closes: what `fedpress encode` and `decode` leave behind when the world fails.

Usage: faults.py PROGRAM [REPETITIONS [MEGABYTES]]. Prints a line per case; exits 1 on a violation.
Needs Python 3.9 and a Unix, nothing else.
"""

import array
import filecmp
import json
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

NOBODY = 65534
RAW = ["--dtype", "f32", "--shape", "-1"]
ENCODE = ["encode", "values.raw", *RAW, "--spec", "hadamard|q=4|zstd", "--private-seed", "1"]
DECODE = ["decode", "stream.fp", "--to", "raw"]


def listen():
    """What the child begins with, however this script was started: no signal is ignored."""
    for number in [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]:
        signal.signal(number, signal.SIG_DFL)


class Faults:
    """A folder with a large tensor, its stream, an output to replace, and what was found wrong."""

    def __init__(self, program, repetitions, megabytes, folder):
        self.folder = folder
        self.program = folder / "fedpress"
        shutil.copy(program, self.program)  # where an unprivileged user can run it
        self.repetitions = repetitions
        self.violations = 0
        self.write_values(megabytes)
        self.work = folder / "work"
        self.work.mkdir()
        for name in ["values.raw", "stream.fp"]:
            (self.work / name).symlink_to(folder / name)
        self.run([*ENCODE, "-o", "../stream.fp"], cwd=self.work, check=True)
        self.run([*DECODE, "-o", "../copy.raw"], cwd=self.work, check=True)
        shutil.copy(folder / "stream.fp", folder / "stream.expected")
        shutil.copy(folder / "values.raw", folder / "values.expected")
        (folder / "old").write_bytes(random.randbytes(1 << 20))
        self.restore()

    def write_values(self, megabytes):
        """Normal values; repeating a megabyte of them does not matter, chunks are coded alone."""
        values = array.array("f", (random.gauss(0.0, 1.0) for _ in range(1 << 18)))
        with open(self.folder / "values.raw", "wb") as file:
            for _ in range(megabytes):
                values = values[4_099:] + values[:4_099]
                values.tofile(file)

    def run(self, words, **more):
        more = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
        return subprocess.run([self.program, *words], stdin=subprocess.DEVNULL, **more)

    def restore(self):
        shutil.copy(self.folder / "old", self.work / "out")

    def same(self, a, b):
        return filecmp.cmp(self.folder / a, self.folder / b, shallow=False)

    def report(self, name, problems, text):
        self.violations += len(problems)
        print(f"{'FAILED' if problems else 'ok':<7}{name:<24}{text}", flush=True)
        for problem in problems[:5]:
            print(f"       {problem}", flush=True)

    def leftovers(self, problems, run):
        """Removes temporary files and returns how many there were; anything else is a violation."""
        n = 0
        for name in set(os.listdir(self.work)) - {"values.raw", "stream.fp", "out"}:
            if not (name.startswith(".fedpress-") and name.endswith(".tmp")):
                problems.append(f"run {run}: there is {name!r}")
            (self.work / name).unlink()
            n += 1
        return n

    def inputs(self, problems):
        for name in ["values", "stream"]:
            given = {"values": "values.raw", "stream": "stream.fp"}[name]
            if not self.same(given, f"{name}.expected"):
                problems.append(f"{given} was changed")

    def duration(self, words):
        """Seconds of the quickest of three undisturbed runs."""
        times = []
        for _ in range(3):
            start = time.monotonic()
            self.run(words, cwd=self.work, check=True)
            times.append(time.monotonic() - start)
        self.restore()
        return min(times)

    def signals(self, command, expected, number):
        """A signal at any moment of a run, and a little later, over an output that is there."""
        words = [*command, "-o", "out", "-f", "-q"]
        seconds = self.duration(words)
        counts = {"stopped": 0, "early": 0, "finished": 0, "old": 0, "new": 0, "temporary": 0}
        problems = []
        for run in range(self.repetitions):
            # One run in every slice of the time, so that no phase is left out.
            delay = (run + random.random()) / self.repetitions * 1.15 * seconds
            child = subprocess.Popen(
                [self.program, *words],
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=listen,
            )
            time.sleep(delay)
            child.send_signal(number)
            code = child.wait(60)
            old, new = self.same("work/out", "old"), self.same("work/out", expected)
            counts["old"] += old
            counts["new"] += new
            if not old and not new:
                problems.append(f"run {run}, after {delay:.4f} s: the output is neither old nor new")
            left = self.leftovers(problems, run)
            counts["temporary"] += left
            if code == 0:
                counts["finished"] += 1
                legal = new
            elif number == signal.SIGKILL:
                counts["stopped"] += 1
                legal = code == -number
            elif code == -number:
                counts["early"] += 1  # before the program had said what to do with it
                legal = old
            else:
                counts["stopped"] += 1
                legal = code == 130 and old
            if not legal:
                state = "old" if old else "new" if new else "damaged"
                problems.append(f"run {run}, after {delay:.4f} s: exit code {code}, {state} output")
            if left > 0 and (number != signal.SIGKILL or left > 1):
                problems.append(f"run {run}, after {delay:.4f} s: {left} temporary files")
            if not old:
                self.restore()
        self.inputs(problems)
        if counts["stopped"] < self.repetitions // 8:
            problems.append("too few signals came while the program was working")
        text = ", ".join(f"{n} {what}" for what, n in counts.items())
        name = f"{signal.Signals(number).name} {command[0]}"
        self.report(name, problems, f"{self.repetitions} runs of {seconds:.2f} s: {text}")

    def shards(self):
        """An interrupt at any moment while shards are written: all of them are there, or nothing is."""
        folder, out, n, size = self.folder / "shards", self.folder / "shards/out", 24, 1 << 20
        out.mkdir(parents=True)
        header = {f"w{i}": {"dtype": "F32", "shape": [size // 4], "data_offsets": [i * size, (i + 1) * size]}
                  for i in range(n)}
        text = json.dumps(header).encode()
        values = array.array("f", (random.gauss(0, 1) for _ in range(size // 4))).tobytes()
        with open(folder / "m.safetensors", "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for i in range(n):  # no two alike: such would travel once
                file.write(values[4 * i:] + values[:4 * i])
        self.run(["encode", "m.safetensors", "-o", "m.fp", "-q", "-s", "hadamard|q=4"], cwd=folder, check=True)
        words = ["decode", "m.fp", "-q", "-o", "out/m.safetensors.index.json", "--shard-size", "1M"]
        start = time.monotonic()
        self.run(words, cwd=folder, check=True)
        seconds, problems = time.monotonic() - start, []
        counts = {"nothing": 0, "all": 0}
        for run in range(self.repetitions):
            # One run in every slice of the time, as above.
            shutil.rmtree(out)
            out.mkdir()
            delay = (run + random.random()) / self.repetitions * 1.15 * seconds
            child = subprocess.Popen([self.program, *words], cwd=folder, stderr=subprocess.DEVNULL, preexec_fn=listen)
            time.sleep(delay)
            child.send_signal(signal.SIGINT)
            code, found = child.wait(60), sorted(os.listdir(out))
            if len(found) not in [0, n + 1] or any(name.endswith(".tmp") for name in found):
                problems.append(f"run {run}, after {delay:.4f} s: exit code {code}, {len(found)} files")
            elif code == 0 and not found or code not in [0, 130, -signal.SIGINT]:
                problems.append(f"run {run}, after {delay:.4f} s: exit code {code}, {len(found)} files")
            counts["all" if found else "nothing"] += 1
        if counts["nothing"] < self.repetitions // 8:
            problems.append("too few signals came while the program was working")
        text = ", ".join(f"{n} {what}" for what, n in counts.items())
        self.report("SIGINT shards", problems, f"{self.repetitions} runs of {seconds:.2f} s: {text}")

    def full(self):
        """A device that is full: an i/o error, and a word about it."""
        problems, runs = [], 0
        for command in [ENCODE, DECODE, ["decode", "stream.fp", "--to", "npz"]]:
            for place in ["file", "stdout"]:
                with open("/dev/full", "wb") as full:
                    words = [*command, *(["-o", "/dev/full"] if place == "file" else ["-c"])]
                    more = {"stdout": full} if place == "stdout" else {}
                    done = self.run(words, cwd=self.work, stderr=subprocess.PIPE, **more)
                runs += 1
                if done.returncode != 5 or not done.stderr:
                    problems.append(f"{command[0]} to {place}: {done.returncode}, {done.stderr}")
                if self.leftovers(problems, runs):
                    problems.append(f"{command[0]} to {place}: temporary files")
        self.report("/dev/full", problems, f"{runs} runs, exit code 5")

    def closed(self):
        """A reader that goes away, at once or after some bytes: silence and exit code 5."""
        problems, runs = [], 0
        commands = [[*ENCODE, "-c"], [*DECODE, "-c"], ["decode", "stream.fp", "-c"]]
        for command in [*commands, ["inspect", "stream.fp"], ["man"], ["verify", "stream.fp"]]:
            for taken in [0, 100_000] if "-c" in command else [0]:
                read, write = os.pipe()
                reader = os.fdopen(read, "rb", buffering=0)
                if taken == 0:
                    reader.close()
                child = subprocess.Popen(
                    [self.program, *command],
                    cwd=self.work,
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=subprocess.PIPE,
                )
                os.close(write)
                if taken > 0:
                    while taken > 0:
                        taken -= len(reader.read(taken)) or taken
                    reader.close()
                _, said = child.communicate(timeout=60)
                runs += 1
                if child.returncode != 5 or said:
                    problems.append(f"{command}: {child.returncode}, {said}")
        self.report("closed pipe", problems, f"{runs} runs, exit code 5, silent")

    def locked(self):
        """A folder in which nothing can be created, an output in it that cannot be replaced."""
        locked = self.folder / "locked"
        locked.mkdir()
        shutil.copy(self.folder / "old", locked / "out")
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        problems, runs = [], 0
        for command in [ENCODE, DECODE]:
            for place in [["-o", locked / "out", "-f"], ["-o", locked / "new"]]:
                words = [*command, *place]
                done = self.run(words, cwd=self.work, stderr=subprocess.PIPE, **user)
                runs += 1
                if done.returncode != 5 or b"locked" not in done.stderr:
                    problems.append(f"{command[0]} {place}: {done.returncode}, {done.stderr}")
        if os.listdir(locked) != ["out"] or not self.same("locked/out", "old"):
            problems.append(f"in the folder: {os.listdir(locked)}")
        locked.chmod(0o755)
        self.report("read-only folder", problems, f"{runs} runs, exit code 5, nothing left")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        faults = Faults(sys.argv[1], repetitions, megabytes, pathlib.Path(folder))
        for number in [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]:
            faults.signals(ENCODE, "stream.expected", number)
            faults.signals(DECODE, "copy.raw", number)
        faults.shards()
        faults.full()
        faults.closed()
        faults.locked()
    if faults.violations:
        sys.exit(f"FAILED: {faults.violations} violations")
    print("nothing was violated")


main()
