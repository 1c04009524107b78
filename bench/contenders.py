"""Contenders that take turns: child processes that stay alive, so that weights and pages are warm when their turn comes.

A child prints `ready NAME` once it has loaded everything and run once, then answers each line `run` with the seconds of
one run.  (Some answer more: `output FILE` writes what the last run computed; `peak` is for the clock below.)  Rounds
alternate, each starting with another contender, because the speed of a shared machine drifts by more than the
differences of interest: what counts is the median over rounds of (a's time) / (b's time) in the same round.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Spec:
    """How to start a contender."""
    key: str                 # "fdm", "torch 2.13 compile": unique within an experiment
    command: list
    family: str              # fdm, torch, onnx, onednn, blis
    env: dict = field(default_factory=dict)
    error: object = None     # a function (contender) -> RMS error, or None


class Contender:
    def __init__(self, spec, threads, start_limit):
        self.spec, self.key, self.name, self.failure = spec, spec.key, spec.key, None
        self.times, self.peaks = [], []  # seconds; GFLOP/s of the machine right before
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                       "BLIS_NUM_THREADS": str(threads), **spec.env}
        self.complaints = tempfile.TemporaryFile("w+")  # a pipe that nobody reads could fill up
        try:
            self.process = subprocess.Popen(spec.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.complaints, text=True, env=environment)
        except OSError as e:
            self.process, self.failure = None, str(e)
            return
        line = self._first_line(start_limit)
        if not line.startswith("ready "):
            self.process.kill()
            text = self.errors().splitlines()
            self.failure = self.failure or (text[-1][:300] if text else "no answer")
            self.process.wait()
            self.process = None
            return
        self.name = line[len("ready "):].strip()

    def errors(self):
        """What it wrote to stderr so far."""
        self.complaints.seek(0)
        return self.complaints.read().strip()

    def _first_line(self, limit):
        """A child that compiles may take minutes to be ready; one that never is must not stop the bench."""
        timer = threading.Timer(limit, self._give_up, [limit])
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        return line

    def _give_up(self, limit):
        self.failure = f"not ready after {limit:.0f} s"
        self.process.kill()

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline().split()
        if not answer:
            raise SystemExit(f"{self.key} died: {self.errors()[-500:]}")
        return answer

    def run(self):
        self.times.append(float(self.ask("run")[0]))

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def available_mb():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("MemAvailable"))


def start(specs, threads, left_out, start_limit=600):
    """The contenders that are able to start and fit in memory; the others are named in `left_out` with the reason."""
    started, largest = [], 0
    for spec in specs:
        if largest * 1.3 > available_mb():
            left_out[spec.key] = f"not enough memory left ({available_mb():.0f} MB)"
        else:
            c = Contender(spec, threads, start_limit)
            if not c.failure:
                largest = max(largest, c.peak_mb())
                started.append(c)
                say(f"  ready: {spec.key} ({c.name}), {c.peak_mb():.0f} MB")
                continue
            left_out[spec.key] = c.failure
        say(f"  left out: {spec.key}: {left_out[spec.key]}")
    return started


def alternate(contenders, rounds, clock, pause):
    """Runs the rounds, each run right after a measurement of the machine; returns the best (GFLOP/s, GB/s) per round."""
    machine, began = [], time.monotonic()
    for i in range(rounds):
        k = i % len(contenders)
        peaks = []
        for c in contenders[k:] + contenders[:k]:
            time.sleep(pause)  # lets the other's idle threads stop spinning
            peaks.append([float(v) for v in clock.ask("peak")])
            c.peaks.append(peaks[-1][0])
            c.run()
        machine.append((max(p[0] for p in peaks), max(p[1] for p in peaks)))
        left = (time.monotonic() - began) / (i + 1) * (rounds - i - 1)
        say(f"  round {i + 1}/{rounds}, {left:.0f} s left: "
            + ", ".join(f"{c.key} {c.times[-1]:.4g}" for c in contenders))
    return machine


def quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def rows(contenders, flops, images):
    """One row of results per contender; ratios are to every fdm contender: its key -> quartiles of time / its time."""
    bases = [c for c in contenders if c.spec.family == "fdm"]
    result = []
    for c in contenders:
        row = {"key": c.key, "name": c.name, "family": c.spec.family, "times": c.times,
               "seconds": dict(zip(("q1", "median", "q3"), quartiles(c.times))), "best": min(c.times),
               "images_per_second": images / statistics.median(c.times), "peak_rss_mb": c.peak_mb(),
               "of_peak": quartiles([flops / t / p * 1e-9 for t, p in zip(c.times, c.peaks)]),
               "ratios": {b.key: quartiles([t / u for t, u in zip(c.times, b.times)]) for b in bases if b is not c}}
        if c.spec.error:
            row["rms_error"] = c.spec.error(c)
        result.append(row)
    return result
