"""The Markdown report of what reproduce.py gathered:  reproduce_report.py bench/results/reproduce.json"""
import json
import math
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reproduce_plan as plan
from report import pictures, table

# 97.5 % points of Student's t with 1, 2, ... degrees of freedom
T975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]
SPACES = {"pixels": "64 pixel components", "classifier": "a small classifier"}

# FID as the authors publish it (README of sail-sg/FDM): millions of images -> baseline, FDM.
PAPER_TRAINING = {
    "CIFAR-10": {"edm": {50: (5.76, 2.17), 100: (1.99, 1.93), 150: (1.92, 1.83), 200: (1.88, 1.79)},
                 "vp": {50: (2.74, 2.74), 100: (2.24, 2.24), 150: (2.19, 2.13), 200: (2.15, 2.08)},
                 "ve": {50: (49.47, 10.01), 100: (4.05, 3.26), 150: (3.27, 3.00), 200: (3.09, 2.85)}},
    "FFHQ": {"edm": {50: (3.21, 3.27), 100: (2.87, 2.69), 150: (2.69, 2.63), 200: (2.65, 2.59)},
             "vp": {50: (3.07, 12.49), 100: (2.83, 2.80), 150: (2.73, 2.53), 200: (2.69, 2.43)},
             "ve": {50: (96.49, 93.72), 100: (94.14, 88.42), 150: (79.20, 4.73), 200: (38.97, 3.04)}},
    "AFHQv2": {"edm": {50: (2.62, 2.73), 100: (2.57, 2.05), 150: (2.44, 1.96), 200: (2.37, 1.93)},
               "vp": {50: (3.46, 25.70), 100: (2.81, 2.65), 150: (2.72, 2.47), 200: (2.61, 2.39)},
               "ve": {50: (57.93, 54.41), 100: (57.87, 52.45), 150: (57.69, 50.53), 200: (57.48, 47.30)}},
}
# AFHQv2 after 200 Mimg: sampler -> NFE -> baseline, FDM
PAPER_NFE = {"edm": {"edm": {25: (2.78, 2.32), 49: (2.39, 1.93), 79: (2.37, 1.93)},
                     "vp": {25: (2.88, 2.59), 49: (2.64, 2.41), 79: (2.61, 2.39)},
                     "ve": {25: (61.04, 48.29), 49: (57.59, 47.49), 79: (57.48, 47.30)}},
             "dpm": {"edm": {25: (2.60, 2.09), 49: (2.42, 1.98), 79: (2.39, 1.95)},
                     "vp": {25: (2.99, 2.64), 49: (2.79, 2.45), 79: (2.78, 2.42)},
                     "ve": {25: (59.26, 49.51), 49: (59.16, 48.68), 79: (58.91, 48.66)}}}


# ---- Numbers -----------------------------------------------------------------------------------------------------------
class Rows:
    """Measures by what they are of."""
    def __init__(self, results):
        self.by_key = {(r["resolution"], r["method"], r["seed"], r["kimg"], r["solver"], r["steps"]): r for r in results["rows"]}

    def seeds(self, *key):
        """seed -> row of (resolution, method, kimg, solver, steps)."""
        resolution, method, *rest = key
        return {k[2]: r for k, r in self.by_key.items() if (k[0], k[1], *k[3:]) == (resolution, method, *rest)}

    def points(self):
        """Every (resolution, method, kimg, solver, steps), in the plan's order."""
        order = list(plan.METHODS)
        keys = {(k[0], k[1], *k[3:]) for k in self.by_key}
        return sorted(keys, key=lambda k: (k[0], k[2], k[3], k[4], order.index(k[1])))


def frechet(row, space):
    return row[space]["frechet_distance"]


