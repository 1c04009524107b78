"""What reproduce.py compares: frameworks, one protocol for each resolution, and the jobs in order of importance.

All methods of a resolution share network, data, optimiser, budget, batch, seeds and samplers; they differ in the options of
METHODS alone.  All are class-conditional, and the classes of the samples are in the proportions of the data.
"""
from dataclasses import dataclass, field

WARMUP = "WARMUP"  # stands for the protocol's number of loss calls

# slug -> (name, options of `fdm train`)
METHODS = {
    "edm": ("EDM", ["--precond", "edm"]),
    "edm-fdm": ("EDM-FDM", ["--precond", "fdm_edm", "--fdm_multiplier", "2", "--warmup_ite", WARMUP]),
    "edm-fdm-m1": ("EDM-FDM, m = 1", ["--precond", "fdm_edm", "--fdm_multiplier", "1", "--warmup_ite", WARMUP]),
    "edm-scale": ("s alone", ["--precond", "fdm_edm", "--fdm_multiplier", "2"]),
    "edm-warmup": ("warm-up alone", ["--precond", "edm", "--warmup_ite", WARMUP]),
    "edm-light": ("EDM-FDM, ζ = 0.5", ["--precond", "fdm_edm", "--fdm_multiplier", "2", "--zeta", "0.5", "--warmup_ite", WARMUP]),
    "edm-heavy": ("EDM-FDM, ζ = 2", ["--precond", "fdm_edm", "--fdm_multiplier", "2", "--zeta", "2", "--warmup_ite", WARMUP]),
    "vp": ("VP", ["--precond", "vp"]),
    "vp-fdm": ("VP-FDM", ["--precond", "fdm_vp", "--fdm_multiplier", "2", "--warmup_ite", WARMUP]),
    "ve": ("VE", ["--precond", "ve"]),
    "ve-fdm": ("VE-FDM", ["--precond", "fdm_ve", "--warmup_ite", WARMUP]),
}
ABLATIONS = ["edm-scale", "edm-warmup", "edm-fdm-m1", "edm-light", "edm-heavy"]
PAIRS = [("edm", "edm-fdm"), ("vp", "vp-fdm"), ("ve", "ve-fdm")]


@dataclass(frozen=True)
class Protocol:
    """How all methods of a resolution are trained and judged."""
    resolution: int
    train: tuple      # options of `fdm train`
    warmup: int       # loss calls of the warm-up, where a method has one
    images: int       # of a set of samples
    snapshots: tuple  # kimg


# --snap 0: a snapshot is where training stops, so that its number of images is exact however far the run goes on.
_SMALL = ("--cond", "1", "--arch", "ddpmpp", "--cbase", "32", "--num_blocks", "1", "--attn_resolutions", "8", "--dropout", "0",
          "--augment", "0", "--batch", "32", "--lr", "2e-3", "--lr_rampup", "0.001", "--tick", "2", "--snap", "0",
          "--image-snap", "0", "--dump", "0", "--save-minutes", "3")
PROTOCOLS = {
    16: Protocol(16, _SMALL + ("--cres", "1,2", "--ema", "0.002"), 100, 500, (1.28, 2.56, 5.12, 10.24, 20.48)),
    32: Protocol(32, _SMALL + ("--cres", "1,2,2", "--ema", "0.01"), 400, 500, (20, 60)),
}

# (solver, steps): number of evaluations of the network
SOLVERS = {"edm": ("Heun", lambda steps: 2 * steps - 1), "dpm": ("DPM-Solver++", lambda steps: steps)}
USUAL = ("edm", 9)
SWEEP = [("edm", 3), ("edm", 6), ("edm", 18), ("dpm", 5), ("dpm", 11), ("dpm", 35)]


# All runs are sampled from one set of latents; one network of the EDM pair also from these: seeds from 10000 times the number on
OTHER_LATENTS = (1, 2, 3, 4)


def nfe(solver, steps):
    return SOLVERS[solver][1](steps)


@dataclass(frozen=True)
class Job:
    """Trains a run as far as `kimg`, then samples its snapshots and measures the samples."""
    resolution: int
    method: str
    seed: int
    kimg: float
    evaluations: tuple = field(default=())  # (kimg, solver, steps)
    latents: int = 0  # which set of latents it is sampled from

    @property
    def run(self):
        return f"{self.resolution}/{self.method}/seed{self.seed}"

    @property
    def name(self):
        return f"{self.run} to {self.kimg:g} kimg"

    def words(self):
        return self.run.split("/")


def curve(*kimg):
    return tuple((k, *USUAL) for k in kimg)


def at(kimg, samplers=SWEEP):
    return tuple((kimg, *s) for s in samplers)


def quick():
    """Three seeds of the EDM pair at 16x16, and one of what acts and of few evaluations; all of it part of the full plan.  Under
    ten minutes on two quiet cores: 7 min 55 s, 14 min 31 s of CPU time, on Zen 4; its 42 rows were the bits of hours before."""
    pair = ("edm", "edm-fdm")
    jobs = [Job(16, m, seed, 10.24, curve(1.28, 2.56, 5.12, 10.24)) for seed in (1, 2, 3) for m in pair]
    jobs += [Job(16, m, 1, 10.24, curve(1.28, 2.56, 10.24)) for m in ("edm-scale", "edm-warmup")]
    return jobs + [Job(16, m, 1, 10.24, at(10.24)) for m in pair]


def full():
    """What is quick first, then three seeds of everything at 16x16, then the pairs at 32x32, then more."""
    pair, others = ("edm", "edm-fdm"), ("vp", "vp-fdm", "ve", "ve-fdm")
    few = tuple(s for s in SWEEP if nfe(*s) < 12)
    jobs = quick()
    for seed in (1, 2, 3):
        jobs += [Job(16, m, seed, 10.24, curve(2.56, 10.24)) for m in (*others, *ABLATIONS)]
    jobs += [Job(16, m, 1, 10.24, curve(10.24), latents=k) for k in OTHER_LATENTS for m in pair]
    jobs += [Job(16, m, seed, 10.24, at(10.24, few)) for seed in (2, 3) for m in pair]
    jobs += [Job(16, m, seed, 10.24, curve(10.24)) for seed in (4, 5) for m in pair]
    jobs += [Job(32, m, 1, 60, curve(20, 60) + at(60, few)) for m in (*pair, *others)]
    jobs += [Job(16, m, seed, 10.24, at(10.24, few)) for seed in (1, 2, 3) for m in others]
    jobs += [Job(32, m, seed, 20, curve(20)) for seed in (2, 3) for m in pair]
    for seed in (2, 3):
        jobs += [Job(16, m, seed, 10.24, curve(1.28, 2.56, 10.24)) for m in ("edm-scale", "edm-warmup")]
        jobs += [Job(16, m, seed, 10.24, at(10.24)) for m in pair]
        jobs += [Job(16, m, seed + 2, 10.24, curve(1.28, 2.56, 5.12) + at(10.24, few)) for m in pair]
    jobs += [Job(16, m, seed, 20.48, curve(20.48)) for seed in (1, 2, 3) for m in pair]
    jobs += [Job(16, m, 1, 10.24, at(10.24)) for m in others]
    jobs += [Job(32, m, seed, 60, curve(60) + at(60, few)) for seed in (2, 3) for m in pair]
    return jobs + [Job(32, m, 1, 200, curve(200) + at(200)) for m in pair]
