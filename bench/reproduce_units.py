"""The pieces of work of reproduce.py, each a file or folder that is made once, and what is gathered from them."""
import glob
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import zipfile
import zlib
from dataclasses import dataclass

import machine
import peers
import reproduce_plan as plan

HERE = os.path.dirname(os.path.abspath(__file__))
ORIGINAL = os.path.join(os.path.dirname(HERE), "data", "emoji32.zip")


class Failed(Exception):
    """A command that did not succeed, or work that does not belong to this plan."""


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")
    os.replace(path + ".tmp", path)


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


@dataclass
class Unit:
    """One piece of work.  cost: evaluations of the network by one image (a training image counts as three)."""
    name: str
    cost: float
    exists: object  # function -> bool
    make: object    # function


# ---- Pictures without fdm ----------------------------------------------------------------------------------------------
def png(pixels, width):
    """RGB rows as a PNG."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + pixels[i:i + 3 * width] for i in range(0, len(pixels), 3 * width))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(pixels) // (3 * width), 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def noise_pictures(folder, count, width):
    """Independent uniform pixels."""
    generator = random.Random(1)
    for i in range(count):
        with open(os.path.join(folder, f"{i:06d}.png"), "wb") as f:
            f.write(png(generator.randbytes(3 * width * width), width))


def some_of(archive, folder, count):
    """`count` pictures of the data themselves."""
    with zipfile.ZipFile(archive) as z:
        for i, name in enumerate(random.Random(1).sample(sorted(n for n in z.namelist() if n.endswith(".png")), count)):
            with open(os.path.join(folder, f"{i:06d}.png"), "wb") as f:
                f.write(z.read(name))


def class_counts(archive, count):
    """`count` images over the classes in the data's proportions, by largest remainders."""
    with zipfile.ZipFile(archive) as z:
        labels = [label for _, label in json.loads(z.read("dataset.json"))["labels"]]
    shares = [labels.count(k) * count / len(labels) for k in range(max(labels) + 1)]
    counts = [int(s) for s in shares]
    for k in sorted(range(len(shares)), key=lambda k: counts[k] - shares[k])[:count - sum(counts)]:
        counts[k] += 1
    return counts


def set_name(job, solver, steps):
    return f"{solver}-{steps}" + (f"-latents{job.latents}" if job.latents else "")


def source(version):
    """Which program makes the records: the commit of the source beside this file, or without git its version."""
    commit = peers.output(["git", "-C", HERE, "describe", "--always", "--dirty", "--exclude", "*"])
    return f"{version.splitlines()[0]}, {commit.strip()}" if commit else version.splitlines()[0]


