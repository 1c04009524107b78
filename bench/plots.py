"""Pictures of the report, as SVG (matplotlib)."""
import os

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "fdm", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402  (after the backend is chosen)

COLORS = {"fdm": "#2a6f97", "torch": "#e07a5f", "onnx": "#81b29a", "onednn": "#f2cc8f", "blis": "#9a8c98"}


def save(figure, base, ident):
    """Returns the file's name relative to the report beside it."""
    folder = base + "-plots"
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, ident + ".svg")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return os.path.join(os.path.basename(folder), ident + ".svg")


def race(e):
    """Bars of images per second, whiskers from the quartiles of the times."""
    rows = sorted(e["rows"], key=lambda r: r["seconds"]["median"])
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.32 * len(rows)))
    speeds = [e["images"] / r["seconds"]["median"] for r in rows]
    whiskers = [[s - e["images"] / r["seconds"]["q3"] for s, r in zip(speeds, rows)],
                [e["images"] / r["seconds"]["q1"] - s for s, r in zip(speeds, rows)]]
    axes.barh(range(len(rows)), speeds, xerr=whiskers, color=[COLORS[r["family"]] for r in rows], ecolor="#444444")
    axes.set_yticks(range(len(rows)), [r["key"] for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("images per second")
    axes.set_title(e["title"])
    return figure


def parts(experiments):
    """Per cent of the peak by layer, one row of points per contender's family."""
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.24 * len(experiments)))
    for key in dict.fromkeys(r["key"] for e in experiments for r in e["rows"]):
        points = [(100 * r["of_peak"][1], i) for i, e in enumerate(experiments) for r in e["rows"] if r["key"] == key]
        family = next(r["family"] for e in experiments for r in e["rows"] if r["key"] == key)
        axes.plot([p[0] for p in points], [p[1] for p in points], "o" if family == "fdm" else ".", label=key,
                  color={"fdm direct": "#9ecae1", "fdm winograd4": "#6a3d9a"}.get(
                      key, COLORS[family] if key in ("fdm", "oneDNN", "BLIS") else None))
    axes.set_yticks(range(len(experiments)), [e["title"] for e in experiments])
    axes.invert_yaxis()
    axes.axvline(100, color="#bbbbbb", linewidth=0.8)
    axes.set_xlabel("% of the FMA peak of the same round (direct algorithm's operations)")
    axes.legend(fontsize=7)
    return figure


def draw(results, base):
    images = {}
    races = [e for e in results["experiments"] if e.get("rows")]
    for e in races:
        if not e.get("part"):
            images[e["id"]] = save(race(e), base, e["id"])
    small = [e for e in races if e.get("part")]
    if small:
        images["parts"] = save(parts(small), base, "parts")
    return images
