"""The Markdown report of what reproduce.py gathered:  reproduce_report.py bench/results/reproduce.json"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reproduce_plan as plan
from report import pictures, table
from reproduce_claims import claims, paper_tables
from reproduce_numbers import (SPACES, Rows, at_usual, difference, estimate, frechet, interval, pair_points, plus_minus, relative, signed,
                               verdict)
from reproduce_sanity import sanity


# ---- Sections ----------------------------------------------------------------------------------------------------------
def header(results):
    m, rows = results["machine"], results["rows"]
    minutes = sum(r["sampling_seconds"] or 0 for r in rows) / 60
    lasts = {}
    for r in rows:
        run = (r["resolution"], r["method"], r["seed"])
        lasts[run] = max(lasts.get(run, 0), r["training_seconds"] or 0)
    dates = sorted(r["date"] for r in rows) or ["–"]
    quick = "-quick" if results["quick"] else ""
    return [
        "# The claim in miniature: EDM, VP and VE against their FDM versions", "",
        f"`make reproduce{quick}`, {dates[0]} to {dates[-1]}, on {m['cpu']} ({m['cores']} cores, {m['memory_gb']} GB, Linux {m['kernel']}); "
        f"{results['fdm'].splitlines()[0]}.  {len(lasts)} training runs and {len(rows)} sets of samples; {sum(lasts.values()) / 60:.0f} CPU minutes of training (adopted "
        f"runs not counted) and {minutes:.0f} of sampling.{origins(rows + results.get('latents', []))}", "",
        "Small networks, small pictures, few images: this can say whether the effect is there at this size, not whether the "
        "paper's is there at its own.  Distances are Fréchet distances between samples and all of the data, lower is better, and "
        "comparable within a resolution alone, not with the paper's FID.", ""]


def origins(rows):
    """A remark where the records are not of one program and one machine."""
    remarks, unknown = [], sum("fdm" not in r for r in rows)
    for keys, what in ((("fdm", "trained_by"), "programs"), (("machine",), "machines")):
        kinds = sorted({r[key] for r in rows for key in keys if r.get(key)})
        if len(kinds) > 1:
            remarks.append(f"**Warning: the records are of {len(kinds)} {what}: {', '.join(kinds)}.**")
        elif kinds:
            remarks.append(f"{what[:-1].capitalize()}: {kinds[0]}.")
    if unknown:
        remarks.append(f"{unknown} of the {len(rows)} records do not say which program and machine made them.")
    return "".join("  " + r for r in remarks)


def protocol(results):
    lines = ["## Protocol", ""]
    used = sorted({r["resolution"] for r in results["rows"]})
    for r in used:
        p = results["protocols"][str(r)]
        data = ("`data/emoji32.zip`, 2060 pictures" if r == 32 else
                f"the same pictures at {r}×{r} (`fdm dataset data/emoji32.zip {r}.zip --resolution {r}x{r}`)")
        lines += [f"**{r}×{r}**: {data}.  All methods: `fdm train {' '.join(p['train'])}`; {p['images']} samples a set, of the same "
                  "seeds and with the classes in the proportions of the data.", ""]
    names = [[f"{name}", f"`{' '.join(o)}`".replace(plan.WARMUP, "W")] for name, o in plan.METHODS.values()]
    warmups = ", ".join(f"{results['protocols'][str(r)]['warmup']} at {r}×{r}" for r in used)
    lines += table(["method", "its own options"], names)
    lines += [f"W: {warmups}.  The warm-up of plain EDM and ζ ≠ 1 are not published; they are for these experiments.  VE has the "
              "network of the others here (the paper's is `ncsnpp`), and VE-FDM m = 1 whatever it is given, as published.  The samplers "
              "step x_t/s, so a method and its FDM version differ in two things alone: the input scale c_in, and the weights of the "
              "first W calls.", "",
              "**What the intervals are of.**  Over seeds: of the choice of initial weights, order and noise in training (Student's t, paired by "
              "seed).  All methods and seeds are sampled from the same latents and classes, and compared with all of the data, so these intervals "
              "hold for this one set of latents; \"Can the metric be trusted?\" shows how far others are from it.  *1 seed, images alone*: of the "
              "choice of samples, the hypotenuse of both bootstraps' standard errors.  Each bootstrap resamples the reference, too, which is the "
              "same in both, and knows nothing of the latents that both share, so it is rather too wide; of the training seed it says nothing.", ""]
    adopted = {run: v for run, v in results["runs"].items() if v.get("adopted")}
    if adopted:
        lines += ["The following runs were made beside this one, by the same program with `--tick 2 --snap 5`, and stopped before their end.  Their "
                  "snapshots are those of their ticks, up to 1 % later than the round numbers in the tables.", ""]
    for run, v in adopted.items():
        s = v["settings"]
        keys = ["precond", "cond", "cbase", "cres", "num_blocks", "attn_resolutions", "batch", "lr", "lr_rampup", "ema", "dropout",
                "augment", "warmup_ite", "fdm_multiplier", "duration", "seed", "data"]
        lines += [f"- `{run}`: " + ", ".join(f"{k} {s[k]}" for k in keys if k in s) + "."]
    return lines + [""]


def pair_table(rows, resolution, pair, points, space):
    """Baseline and FDM at each point, and their difference."""
    out = []
    for kimg, solver, steps in points:
        a, b = (rows.seeds(resolution, m, kimg, solver, steps) for m in pair)
        if not a and not b:
            continue
        d = difference(a, b, space)
        cells = [plus_minus(*interval([frechet(r, space)["value"] for r in x.values()])) if x else "–" for x in (a, b)]
        out.append([f"{kimg:g}", plan.SOLVERS[solver][0], str(plan.nfe(solver, steps)), *cells, signed(d),
                    relative(d, a, space) if d else "", verdict(d)])
    return out


def pair_tables(results, rows, images, plot, caption, points):
    """For each resolution a table of each pair in each space, and a picture.  points: (resolution, pair) -> as of pair_points."""
    lines, head = [], ["kimg", "sampler", "NFE", "baseline", "FDM", "difference", "of it", "FDM is"]
    for r in sorted({x["resolution"] for x in results["rows"]}):
        for pair in plan.PAIRS:
            for space in SPACES:
                body = pair_table(rows, r, pair, points(r, pair), space)
                if body:
                    lines += [f"**{plan.METHODS[pair[0]][0]}, {r}×{r}**, {SPACES[space]}:", ""] + table(head, body)
        if f"{plot}-{r}" in images:
            lines += [f"![{caption}, {r}×{r}]({images[f'{plot}-{r}']})", ""]
    return lines


def training(results, rows, images):
    lines = ["## Quality against training images", "",
             f"Heun, {plan.USUAL[1]} steps (NFE {plan.nfe(*plan.USUAL)}).  Mean ± 95 % interval over seeds; differences are paired by seed. "
             "`lower` and `higher` are FDM beside its baseline.  In the pictures, dots are single runs, and a bar without dots beside it is the "
             "bootstrap's of the only one.", ""]
    return lines + pair_tables(results, rows, images, "training", "Distance against training images",
                               lambda r, pair: pair_points(rows, r, pair, True))


def sampling(results, rows, images):
    def points(r, pair):
        others = pair_points(rows, r, pair, False)
        return sorted(others + [(k, *plan.USUAL) for k in {p[0] for p in others}], key=lambda p: (p[0], p[1] != "edm", p[2]))
    return ["## Quality against evaluations of the network", ""] + pair_tables(
        results, rows, images, "nfe", "Distance against evaluations", points)


def ablation(results, rows, images):
    """What acts: every variant beside plain EDM and beside EDM-FDM."""
    lines = ["## What acts: the scale s, the warm-up, m, the damping", "",
             "Each beside plain EDM and beside EDM-FDM (m = 2, ζ = 1, with warm-up), differences paired by seed.  `lower` and `higher`: "
             "its distance beside theirs.", ""]
    before = len(lines)
    for r in sorted({x["resolution"] for x in results["rows"]}):
        kimgs = sorted({k[2] for k in rows.points() if k[0] == r and k[1] in plan.ABLATIONS})
        for kimg, space in ((kimg, space) for kimg in kimgs for space in SPACES):
            lines += [f"**{r}×{r} after {kimg:g} kimg**, {SPACES[space]}:", ""]
            lines += table(["", "distance", "seeds", "minus EDM", "", "minus EDM-FDM", ""], ablation_table(rows, r, kimg, space))
        if f"ablation-{r}" in images:
            lines += [f"![Ablations, {r}×{r}]({images[f'ablation-{r}']})", ""]
    return lines if len(lines) > before else []


def ablation_table(rows, r, kimg, space):
    body, base, full = [], at_usual(rows, r, "edm", kimg), at_usual(rows, r, "edm-fdm", kimg)
    for m in ["edm", "edm-fdm", *plan.ABLATIONS]:
        own = at_usual(rows, r, m, kimg)
        if own:
            to_base, to_full = difference(base, own, space), difference(full, own, space)
            body.append([plan.METHODS[m][0], plus_minus(*interval([frechet(x, space)["value"] for x in own.values()])), str(len(own)),
                         *(["", ""] if m == "edm" else [signed(to_base), verdict(to_base)]),
                         *(["", ""] if m == "edm-fdm" else [signed(to_full), verdict(to_full)])])
    return body


def every_row(results):
    lines = ["## Every measurement", "", "Intervals are 95 % by bootstrap: of the choice of images, not of the seed.  Seconds are CPU "
             "seconds, of training since the run's beginning.", ""]
    order = list(plan.METHODS)
    body = []
    for x in sorted(results["rows"], key=lambda x: (x["resolution"], order.index(x["method"]), x["seed"], x["kimg"], x["solver"], x["steps"])):
        body.append([f"{x['resolution']}", plan.METHODS[x["method"]][0], str(x["seed"]), f"{x['kimg']:g}", plan.SOLVERS[x["solver"]][0],
                     str(x["steps"]), str(x["nfe"]), *(estimate(frechet(x, s)) for s in SPACES),
                     f"{x['pixels']['kernel_distance']['value']:.3g}", f"{x['pixels']['precision']['value']:.2f}",
                     f"{x['pixels']['recall']['value']:.2f}", *(f"{x[k]:.0f}" if x[k] else "–" for k in ("training_seconds", "sampling_seconds"))])
    return lines + table(["size", "method", "seed", "kimg", "sampler", "steps", "NFE", "Fréchet, pixels", "Fréchet, classifier",
                          "kernel, pixels", "precision", "recall", "train s", "sample s"], body)


def not_run(results):
    lines, what, seeds = ["## Not run here", ""], {}, {}
    if not results["missing"] and not results["failures"]:
        return lines + ["Nothing is missing of the plan.", ""]
    for m in results["missing"]:
        what.setdefault(m["run"], {}).setdefault(f"{m['kimg']:g} kimg", []).append(
            f"{plan.SOLVERS[m['solver']][0]} {m['steps']}" + (f" (latents {m['latents']})" if m.get("latents") else ""))
    for run, by_kimg in what.items():
        resolution, method, seed = run.split("/")
        text = "; ".join(f"{kimg}: " + ", ".join(steps) for kimg, steps in sorted(by_kimg.items()))
        seeds.setdefault((resolution, method, text), []).append(seed.removeprefix("seed"))
    body = [[r, plan.METHODS[m][0], ", ".join(s), text] for (r, m, text), s in sorted(seeds.items())]
    lines += ["Of the whole plan these are missing, for want of time.  `make reproduce` makes them; parts of it for instance with "
              "`REPRODUCE_ARGS=\"--only 16 --only vp --only seed2\"`.", ""]
    lines += table(["size", "method", "seeds", "samples after: sampler and its steps"], body)
    return lines + [f"- failed: {f}" for f in results["failures"]] + [""]


def text(results, images):
    rows = Rows(results)
    lines = header(results) + claims(results, rows) + training(results, rows, images) + sampling(results, rows, images)
    lines += ablation(results, rows, images) + sanity(results) + protocol(results) + paper_tables() + not_run(results) + every_row(results)
    if not images:
        lines += ["No pictures: matplotlib was not found.", ""]
    return "\n".join(lines)


def write(path):
    with open(path, encoding="utf-8") as f:
        results = json.load(f)
    base = path[:-len(".json")]
    images = pictures("reproduce_plots", Rows(results), results, base)
    summary = base + "-summary.md"  # what a person concluded from the figures, kept when these are made again
    words = open(summary, encoding="utf-8").read() if os.path.exists(summary) else ""
    body = text(results, images)
    if words:
        first, rest = body.split("\n## ", 1)
        body = first + "\n" + words.strip() + "\n\n## " + rest
    with open(base + ".md", "w", encoding="utf-8") as f:
        f.write(body)
    return 0


if __name__ == "__main__":
    sys.exit(write(sys.argv[1]))
