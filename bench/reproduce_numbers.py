"""What reproduce.py's report says in numbers: rows by what they are of, means and differences with their intervals."""
import math
import statistics

import reproduce_plan as plan

# 97.5 % points of Student's t with 1, 2, ... degrees of freedom
T975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]
SPACES = {"pixels": "64 pixel components", "classifier": "a small classifier"}


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
    """b - a by common seeds: (mean, half-width, how many seeds), or None.  With one seed the half-width is of the choice of
    images alone, from the two bootstraps.  Each of these resamples the reference, too, which is one and the same for both, and
    neither knows that both sets grew from the same latents: so it is rather too wide."""
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


def relative(d, base, space):
    """A difference in per cent of the baseline's mean."""
    mean = statistics.fmean([frechet(r, space)["value"] for r in base.values()])
    return f"{100 * d[0] / mean:+.0f} %"


def at_usual(rows, resolution, method, kimg):
    return rows.seeds(resolution, method, kimg, *plan.USUAL)


def pair_points(rows, resolution, pair, usual):
    """(kimg, solver, steps) where either was measured: with the usual sampler, or with any."""
    found = {k[2:] for k in rows.points() if k[0] == resolution and k[1] in pair}
    return sorted(p for p in found if (p[1:] == plan.USUAL) == usual)


def estimate(e):
    low = f" [{e['low']:.4g}, {e['high']:.4g}]" if e.get("low") is not None else ""
    return f"{e['value']:.4g}{low}"
