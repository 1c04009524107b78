"""Whether the metric of reproduce.py can be trusted: sets whose order is known, and other latents."""
import statistics

import reproduce_plan as plan
from reproduce_numbers import SPACES, difference, estimate, frechet, plus_minus
from report import table

FAR = 5  # times: how much farther than a trained network noise must be


def sanity(results):
    lines = ["## Can the metric be trusted?", "",
             "Known beforehand: the data against themselves must give 0; a part of the data little; an untrained network and noise far "
             f"more than any trained network: {FAR:g} times as much, at the usual {plan.nfe(*plan.USUAL)} evaluations, is asked of the last "
             "snapshot of each method.  Where a method fails that, it is its training that has not come far, or the metric that cannot see "
             "how far; its figures are to be read so.", ""]
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
        lines += other_latents([x for x in results.get("latents", []) if str(x["resolution"]) == r], trained)
    return lines


def classifier_text(results, r):
    c = results["classifiers"].get(r)
    return f"classifier of {c['parameters']} parameters, {100 * c['accuracy']:.0f} % of held-out pictures right" if c else ""


def last_models(trained):
    """method -> rows of the usual sampler after its most training."""
    last = {}
    for x in trained:
        if (x["solver"], x["steps"]) == plan.USUAL:
            last.setdefault(x["method"], {}).setdefault(x["kimg"], []).append(x)
    return {m: last[m][max(last[m])] for m in plan.METHODS if m in last}


def sanity_verdicts(sets, trained):
    lines = []
    for space, name in SPACES.items():
        value = {k: v[space]["frechet_distance"]["value"] for k, v in sets.items()}
        checks = {"identical sets give 0": abs(value["identical"]) <= 1e-6 * value["noise"]}
        if trained:
            nearest = min(frechet(x, space)["value"] for x in trained)
            checks["the data's own part is nearest"] = max(value["part"], value["identical"]) < nearest
        lines.append(f"- {name}: " + "; ".join(f"{k}: {'yes' if v else '**no**'}" for k, v in checks.items()) + ".")
        far = min(value["noise"], value["untrained"])
        ratios = {(m, rows[0]["kimg"]): far / max(frechet(x, space)["value"] for x in rows) for m, rows in last_models(trained).items()}
        if ratios:
            lines.append("  Noise and the untrained network beside the worst seed of each method's last snapshot, times as far: " +
                         ", ".join(f"{plan.METHODS[m][0]} ({kimg:g} kimg) {ratio:.1f}" for (m, kimg), ratio in ratios.items()) + ".  " + failing(ratios))
    return lines + [""]


def failing(ratios):
    names = [plan.METHODS[m][0] for (m, _), ratio in ratios.items() if ratio < FAR]
    return f"**Less than {FAR:g} times: {', '.join(names)}.**" if names else f"All of them at least {FAR:g} times."


def other_latents(others, trained):
    """What the intervals over seeds hide: all seeds and methods start from the same latents."""
    if not others:
        return []
    key = lambda x: (x["method"], x["seed"], x["kimg"], x["solver"], x["steps"])
    sets, wanted = {}, {key(x) for x in others}
    for x in [*trained, *others]:
        if key(x) in wanted:
            sets.setdefault(key(x), {})[x.get("latents", 0)] = x
    count = max(len(s) for s in sets.values())
    lines = [f"Other latents: all seeds and methods are sampled from the same latents, so what depends on these is in no interval over seeds.  "
             f"One network of each of these methods, {count} disjoint sets of latents:", ""]
    for space, name in SPACES.items():
        body, remark = [latents_row(k, s, trained, space) for k, s in sets.items()], []
        if len(sets) == 2:
            row, remark = latents_difference(*sets.items(), trained, space)
            body.append(row)
        lines += [f"{name}:", ""] + table(["", "distance, set by set", "mean", "standard deviation", "that over training seeds, one set"], body) + remark
    return lines


def latents_difference(first, second, trained, space):
    """The row of their difference, set by set, and what the images alone would have said of it."""
    (a_key, a), (b_key, b) = first, second
    common = sorted(set(a) & set(b))
    found = [frechet(b[i], space)["value"] - frechet(a[i], space)["value"] for i in common]
    a_seeds, b_seeds = ({x["seed"]: frechet(x, space)["value"] for x in trained if of(x) == of(sets[common[0]])} for sets in (a, b))
    over_seeds = [b_seeds[s] - a_seeds[s] for s in sorted(set(a_seeds) & set(b_seeds))]
    row = [f"{plan.METHODS[b_key[0]][0]} − {plan.METHODS[a_key[0]][0]}", *spread(found), deviation(over_seeds)]
    if len(found) < 2:
        return row, []
    _, alone, _ = difference({1: a[common[0]]}, {1: b[common[0]]}, space)
    return row, [f"Half-width of the interval of *images alone* for that difference: {alone:.2f}; 1.96 standard deviations over the sets: "
                 f"{1.96 * statistics.stdev(found):.2f}.", ""]


def of(x):
    """What a measure is of, but for its seed and latents."""
    return x["method"], x["kimg"], x["solver"], x["steps"]


def deviation(values):
    return f"{statistics.stdev(values):.2f} ({len(values)} seeds)" if len(values) > 1 else "–"


def spread(values):
    return [", ".join(plus_minus(v, None) for v in values), plus_minus(statistics.fmean(values), None),
            f"{statistics.stdev(values):.2f}" if len(values) > 1 else "–"]


def latents_row(key, sets, trained, space):
    method, seed, kimg, solver, steps = key
    seeds = [frechet(x, space)["value"] for x in trained if of(x) == (method, kimg, solver, steps)]
    return [f"{plan.METHODS[method][0]}, seed {seed}, {kimg:g} kimg, NFE {plan.nfe(solver, steps)}",
            *spread([frechet(sets[i], space)["value"] for i in sorted(sets)]), deviation(seeds)]