def interval(values):
    """Mean and half-width of its 95 % interval over seeds (Student's t); None for one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, T975[min(len(values) - 1, len(T975)) - 1] * statistics.stdev(values) / math.sqrt(len(values))


def difference(a, b, space):
    """b - a by common seeds: (mean, half-width, how many seeds, of what the interval is), or None.  With one seed the
    half-width is of the choice of images alone, from the two bootstraps."""
    common = sorted(set(a) & set(b))
    if not common:
        return None
    mean, half = interval([frechet(b[s], space)["value"] - frechet(a[s], space)["value"] for s in common])
    if half is not None:
        return mean, half, len(common)
    errors = [frechet(x[common[0]], space)["standard_error"] for x in (a, b)]
    return mean, 1.96 * math.hypot(*errors), 1


def verdict(d, better="lower"):
    """What an interval of (FDM - baseline) says."""
    if d is None:
        return "not run"
    mean, half, seeds = d
    if seeds == 1:
        return "one seed: no verdict" + (" (images alone would say lower)" if mean + half < 0 else
                                          " (images alone would say higher)" if mean - half > 0 else "")
    if seeds == 2:
        return "two seeds: no verdict"
    if mean + half < 0:
        return "**lower**"
    if mean - half > 0:
        return "**higher**"
    return "no difference within the interval"


def plus_minus(mean, half):
    digits = 2 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def signed(d):
    digits = 2 if d and abs(d[0]) < 10 else 1
    return "–" if d is None else f"{d[0]:+.{digits}f} ± {d[1]:.{digits}f}" + (f" ({d[2]} seeds)" if d[2] > 1 else " (1 seed, images alone)")


def relative(d, base):
    """A difference in per cent of the baseline's mean."""
    mean = statistics.fmean([frechet(r, "pixels")["value"] for r in base.values()])
    return f"{100 * d[0] / mean:+.0f} %"


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
        f"runs not counted) and {minutes:.0f} of sampling.", "",
        "Small networks, small pictures, few images: this can say whether the effect is there at this size, not whether the "
        "paper's is there at its own.  Distances are Fréchet distances between samples and all of the data, lower is better, and "
        "comparable within a resolution alone, not with the paper's FID.", ""]


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
              "first W calls.", ""]
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


def sanity(results):
    lines = ["## Can the metric be trusted?", "",
             "Known beforehand: the data against themselves must give 0; a part of the data little; an untrained network and noise far "
             "more than any trained network.", ""]
    for r, sets in results["sanity"].items():
        rows, trained = [], [x for x in results["rows"] if str(x["resolution"]) == r]
        names = {"identical": "the data against themselves", "part": f"{results['protocols'][r]['images']} of the data",
                 "halves": "two halves of the data", "noise": "uniform noise", "untrained": "the network before training"}
        for key, name in names.items():
            if key in sets:
                rows.append([name] + [estimate(sets[key][s]["frechet_distance"]) for s in SPACES])
        best, worst = ([f"{pick(frechet(x, s)['value'] for x in trained):.4g}" for s in SPACES] for pick in (min, max)) if trained else (None, None)
        if trained:
            rows.insert(3, ["the best of all trained networks below"] + best)
            rows.insert(4, ["the worst"] + worst)
        lines += [f"**{r}×{r}**, " + classifier_text(results, r), ""] + table(["set", *SPACES.values()], rows)
        lines += sanity_verdicts(sets, trained)
    return lines


def classifier_text(results, r):
    c = results["classifiers"].get(r)
    return f"classifier of {c['parameters']} parameters, {100 * c['accuracy']:.0f} % of held-out pictures right" if c else ""


def estimate(e):
    low = f" [{e['low']:.4g}, {e['high']:.4g}]" if e.get("low") is not None else ""
    return f"{e['value']:.4g}{low}"


def sanity_verdicts(sets, trained):
    lines = []
    for space, name in SPACES.items():
        value = {k: v[space]["frechet_distance"]["value"] for k, v in sets.items()}
        usual = [x for x in trained if (x["solver"], x["steps"]) == plan.USUAL]
        last = max((x["kimg"] for x in usual), default=0)
        models, best = ([frechet(x, space)["value"] for x in rows] for rows in ([x for x in usual if x["kimg"] == last], trained))
        checks = {"identical sets give 0": abs(value["identical"]) <= 1e-6 * value["noise"]}
        if models:
            checks["the data's own part is nearest"] = max(value["part"], value["identical"]) < min(best)
            checks["noise and an untrained network are more than twice as far as the networks trained most"] = \
                2 * max(models) < min(value["noise"], value["untrained"])
        lines.append(f"- {name}: " + "; ".join(f"{k}: {'yes' if v else '**no**'}" for k, v in checks.items()) + ".")
    return lines + [""]


def pair_table(rows, resolution, pair, points, space="pixels"):
    """Baseline and FDM at each point, and their difference."""
    out = []
    for kimg, solver, steps in points:
        a, b = (rows.seeds(resolution, m, kimg, solver, steps) for m in pair)
        if not a and not b:
            continue
        d = difference(a, b, space)
        cells = [plus_minus(*interval([frechet(r, space)["value"] for r in x.values()])) if x else "–" for x in (a, b)]
        out.append([f"{kimg:g}", plan.SOLVERS[solver][0], str(plan.nfe(solver, steps)), *cells, signed(d),
                    relative(d, a) if d and space == "pixels" else "", verdict(d)])
    return out


