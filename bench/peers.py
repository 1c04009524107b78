"""What there is to compare with on this machine, and how each peer is started."""
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from contenders import Spec, say

HERE = os.path.dirname(os.path.abspath(__file__))
# PyTorch on less than the CPU has; oneDNN inside PyTorch and BLAS have their own switches.
AVX2_ONLY = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
             "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
# BLIS takes some AVX-512 CPUs for haswell because their model name hides the vector units; 0 is skx (PERFORMANCE notes).
BLIS_SKX = {"BLIS_ARCH_TYPE": "0"}


def output(command):
    """What a command prints, or None if it cannot."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass
class Peers:
    """Found programs and interpreters; `found` and `missing` are for the report."""
    build: str
    threads: int
    fdm_modes: list = field(default_factory=list)   # of --conv; [None] if there is no such option
    avx512: bool = False
    torch: dict = field(default_factory=dict)       # version -> interpreter
    onnx: tuple = None                              # (version, interpreter)
    plots: str = None                               # interpreter that has matplotlib
    found: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)

    def program(self, name):
        path = os.path.join(self.build, "bench", name)
        return path if os.path.exists(path) else None


def interpreters(given):
    """The interpreters that were named, or those that lie about: the running one, the system's, an active environment's."""
    candidates = given or [sys.executable, shutil.which("python3"), "/usr/bin/python3"]
    seen, result = set(), []
    for p in candidates:
        real = p and shutil.which(p)
        if real and os.path.abspath(real) not in seen:  # not realpath: an environment's python is a link
            seen.add(os.path.abspath(real))
            result.append(os.path.abspath(real))
    return result


def conv_modes(text):
    """The convolution modes that the help names, None (the default, without an option) first."""
    option = re.search(r"--conv (\S+)(.*?)(?=\n  -|\n\n|$)", text, re.DOTALL)
    if not option or "|" not in option.group(1):
        return [None]
    default = re.search(r"(\w+) \(default\)|default:? (\w+)", option.group(2))
    return [None] + [m for m in option.group(1).split("|") if not default or m not in default.groups()]


def search(build, threads, pythons, modes):
    p = Peers(build, threads)
    fdm = os.path.join(build, "fdm")
    version = output([fdm, "--version"])
    if version is None:
        raise SystemExit(f"{fdm} does not run; make first")
    p.avx512 = "avx512" in version
    p.found["fdm"] = version.replace("\n", "; ")
    p.fdm_modes = conv_modes(output([fdm, "help", "bench"]) or "")
    if modes:
        p.fdm_modes = [None if m == "default" else m for m in modes]
    asked = "import {0}; print({0}.__version__)"
    for python in interpreters(pythons):
        torch = output([python, "-c", asked.format("torch")])
        if torch and torch.split("+")[0] not in p.torch:
            p.torch[torch.split("+")[0]] = python
        onnx = output([python, "-c", asked.format("onnxruntime")])
        if onnx and not p.onnx:
            p.onnx = (onnx, python)
        if not p.plots and output([python, "-c", "import matplotlib"]) is not None:
            p.plots = python
    for name, there in (("PyTorch", ", ".join(p.torch)), ("ONNX Runtime", p.onnx and p.onnx[0]),
                        ("oneDNN in C", p.program("bench_onednn") and "bench_onednn"),
                        ("BLIS in C", p.program("bench_blis") and "bench_blis"), ("matplotlib", p.plots and "yes")):
        if there:
            p.found[name] = there
        else:
            p.missing[name] = {"PyTorch": "no interpreter with torch (Debian: python3-torch; pip install torch)",
                               "ONNX Runtime": "no interpreter with onnxruntime (pip install onnxruntime)",
                               "oneDNN in C": "libdnnl-dev was missing when the programs were built",
                               "BLIS in C": "libblis-openmp-dev was missing when the programs were built",
                               "matplotlib": "no plots"}[name]
    if not any(v.startswith("1.13") for v in p.torch):
        p.missing["PyTorch 1.13"] = "the paper's version (Debian: python3-torch)"
    if not any(v.split(".")[0] >= "2" for v in p.torch):
        p.missing["PyTorch 2"] = "pip install torch"
    for name, what in p.found.items():
        say(f"found: {name}: {what}")
    for name, why in p.missing.items():
        say(f"not found: {name}: {why}")
    return p


# ---- How each is started ---------------------------------------------------------------------------------------------
def fdm_specs(p, options, error=None, only_first=False):
    """fdm in each convolution mode, and on AVX2 where the CPU has more.  error: mode, environment -> function."""
    fdm, specs = os.path.join(p.build, "fdm"), []
    variants = [(m, {}) for m in p.fdm_modes] + ([(None, {"FDM_ISA": "avx2"})] if p.avx512 else [])
    for mode, env in variants[:1] if only_first else variants:
        key = " ".join(["fdm"] + ([mode] if mode else []) + (["avx2"] if env else []))
        conv = ["--conv", mode] if mode else []
        specs.append(Spec(key, [fdm, "bench", "--serve", "--threads", str(p.threads), *options, *conv], "fdm", env,
                          error and error(conv, env)))
    return specs


def clock_spec(p):
    """Answers `peak`: FMA peak and memory triad of this moment."""
    return Spec("clock", [os.path.join(p.build, "fdm"), "bench", "--serve", "--threads", str(p.threads), "--layers",
                          "--only", "linear 512->256 forward", "--batch", "1"], "clock")


def torch_child(python, *arguments):
    return [python, os.path.join(HERE, "child_torch.py"), *map(str, arguments)]


def torch_specs(p, what, arguments, variants, error=None):
    """PyTorch in each version and variant, and limited to AVX2 where the CPU has more."""
    specs = []
    for version, python in p.torch.items():
        short = ".".join(version.split(".")[:2])
        for variant in variants:
            if "compile" in variant and version.startswith("1."):
                continue
            command = torch_child(python, what, *arguments, p.threads, variant)
            specs.append(Spec(f"torch {short} {variant}", command, "torch", {}, error))
        if p.avx512:
            command = torch_child(python, what, *arguments, p.threads, "eager")
            specs.append(Spec(f"torch {short} eager avx2", command, "torch", dict(AVX2_ONLY), error))
    return specs