# ---- The laboratory ----------------------------------------------------------------------------------------------------
class Lab:
    """A folder of results, and the fdm that makes them."""
    def __init__(self, fdm, folder, version):
        self.fdm, self.folder, self.version, self.commit = fdm, os.path.relpath(folder), version, source(version)
        self.children, self.lock, self.shared_lock, self.interrupted = set(), threading.Lock(), threading.Lock(), False
        os.makedirs(folder, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.folder, *[str(p) for p in parts])

    def interrupt(self):
        """fdm saves its training and ends."""
        with self.lock:
            self.interrupted = True
            for child in self.children:
                child.terminate()

    def call(self, *arguments, spent=None):
        """Runs fdm on one thread; what it prints.  Its CPU seconds are appended to `spent`, also when it fails."""
        command = [self.fdm, *[str(a) for a in arguments], "--threads", "1"]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with self.lock:
                if self.interrupted:
                    raise Failed("interrupted")
                child = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)  # ^C comes by interrupt() alone
                self.children.add(child)
            _, status, usage = os.wait4(child.pid, 0)
            with self.lock:
                self.children.discard(child)
                child.returncode = os.waitstatus_to_exitcode(status)
            if spent is not None:
                spent.append(usage.ru_utime + usage.ru_stime)
            out.seek(0), err.seek(0)
            if child.returncode != 0:
                last = (err.read().strip().splitlines() or ["?"])[-1]
                raise Failed(f"fdm {arguments[0]}: exit code {child.returncode}: {last[:300]}")
            return out.read()

    # ---- Shared by all runs of a resolution ----
    def archive(self, resolution):
        return ORIGINAL if resolution == 32 else self.path("data", f"{resolution}.zip")

    def statistics(self, resolution, space):
        return self.path("data", f"{resolution}-{space}.npz")

    def classifier(self, resolution):
        return self.path("data", f"{resolution}-classifier.safetensors")

    def prepare(self, resolution):
        """Data of that size, statistics of their pixels, a classifier and the statistics of its features."""
        with self.shared_lock:
            os.makedirs(self.path("data"), exist_ok=True)
            data = os.path.relpath(self.archive(resolution))
            if not os.path.exists(data):
                self.call("dataset", os.path.relpath(ORIGINAL), data, "--resolution", f"{resolution}x{resolution}", "-q")
            if not os.path.exists(self.statistics(resolution, "pixels")):
                self.call("metric", data, "--save-stats", self.statistics(resolution, "pixels"), "--space", "pixels",
                          "--bootstrap", "0", "-q")
            if not os.path.exists(self.classifier(resolution)):
                text = self.call("metric", data, "--train-classifier", self.classifier(resolution), "--space", "classifier",
                                 "--bootstrap", "0", "--json", "-q")
                write_json(self.path("data", f"{resolution}-classifier.json"), json.loads(text)["classifier"])
            if not os.path.exists(self.statistics(resolution, "classifier")):
                self.call("metric", data, "--classifier", self.classifier(resolution), "--space", "classifier", "--save-stats",
                          self.statistics(resolution, "classifier"), "--bootstrap", "0", "-q")

    def measure(self, resolution, images):
        """Both spaces' reports of a folder of images against all of the data."""
        reports = {}
        for space in ("pixels", "classifier"):
            more = ["--classifier", self.classifier(resolution)] if space == "classifier" else []
            text = self.call("metric", self.statistics(resolution, space), images, "--space", space, *more, "--json", "-q")
            reports[space] = json.loads(text)["spaces"][0]
        return reports

    # ---- Training ----
    def run_folder(self, run):
        return self.path("runs", run)

    def snapshot(self, run, kimg):
        return os.path.join(self.run_folder(run), f"network-snapshot-{int(kimg):06d}.safetensors")

    def trained(self, run, kimg, wanted):
        """A snapshot that no job wants yet need not be there where training has gone further."""
        return os.path.exists(self.snapshot(run, kimg)) or (
            not wanted and any(name > os.path.basename(self.snapshot(run, kimg)) for name in glob.glob("network-snapshot-*",
                                                                                                         root_dir=self.run_folder(run))))

    def settings(self, job):
        """Options of `fdm train` that make this run what it is."""
        protocol = plan.PROTOCOLS[job.resolution]
        method = [str(protocol.warmup) if o == plan.WARMUP else o for o in plan.METHODS[job.method][1]]
        return [*protocol.train, *method, "--seed", str(job.seed)]

    def check_settings(self, job):
        """A run of other settings is not gone on with."""
        path = self.path("runs", job.run + ".json")
        if not os.path.exists(path):
            write_json(path, {"settings": self.settings(job), "data": os.path.basename(self.archive(job.resolution)), "fdm": self.commit})
        known = read_json(path)
        if "adopted" not in known and known["settings"] != self.settings(job):
            raise Failed(f"{self.run_folder(job.run)} was trained with other settings ({path}); remove both, or use another --folder")
        return path, known

    def train(self, job, kimg):
        folder = self.run_folder(job.run)
        path, known = self.check_settings(job)
        if "adopted" in known:
            raise Failed(f"{folder} was adopted and has no snapshot after {kimg:g} kimg; adopt it again when there is one")
        at = known.setdefault("cpu_seconds_at", {})
        past = any(float(k) > kimg for k in at)
        if past:  # a plan that asks for more than it did: the same run again, to the same bits
            folder = f"{folder}-{kimg:g}"
        how = ["--duration", f"{kimg / 1000:.6f}", "-q"]
        if os.path.exists(os.path.join(folder, "training_options.json")):
            how += ["--resume", folder]
        else:
            how += ["--outdir", folder, "--nosubdir", "--data", os.path.relpath(self.archive(job.resolution)), *self.settings(job)]
        spent, counter = [], "cpu_seconds" if not past else f"cpu_seconds_again_{kimg:g}"
        try:
            self.call("train", *how, spent=spent)
        finally:
            known[counter] = at[f"{kimg:g}"] = known.get(counter, 0) + sum(spent)
            write_json(path, known)
        if past:
            os.replace(os.path.join(folder, os.path.basename(self.snapshot(job.run, kimg))), self.snapshot(job.run, kimg))
        if not os.path.exists(self.snapshot(job.run, kimg)):
            raise Failed(f"{self.snapshot(job.run, kimg)} was not written")

    def adopt(self, run, source):
        """The snapshots of a run made elsewhere; what cannot be checked is recorded."""
        folder = self.run_folder(run)
        os.makedirs(folder, exist_ok=True)
        for name in sorted(os.listdir(source)):
            if name.startswith("network-snapshot-") or name == "training_options.json":
                shutil.copy2(os.path.join(source, name), os.path.join(folder, "partial"))
                target = os.path.join(folder, "adopted_options.json" if name == "training_options.json" else name)
                os.replace(os.path.join(folder, "partial"), target)
        settings = read_json(os.path.join(folder, "adopted_options.json"))["settings"]
        settings["data"] = os.path.basename(settings["data"])
        write_json(self.path("runs", run + ".json"), {"adopted": True, "settings": settings, "data": settings["data"]})

    def training_seconds(self, run, kimg):
        """CPU seconds of training so far, None where they are not known."""
        return read_json(self.path("runs", run + ".json")).get("cpu_seconds_at", {}).get(f"{kimg:g}")

    # ---- Samples and their measures ----
    def sample(self, model, resolution, solver, steps, folder, spent=None, first=0):
        """One set, class after class, so that the classes are in the proportions of the data; seeds from `first` on."""
        protocol = plan.PROTOCOLS[resolution]
        for k, count in enumerate(class_counts(self.archive(resolution), protocol.images)):
            if count:
                self.call("sample", "--model", model, "--outdir", folder, "--seeds", f"{first}-{first + count - 1}", "--class", k,
                          "--solver", solver, "--steps", steps, "-q", spent=spent)
            first += count

    def collect(self, path, make):
        """A folder that `make` fills, whole or not there."""
        if not os.path.exists(path):
            partial = path + ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            os.makedirs(partial)
            make(partial)
            os.rename(partial, path)

    def evaluate(self, job, kimg, solver, steps):
        images = self.path("samples", job.run, f"{kimg:g}", set_name(job, solver, steps))
        spent = []
        self.collect(images, lambda f: self.sample(self.snapshot(job.run, kimg), job.resolution, solver, steps, f, spent, 10000 * job.latents))
        record = {"resolution": job.resolution, "method": job.method, "seed": job.seed, "kimg": kimg, "solver": solver,
                  "steps": steps, "nfe": plan.nfe(solver, steps), "images": plan.PROTOCOLS[job.resolution].images,
                  **self.measure(job.resolution, images), "training_seconds": self.training_seconds(job.run, kimg),
                  "sampling_seconds": sum(spent) or None, "latents": job.latents, "fdm": self.commit,
                  "trained_by": read_json(self.path("runs", job.run + ".json")).get("fdm"), "machine": machine.describe()["slug"],
                  "date": machine.date(), "load_average": os.getloadavg()[0]}
        write_json(self.measure_path(job, kimg, solver, steps), record)

    def measure_path(self, job, kimg, solver, steps):
        return self.path("measures", job.run, f"{kimg:g}", set_name(job, solver, steps) + ".json")

    # ---- The metric's own sanity ----
    def sanity_path(self, resolution):
        return self.path("measures", resolution, "sanity.json")

    def sanity(self, job):
        """Sets whose order is known beforehand: the data, parts of them, an untrained network's pictures, noise."""
        with self.shared_lock:
            if not os.path.exists(self.sanity_path(job.resolution)):
                self.make_sanity(job)

    def make_sanity(self, job):
        resolution, untrained = job.resolution, self.path("runs", job.resolution, "untrained")
        data, count = os.path.relpath(self.archive(resolution)), plan.PROTOCOLS[resolution].images
        sets = {"part": lambda f: some_of(data, f, count), "noise": lambda f: noise_pictures(f, count, resolution)}
        if not os.path.exists(untrained):  # the first update has learning rate 0
            self.call("train", "--outdir", untrained + ".partial", "--nosubdir", "--data", data, *self.settings(job), "--duration",
                      "0.000032", "-q")
            os.rename(untrained + ".partial", untrained)
        sets["untrained"] = lambda f: self.sample(os.path.join(untrained, "network-snapshot-000000.safetensors"), resolution, *plan.USUAL, f)
        record = {"identical": self.measure(resolution, data)}
        for name, make in sets.items():
            folder = self.path("samples", resolution, name)
            self.collect(folder, make)
            record[name] = self.measure(resolution, folder)
        halves = json.loads(self.call("metric", data, "--classifier", self.classifier(resolution), "--space", "both", "--json", "-q"))
        record["halves"] = {s["space"]: s for s in halves["spaces"]}
        write_json(self.sanity_path(resolution), record)

    # ---- A job as units ----
    def units(self, job):
        images = plan.PROTOCOLS[job.resolution].images
        yield Unit(f"{job.resolution}: data, statistics, classifier", 20000,
                   lambda: os.path.exists(self.statistics(job.resolution, "classifier")), lambda: self.prepare(job.resolution))
        yield Unit(f"{job.resolution}: the metric's own sanity", 40000, lambda: os.path.exists(self.sanity_path(job.resolution)),
                   lambda: self.sanity(job))
        before, wanted = 0, {job.kimg} | {e[0] for e in job.evaluations}
        usual = {k for k in plan.PROTOCOLS[job.resolution].snapshots if k < job.kimg}
        for kimg in sorted(wanted | usual):
            yield Unit(f"{job.run}: trained to {kimg:g} kimg", 3000 * (kimg - before),
                       lambda kimg=kimg: self.trained(job.run, kimg, kimg in wanted), lambda kimg=kimg: self.train(job, kimg))
            before = kimg
            for evaluation in (e for e in job.evaluations if e[0] == kimg):
                _, solver, steps = evaluation
                other = f", latents {job.latents}" if job.latents else ""
                yield Unit(f"{job.run}: {images} samples after {kimg:g} kimg, {plan.SOLVERS[solver][0]}, {steps} steps{other}",
                           images * plan.nfe(solver, steps), lambda e=evaluation: os.path.exists(self.measure_path(job, *e)),
                           lambda e=evaluation: self.evaluate(job, *e))