def pair_points(rows, resolution, pair, usual):
    """(kimg, solver, steps) where either was measured: with the usual sampler, or with any."""
    found = {k[2:] for k in rows.points() if k[0] == resolution and k[1] in pair}
    return sorted(p for p in found if (p[1:] == plan.USUAL) == usual)


def pair_tables(results, rows, images, plot, caption, spaces, points):
    """For each resolution a table of each pair in each space, and a picture.  points: (resolution, pair) -> as of pair_points."""
    lines, head = [], ["kimg", "sampler", "NFE", "baseline", "FDM", "difference", "of it", "FDM is"]
    for r in sorted({x["resolution"] for x in results["rows"]}):
        for pair in plan.PAIRS:
            for space in spaces:
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
    return lines + pair_tables(results, rows, images, "training", "Distance against training images", SPACES,
                               lambda r, pair: pair_points(rows, r, pair, True))


def sampling(results, rows, images):
    def points(r, pair):
        others = pair_points(rows, r, pair, False)
        return sorted(others + [(k, *plan.USUAL) for k in {p[0] for p in others}], key=lambda p: (p[0], p[1] != "edm", p[2]))
    return ["## Quality against evaluations of the network", ""] + pair_tables(
        results, rows, images, "nfe", "Distance against evaluations", ["pixels"], points)


def ablation(results, rows, images):
    """What acts: every variant beside plain EDM and beside EDM-FDM."""
    lines = ["## What acts: the scale s, the warm-up, m, the damping", "",
             "Each beside plain EDM and beside EDM-FDM (m = 2, ζ = 1, with warm-up), differences paired by seed.  `lower` and `higher`: "
             "its distance beside theirs.", ""]
    for r in sorted({x["resolution"] for x in results["rows"]}):
        kimgs = sorted({k[2] for k in rows.points() if k[0] == r and k[1] in plan.ABLATIONS})
        for kimg in kimgs:
            base, full = at_usual(rows, r, "edm", kimg), at_usual(rows, r, "edm-fdm", kimg)
            body = []
            for m in ["edm", "edm-fdm", *plan.ABLATIONS]:
                own = at_usual(rows, r, m, kimg)
                if not own:
                    continue
                to_base, to_full = difference(base, own, "pixels"), difference(full, own, "pixels")
                body.append([plan.METHODS[m][0], plus_minus(*interval([frechet(x, "pixels")["value"] for x in own.values()])), str(len(own)),
                             *(["", ""] if m == "edm" else [signed(to_base), verdict(to_base)]),
                             *(["", ""] if m == "edm-fdm" else [signed(to_full), verdict(to_full)])])
            lines += [f"**{r}×{r} after {kimg:g} kimg**:", ""]
            lines += table(["", "distance", "seeds", "minus EDM", "", "minus EDM-FDM", ""], body)
        if f"ablation-{r}" in images:
            lines += [f"![Ablations, {r}×{r}]({images[f'ablation-{r}']})", ""]
    return lines if len(lines) > 4 else []


# ---- The paper beside it -----------------------------------------------------------------------------------------------
def claim(text, paper, d, wanted):
    """wanted: "lower" (FDM's distance must be lower), "not higher" (equal is what is claimed)."""
    if d is None:
        return [text, paper, "not run", "–"]
    found = verdict(d)
    if d[2] < 3:
        answer = found
    elif "**lower**" in found:
        answer = "**agrees**"
    elif "**higher**" in found:
        answer = "**contradicts**"
    else:
        answer = "agrees within the interval" if wanted == "not higher" else "no difference within the interval"
    return [text, paper, signed(d), answer]


def at_usual(rows, resolution, method, kimg):
    return rows.seeds(resolution, method, kimg, *plan.USUAL)


