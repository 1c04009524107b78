"""What to expect of a machine with more cores, from kernels measured on this one: plain arithmetic, every assumption printed.

For each step of the forward pass (shapes from `fdm bench --json`) the time on T cores is the largest of
  arithmetic  operations of the direct algorithm / (speed of that kind of layer per thread, measured here, times `clock`)
              / threads that have work: a step is cut into units of 8 pixels x 48 output channels, so T cores finish in
              ceil(units / T) turns of the units' time
  weights     bytes of its weights / memory bandwidth, if all weights together do not stay in the last-level cache
  maps        bytes of its input and output / memory bandwidth if they exceed the cache, else / (cache bandwidth x T)
plus two barriers; plus what no layer accounts for, on one core.  A kind whose speed is not counted in operations (norms,
concatenation, resampling) takes its measured time per thread as arithmetic.
"""
import math

UNIT_PIXELS, UNIT_CHANNELS = 8, 48
LIMITS = ["arithmetic", "imbalance", "weights", "maps", "barriers", "serial"]


def assumptions(cores=64, bandwidth=250.0, cache_mb=256.0, cache_bandwidth=20.0, barrier_us=5.0, clock=1.0,
                weight_factor=1.0):
    """bandwidth: GB/s of memory, all cores (8 channels of DDR5-4800 at 80 %); cache_bandwidth: GB/s per core; weight_factor:
    packed weights over plain ones (1.78 for Winograd F(2x2), 4 for F(4x4) 3x3 layers)."""
    return {"cores": cores, "bandwidth": bandwidth, "cache_mb": cache_mb, "cache_bandwidth": cache_bandwidth,
            "barrier_us": barrier_us, "clock": clock, "weight_factor": weight_factor}


def describe(a):
    return [f"{a['cores']} cores, each {a['clock']:g} times as fast as one thread here when all are busy",
            f"memory bandwidth {a['bandwidth']:g} GB/s in all, last-level cache {a['cache_mb']:g} MB at "
            f"{a['cache_bandwidth']:g} GB/s per core",
            f"a weight takes {4 * a['weight_factor']:g} bytes; all are read from memory for every batch unless they fit the cache",
            f"a barrier of all cores takes {a['barrier_us']:g} us, two for each layer",
            f"work is cut into units of {UNIT_PIXELS} pixels x {UNIT_CHANNELS} channels that cores take evenly",
            "one NUMA node, or first touch as good as one; no other load; no loss of clock by wide vectors beyond `clock`"]


def kind_of(step):
    return {"conv2d": f"{3 if step['k'] > 1 else 1}x{3 if step['k'] > 1 else 1} convolution, forward",
            "groupnorm": "group norm, SiLU, dropout, forward", "attention": "attention, forward",
            "resample": "resampling, forward", "linear": "linear, forward", "concat": "concatenation, forward"}.get(step["op"])


def cost(step):
    """What a kind's measured time is shared out by: operations where they are counted, else elements written."""
    if step["op"] in ("conv2d", "attention", "linear"):
        return step["flops"]
    return step["out"] * pixels_of(step, "out")


def spend(by, a, one_thread, units, weights, size):
    """Adds to `by` what one pass over a layer takes: `one_thread` seconds of arithmetic in so many units; bytes of weights
    (0 where they stay in the cache) and of maps."""
    even = one_thread / a["cores"]
    arithmetic = one_thread / units * math.ceil(units / a["cores"])
    weights /= a["bandwidth"] * 1e9
    maps = size / (1e9 * (a["bandwidth"] if size > a["cache_mb"] * 1e6 else a["cache_bandwidth"] * a["cores"]))
    longest = max(arithmetic, weights, maps)
    if longest == arithmetic:
        by["arithmetic"] += even
        by["imbalance"] += max(0.0, arithmetic - even)
    else:
        by["weights" if longest == weights else "maps"] += longest
    by["barriers"] += 2e-6 * a["barrier_us"]


def pixels_of(step, side):
    """Of a map; 1 for a vector."""
    return max(step[side + "_size"], 1) ** 2


def units_of(n, pixels, channels):
    return max(1, math.ceil(n * pixels / UNIT_PIXELS) * math.ceil(channels / UNIT_CHANNELS))


def weights_streamed(steps, a):
    """Bytes that each weight costs memory: none if all of them together stay in the cache."""
    each = 4 * a["weight_factor"]
    return each if each * sum(s["weights"] for s in steps) > a["cache_mb"] * 1e6 else 0.0


def estimate(bench, a, n):
    """bench: `fdm bench --network --json` at a batch near n.  Returns {images_per_second, seconds, by: limit -> seconds}."""
    case, threads = bench["network"][0], bench["machine"]["threads"]
    measured = {k["kind"]: k["seconds"] for k in case["profile"]}  # of case["n"] samples on `threads` threads
    total = {}
    for s in case["steps"]:
        total[kind_of(s)] = total.get(kind_of(s), 0) + cost(s)
    streamed = weights_streamed(case["steps"], a)
    by = dict.fromkeys(LIMITS, 0.0)
    for s in case["steps"]:
        kind = kind_of(s)
        if kind not in measured:
            continue
        one_thread = measured[kind] * threads / case["n"] * cost(s) / total[kind] * n / a["clock"]
        size = 4 * n * (s["in"] * pixels_of(s, "in") + s["out"] * pixels_of(s, "out"))
        spend(by, a, one_thread, units_of(n, pixels_of(s, "out"), s["out"]), streamed * s["weights"], size)
    named = sum(measured.values())
    by["serial"] = max(0.0, sum(case["times"]) / len(case["times"]) - named) / case["n"] * n
    seconds = sum(by.values())
    return {"n": n, "seconds": seconds, "images_per_second": n / seconds, "by": by,
            "streaming": 4e-9 * a["weight_factor"] * sum(s["weights"] for s in case["steps"]) / a["bandwidth"]}


def report(results, a):
    """Lines of Markdown: `results` is a list of (how measured, estimates)."""
    lines = ["## An estimate for more cores", "", "Assumed:", ""] + [f"- {t}" for t in describe(a)]
    lines += ["- time of a layer on one thread as measured here, at the batch named in the table", "",
              "| measured at | N | images/s expected | ms | " + " | ".join(LIMITS) + " | largest beside arithmetic |",
              "|---|---|---|---|" + "---|" * (len(LIMITS) + 1)]
    for how, e in results:
        shares = [f"{100 * e['by'][k] / e['seconds']:.0f} %" for k in LIMITS]
        worst = max(LIMITS[1:], key=lambda k: e["by"][k])
        lines.append(f"| {how} | {e['n']} | {e['images_per_second']:.0f} | {1e3 * e['seconds']:.2f} | " + " | ".join(shares)
                     + f" | {worst} |")
    lines += ["", f"Reading all weights once from memory takes {1e3 * results[0][1]['streaming']:.2f} ms: a batch cannot be faster "
              "than that unless they stay in the cache."]
    return lines + ["", "`imbalance` is time that cores wait because a layer has no whole number of turns for all of them; "
                    "`weights` and `maps` are layers that memory or the cache limits; `serial` is what one core does alone.", ""]