# ---- Everything there is -----------------------------------------------------------------------------------------------
def gather(lab, jobs):
    """Rows of the report, what is missing, the sanity of the metric, and how it was all made."""
    rows, latents, missing, seen, sanity, runs, classifiers = [], [], [], set(), {}, {}, {}
    for job in jobs:
        for evaluation in job.evaluations:
            path = lab.measure_path(job, *evaluation)
            if path in seen:
                continue
            seen.add(path)
            if os.path.exists(path):
                (latents if job.latents else rows).append(read_json(path))
                runs[job.run] = read_json(lab.path("runs", job.run + ".json"))
            else:
                missing.append({"run": job.run, "kimg": evaluation[0], "solver": evaluation[1], "steps": evaluation[2], "latents": job.latents})
        for table, path in ((sanity, lab.sanity_path(job.resolution)),
                            (classifiers, lab.path("data", f"{job.resolution}-classifier.json"))):
            if os.path.exists(path):
                table[str(job.resolution)] = read_json(path)
    protocols = {str(r): {"images": p.images, "warmup": p.warmup, "train": list(p.train)} for r, p in plan.PROTOCOLS.items()}
    return {"fdm": lab.version, "protocols": protocols, "rows": rows, "latents": latents, "missing": missing, "sanity": sanity,
            "classifiers": classifiers, "runs": runs}