def claims(results, rows):
    lines = ["## The paper's claims, and what is here", "",
             "Paper: FID of 50,000 images, baseline → FDM.  Ours: difference of Fréchet distances (FDM − baseline) ± 95 % interval.  "
             "*agrees* and *contradicts* need an interval over three seeds or more without 0; where equality is the claim, *agrees within the interval* "
             "says no more than that the interval holds 0.  About one in twenty such intervals misses by chance.", ""]
    text = {50: "50 Mimg", 100: "100", 200: "200"}
    for r in sorted({x["resolution"] for x in results["rows"]}):
        body = []
        for pair in plan.PAIRS:
            name = plan.METHODS[pair[0]][0]
            paper = "; ".join(f"{data} " + ", ".join(f"{a:g} → {b:g} ({text[k]})" for k, (a, b) in t[pair[0]].items() if k in text)
                              for data, t in PAPER_TRAINING.items())
            for kimg, *_ in pair_points(rows, r, pair, True):
                d = difference(at_usual(rows, r, pair[0], kimg), at_usual(rows, r, pair[1], kimg), "pixels")
                body.append(claim(f"{name}-FDM is better at equal images: {kimg:g} kimg", paper, d, "lower"))
                paper = "as above"
            halves = half_paper(pair[0])
            for kimg, *_ in pair_points(rows, r, pair, True):
                half = kimg / 2
                if at_usual(rows, r, pair[1], half):
                    d = difference(at_usual(rows, r, pair[0], kimg), at_usual(rows, r, pair[1], half), "pixels")
                    body.append(claim(f"half the images do: {name}-FDM after {half:g} beside {name} after {kimg:g} kimg", halves, d,
                                      "not higher"))
                    halves = "as above"
            body += steps_claims(rows, r, pair)
        lines += [f"**{r}×{r}**", ""] + table(["claim", "paper", "ours: FDM − baseline", "verdict"], body)
    return lines


def half_paper(method):
    return "; ".join(f"{data} {t[method][200][0]:g} (200 Mimg) → {t[method][100][1]:g} (100)" for data, t in PAPER_TRAINING.items())


def steps_claims(rows, r, pair):
    """Better at equal evaluations; and a third of them: 5 beside 17 and 11 beside 35, as the paper's 25 beside 79."""
    body, name = [], plan.METHODS[pair[0]][0]
    for kimg, solver, steps in sorted(pair_points(rows, r, pair, False), key=lambda p: (p[0], p[1] != "edm", p[2])):
        d = difference(rows.seeds(r, pair[0], kimg, solver, steps), rows.seeds(r, pair[1], kimg, solver, steps), "pixels")
        figures = PAPER_NFE[solver][pair[0]]
        if d:
            body.append(claim(f"{name}-FDM is better at equal evaluations, {plan.SOLVERS[solver][0]}: {plan.nfe(solver, steps)}, {kimg:g} kimg",
                              "AFHQv2 " + ", ".join(f"{a:g} → {b:g} ({n})" for n, (a, b) in figures.items()), d, "lower"))
    for solver, few, many in (("edm", 3, 9), ("edm", 6, 18), ("dpm", 11, 35)):
        for kimg in sorted({p[0] for p in pair_points(rows, r, pair, False)}):
            a, b = rows.seeds(r, pair[0], kimg, solver, many), rows.seeds(r, pair[1], kimg, solver, few)
            if a and b:
                figures = PAPER_NFE[solver][pair[0]]
                body.append(claim(f"a third of the evaluations do, {plan.SOLVERS[solver][0]}: {name}-FDM with {plan.nfe(solver, few)} beside {name} with "
                                  f"{plan.nfe(solver, many)}, {kimg:g} kimg",
                                  f"AFHQv2 {figures[79][0]:g} (NFE 79) → {figures[25][1]:g} (25)", difference(a, b, "pixels"), "not higher"))
    return body


def paper_tables():
    lines = ["### The published figures in full", "", "FID, baseline → FDM, from the authors' page (github.com/sail-sg/FDM).", ""]
    body = [[data, str(k), *(f"{t[m][k][0]:g} → {t[m][k][1]:g}" for m in ("edm", "vp", "ve"))]
            for data, t in PAPER_TRAINING.items() for k in (50, 100, 150, 200)]
    lines += table(["data", "Mimg", "EDM", "VP", "VE"], body)
    body = [[plan.SOLVERS[s][0], str(n), *(f"{t[m][n][0]:g} → {t[m][n][1]:g}" for m in ("edm", "vp", "ve"))]
            for s, t in PAPER_NFE.items() for n in (25, 49, 79)]
    return lines + table(["sampler, AFHQv2", "NFE", "EDM", "VP", "VE"], body)


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
        what.setdefault(m["run"], {}).setdefault(f"{m['kimg']:g} kimg", []).append(f"{plan.SOLVERS[m['solver']][0]} {m['steps']}")
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
