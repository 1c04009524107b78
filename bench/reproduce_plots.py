"""Pictures of reproduce.py's report, as SVG (matplotlib)."""
import reproduce_plan as plan
from plots import pyplot, save
from reproduce_numbers import at_usual, frechet, interval

COLORS = {"edm": "#444444", "edm-fdm": "#2a6f97", "vp": "#9a8c98", "vp-fdm": "#6a3d9a", "ve": "#e9c46a", "ve-fdm": "#e07a5f"}
MARKS = {"edm": "o-", "dpm": "s--"}


def line(axes, points, color, mark, label):
    """points: [(x, seed -> row)]: a line of means, bars of intervals over seeds, dots of single runs; where there is one
    seed, the bar is the bootstrap's."""
    points = [(x, [frechet(r, "pixels") for r in rows.values()]) for x, rows in points if rows]
    if not points:
        return
    errors = {x: 1.96 * estimates[0]["standard_error"] for x, estimates in points}
    points = [(x, [e["value"] for e in estimates]) for x, estimates in points]
    means = [interval(values) for _, values in points]
    axes.errorbar([x for x, _ in points], [m for m, _ in means], yerr=[h or errors[x] for (x, _), (_, h) in zip(points, means)], fmt=mark, color=color, label=label,
                  capsize=2, markersize=4, linewidth=1.2)
    for x, values in points:
        axes.plot([x] * len(values), values, ".", color=color, alpha=0.35, markersize=5)


def frame(axes, title, xlabel):
    axes.set_title(title)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel("Fréchet distance, pixels")
    axes.legend(fontsize=7)


def ticks(axes, values):
    axes.set_xticks(sorted(values), [f"{v:g}" for v in sorted(values)])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    marks = [m * 10 ** e for e in range(-1, 4) for m in (1, 1.5, 2, 3, 5, 7)]
    marks = [m for m in marks if low <= m <= high]
    axes.set_yticks(marks, [f"{m:g}" for m in marks])


def training(rows, resolution):
    """One panel a pair."""
    kimgs = {p: sorted({k[2] for k in rows.points() if k[0] == resolution and k[1] in p and k[3:] == plan.USUAL}) for p in plan.PAIRS}
    pairs = [p for p in plan.PAIRS if kimgs[p]]
    figure, all_axes = pyplot.subplots(1, len(pairs), figsize=(1 + 3.2 * len(pairs), 3.2), squeeze=False)
    for axes, pair in zip(all_axes[0], pairs):
        for method in pair:
            line(axes, [(k, at_usual(rows, resolution, method, k)) for k in kimgs[pair]], COLORS[method], "o-", plan.METHODS[method][0])
        frame(axes, f"{plan.METHODS[pair[0]][0]}, {resolution}×{resolution}", "thousands of training images")
        ticks(axes, kimgs[pair])
    figure.tight_layout()
    return figure


def evaluations(rows, resolution):
    """One panel a pair: both samplers, after the most training that was swept."""
    swept = {p: sorted({k[2] for k in rows.points() if k[0] == resolution and k[1] in p and k[3:] != plan.USUAL}) for p in plan.PAIRS}
    pairs = [p for p in plan.PAIRS if swept[p]]
    if not pairs:
        return None
    figure, all_axes = pyplot.subplots(1, len(pairs), figsize=(1 + 3.4 * len(pairs), 3.4), squeeze=False)
    for axes, pair in zip(all_axes[0], pairs):
        kimg = swept[pair][-1]
        for method in pair:
            for solver in plan.SOLVERS:
                steps = sorted({k[4] for k in rows.points() if k[:4] == (resolution, method, kimg, solver)})
                line(axes, [(plan.nfe(solver, n), rows.seeds(resolution, method, kimg, solver, n)) for n in steps], COLORS[method],
                     MARKS[solver], f"{plan.METHODS[method][0]}, {plan.SOLVERS[solver][0]}")
        frame(axes, f"{plan.METHODS[pair[0]][0]}, {resolution}×{resolution}, {kimg:g} kimg", "evaluations of the network")
        ticks(axes, {plan.nfe(*s) for s in plan.SWEEP})
    figure.tight_layout()
    return figure


def ablation(rows, resolution):
    """Bars of means with the single runs as dots, one panel for each amount of training."""
    methods = ["edm", "edm-fdm", *plan.ABLATIONS]
    kimgs = sorted({k[2] for k in rows.points() if k[0] == resolution and k[1] in plan.ABLATIONS})
    if not kimgs:
        return None
    figure, all_axes = pyplot.subplots(1, len(kimgs), figsize=(2 + 3 * len(kimgs), 2.8), squeeze=False, sharey=True)
    for axes, kimg in zip(all_axes[0], kimgs):
        for i, method in enumerate(methods):
            values = [frechet(r, "pixels")["value"] for r in at_usual(rows, resolution, method, kimg).values()]
            if values:
                mean, half = interval(values)
                axes.barh(i, mean, xerr=half or 0, color=COLORS.get(method, "#9ecae1"), ecolor="#888888", height=0.7)
                axes.plot(values, [i] * len(values), "o", color="white", markeredgecolor="black", markersize=4)
        axes.set_title(f"{kimg:g} kimg")
        axes.set_xlabel("Fréchet distance, pixels")
    all_axes[0][0].set_yticks(range(len(methods)), [plan.METHODS[m][0] for m in methods])
    all_axes[0][0].invert_yaxis()
    figure.tight_layout()
    return figure


def draw(rows, results, base):
    images = {}
    for resolution in sorted({r["resolution"] for r in results["rows"]}):
        for name, make in (("training", training), ("nfe", evaluations), ("ablation", ablation)):
            figure = make(rows, resolution)
            if figure:
                images[f"{name}-{resolution}"] = save(figure, base, f"{name}-{resolution}")
    return images
