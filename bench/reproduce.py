"""The paper's claim in miniature: EDM, VP and VE against their FDM versions on the shipped pictures, from scratch, here.

    make reproduce-quick                 a part of it, mostly the EDM pair at 16x16: under ten minutes on two quiet cores
    make reproduce                       all of it, hours; REPRODUCE_ARGS="--only 16" leaves out the 32x32 pictures
    python3 bench/reproduce.py --report  the report of what there is, whatever is still running or missing

The work itself is done by `fdm dataset`, `train`, `sample` and `metric`; reproduce_plan.py says what is compared with
what.  Everything lies in build/reproduce, one file or folder for each piece of work, and what is there is not done again:
a run that was stopped or killed goes on where it was (training by `fdm train --resume`, to the bit).  One thread a job, so
that the results do not depend on how many jobs run beside each other.  Writes bench/results/reproduce.json and .md (or
reproduce-quick) with plots beside them; no package is needed, matplotlib draws the plots if an interpreter has it.
"""
import argparse
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import machine
import peers
import reproduce_plan
import reproduce_report
import reproduce_units
from contenders import say


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="where fdm was built (%(default)s)")
    parser.add_argument("--folder", help="where the work goes (default: BUILD/reproduce)")
    parser.add_argument("--quick", action="store_true", help="the part that takes eight minutes on two quiet cores")
    parser.add_argument("--only", metavar="WORD", action="append", default=[],
                        help="only jobs whose name has this word, such as 16, edm, seed1; repeatable: all of them")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count()), help="at a time, one thread each (%(default)s)")
    parser.add_argument("--minutes", type=float, help="start no further piece of work after so long, and report")
    parser.add_argument("--adopt", nargs=2, action="append", default=[], metavar=("RUN", "DIR"),
                        help="take the snapshots of a training run that exists, DIR, for RUN, such as 32/edm/seed1")
    parser.add_argument("--python", action="append", default=[], help="an interpreter that may have matplotlib; repeatable")
    parser.add_argument("--report", action="store_true", help="only write the report of what there is")
    parser.add_argument("--out", help="where results go, without suffix (default: bench/results/reproduce)")
    args = parser.parse_args()
    args.folder = args.folder or os.path.join(args.build, "reproduce")
    name = "reproduce-quick" if args.quick else "reproduce"
    args.out = args.out or os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", name)
    return args


class Progress:
    """How much of the work is done, in evaluations of the network by one image, and how long the rest may take."""
    def __init__(self, total):
        self.total, self.done, self.started, self.lock = total, 0, time.monotonic(), threading.Lock()

    def add(self, cost, text):
        with self.lock:
            self.done += cost
            elapsed = time.monotonic() - self.started
            left = elapsed * (self.total - self.done) / self.done if self.done else 0
            say(f"[{100 * self.done / self.total:3.0f} %, {elapsed / 60:.0f} min, about {left / 60:.0f} min left] {text}")


class Queue:
    """Jobs in order of importance; those of one training run one after the other."""
    def __init__(self, jobs, deadline):
        self.jobs, self.busy, self.failures, self.deadline = list(jobs), set(), [], deadline
        self.lock, self.stopped = threading.Lock(), False

    def take(self):
        with self.lock:
            if self.stopped or (self.deadline and time.monotonic() > self.deadline):
                return None
            for job in self.jobs:
                if job.run not in self.busy:
                    self.jobs.remove(job)
                    self.busy.add(job.run)
                    return job
            return None if not self.jobs else False  # False: later

    def give(self, job, failure=None):
        with self.lock:
            self.busy.discard(job.run)
            if failure:
                self.failures.append(f"{job.name}: {failure}")
                self.jobs = [j for j in self.jobs if j.run != job.run]
                say(f"FAILED {job.name}: {failure}")


def worker(queue, lab, progress):
    while (job := queue.take()) is not None:
        if job is False:
            time.sleep(1)
            continue
        failure = None
        try:
            for unit in lab.units(job):
                if queue.stopped or (queue.deadline and time.monotonic() > queue.deadline):
                    break
                if not unit.exists():
                    unit.make()
                    progress.add(unit.cost, unit.name)
        except reproduce_units.Failed as e:
            failure = None if queue.stopped else str(e)
        queue.give(job, failure)


def run(lab, jobs, args):
    """Runs the jobs; returns what failed.  SIGINT and SIGTERM reach the children, which save, and stop the queue."""
    missing = {u.name: u.cost for job in jobs for u in lab.units(job) if not u.exists()}
    say(f"{len(missing)} pieces of work to do, {args.jobs} at a time, in {args.folder}")
    progress = Progress(max(1, sum(missing.values())))
    queue = Queue(jobs, args.minutes and time.monotonic() + 60 * args.minutes)

    def stop(_number, _frame):
        queue.stopped = True
        lab.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    threads = [threading.Thread(target=worker, args=(queue, lab, progress)) for _ in range(args.jobs)]
    for t in threads:
        t.start()
    for t in threads:
        while t.is_alive():
            t.join(0.5)  # a join without limit would keep signals waiting
    if queue.stopped:
        say("stopped; the same command goes on from here")
    return queue.failures, queue.stopped


def plotter(given):
    """An interpreter that has matplotlib."""
    for python in peers.interpreters(given):
        if peers.output([python, "-c", "import matplotlib"]) is not None:
            return python
    return None


def write_report(args, lab, jobs, failures):
    results = reproduce_units.gather(lab, jobs)
    results.update({"quick": args.quick, "machine": machine.describe(), "failures": failures})
    reproduce_units.write_json(args.out + ".json", results)
    python = plotter(args.python)
    if python and os.path.abspath(python) != os.path.abspath(sys.executable):
        subprocess.run([python, os.path.abspath(reproduce_report.__file__), args.out + ".json"], check=True)
    else:
        reproduce_report.write(args.out + ".json")
    say(f"{os.path.relpath(args.out)}.json, {os.path.relpath(args.out)}.md")


def main():
    args = options()
    fdm = os.path.join(args.build, "fdm")
    version = peers.output([fdm, "--version"])
    if version is None:
        raise SystemExit(f"{fdm} does not run; make first")
    lab = reproduce_units.Lab(fdm, args.folder, version)
    for run_name, folder in args.adopt:
        lab.adopt(run_name, folder)
    plan = reproduce_plan.quick() if args.quick else reproduce_plan.full()
    jobs = [j for j in plan if all(w in j.words() for w in args.only)]
    if not jobs:
        raise SystemExit("reproduce: --only leaves no job")
    failures, stopped = ([], False) if args.report else run(lab, jobs, args)
    write_report(args, lab, plan, failures)
    return 130 if stopped else 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
