"""How long an update of a training run takes on several machines: plain arithmetic from kernels measured on one, a network's
latency and bandwidth, and what src/train/rank_sum.c does with them.  cluster_model.py prints it, cluster_check.py measures it.

An update of B images on P ranks, one or several to a node:
  rounds     each rank takes B/P images in rounds; a layer's three passes (forward, d_in, d_weight) cost what roofline.py says of
             one: arithmetic cut into units, weights, maps, barriers
  messages   the gradient is cut into buckets from its end.  In the last round a bucket is ready when the backward pass has left
             the first layer of it; then one thread adds up the rounds, halves the bucket with rank ^ 1, rank ^ 2, rank ^ 4, ...
             and collects it on the way back: 2 log2 P messages, which send and receive s/2, s/4, ... at the same time
                 seconds of a message of m bytes = latency + m / bandwidth + lateness (+ m x adding on the way in)
             Beyond MPI's eager limit it asks (with as much of the data), is answered, and sends the rest: three latencies; and
             as over TCP the answer to the other rank queues behind the data, the two directions partly follow each other
             Buckets follow one another; what is not done when the backward pass ends is waited for.  The ranks of a node are
             neighbours, so the first halvings stay in its memory; they share its bandwidths, to memory and to the network
  lateness   who waits for a message looks for it all the time for 50 us, then every 20 us, after 20 ms every 200 us; and the
             system lets it sleep 50 us longer than it asks for (src/cli/ranks_mpi.c)
  update     clean-up, Adam, averages: on every rank, of all parameters
  waiting    all wait for the slowest: normal times of spread `jitter` have a largest one of 1 + jitter x sqrt(2 ln P)
"""
import json
import math
import os
import statistics

import roofline

PARTS = roofline.LIMITS + ["packing", "data", "merging", "update", "messages", "agreeing", "waiting"]
LEAST_BUCKET, MOST_BUCKET, BUCKETS_WANTED = 1 << 12, 1 << 20, 16  # src/train/rank_sum.c; elements
# Latency of a message in microseconds, Gbit/s, the share of them that a message gets; eager limit of MPI, and how many times
# longer the data beyond it take (TCP: 1.7 to 2, by bench_ranks).  data/recipes/ set that limit to 4 MB, more than any message here.
TCP_BEYOND = 1.7
NETWORKS = {
    "10 Gbit/s Ethernet, TCP": {"latency_us": 30.0, "gbit": 10.0, "share": 0.9, "eager_kb": 4096.0, "beyond": TCP_BEYOND},
    "100 Gbit/s InfiniBand": {"latency_us": 3.0, "gbit": 100.0, "share": 0.9, "eager_kb": 8.0, "beyond": 1.0},
}
# "credit": bytes that a token bucket, which is how tc limits a rate, lets through at once after it had nothing to do.
# Between two ranks of a node, at the speed of the core that copies (here 4 to 11 GB/s, by bench_ranks; TCP over the loopback 1 to
# 2 GB/s: a 10 Gbit/s link is about what one core can keep busy in both directions).
MEMORY = {"latency_us": 1.0, "gbit": 40.0, "share": 1.0, "eager_kb": 4.0, "beyond": 1.0}


def assumptions(adding=30.0, slack_us=50.0, jitter=0.01, rank_cores=64, copying=0.0, **of_a_core):
    """adding: GB/s that one thread moves when it adds two arrays; slack_us: of a sleep; copying: seconds of a core that a byte
    sent and received costs (TCP), which the backward pass lacks."""
    return {**roofline.assumptions(cores=rank_cores, **of_a_core), "adding": adding, "slack_us": slack_us, "jitter": jitter,
            "copying": copying}


def bench_command(build, changes, n, rounds):
    """What times the layers of a network on one thread; its JSON is the `bench` below."""
    return [os.path.join(build, "fdm"), "bench", "--network", "--train", "--recompute", "norm", "--json", "-q", "--threads", "1", "--batch",
            str(n), "--rounds", str(rounds), "--config", json.dumps(changes)]


def needed(bench):
    """What the model reads of it."""
    return {"machine": bench["machine"], "triad_gbs": bench["triad_gbs"], "network": [{"steps": bench["network"][0]["steps"]}],
            "train": [{k: bench["train"][0][k] for k in ("n", "times", "profile")}]}


# ---- one rank ----------------------------------------------------------------------------------------------------

def passes(step):
    """(kind, channels that the units are cut from, whether they are those of a weight gradient)"""
    forward = roofline.kind_of(step)
    if forward is None:
        return []
    stem = forward[:-len(", forward")]
    if step["op"] == "conv2d":
        return [(forward, step["out"], False), (stem + ", d_in", step["in"], False), (stem + ", d_weight", step["out"], True)]
    return [(forward, step["out"], False), (stem + ", backward", step["in"], False)]


def units_of(step, n, channels, of_weights):
    """The weight gradient is cut by channels in and out, each into parts of 16 at least; all else as roofline.py says."""
    if of_weights:
        return max(1, math.ceil(step["in"] / 16) * math.ceil(step["out"] / 16))
    return roofline.units_of(n, roofline.pixels_of(step, "out"), channels)


def core_seconds(bench):
    """kind -> seconds of one core for an image: from the training step, whose layers' shapes are those of the forward pass.
    The profile is a mean; what the median of the steps is below theirs was not the program's doing."""
    train = bench["train"][0]
    scale = bench["machine"]["threads"] / train["n"] * statistics.median(train["times"]) / statistics.fmean(train["times"])
    return {k["kind"]: k["seconds"] * scale for k in train["profile"]}


def round_of(bench, a, n):
    """A round of n images: ({part: seconds}, seconds of each step's backward pass in the order of the forward pass)."""
    steps, measured, train = bench["network"][0]["steps"], core_seconds(bench), bench["train"][0]
    streamed, total, backward = roofline.weights_streamed(steps, a), {}, []
    by = dict.fromkeys(PARTS, 0.0)
    for s in steps:
        for kind, _, _ in passes(s):
            total[kind] = total.get(kind, 0) + roofline.cost(s)
    for s in steps:
        size = 4 * n * (s["in"] * roofline.pixels_of(s, "in") + s["out"] * roofline.pixels_of(s, "out"))
        way_back = 0.0
        for i, (kind, channels, of_weights) in enumerate(passes(s)):
            one_thread = measured.get(kind, 0.0) * roofline.cost(s) / total[kind] * n / a["clock"]
            before = sum(by.values())
            roofline.spend(by, a, one_thread, units_of(s, n, channels, of_weights), streamed * s["weights"], size)
            way_back += sum(by.values()) - before if i else 0.0
        backward.append(way_back)
    unnamed = statistics.median(train["times"]) * bench["machine"]["threads"] / train["n"] - sum(measured.values())
    by["serial"] += max(0.0, unnamed) * n / a["clock"]
    by["packing"] += measured.get("packing of the weights", 0.0) * train["n"] / a["cores"] / a["clock"]
    by["data"] += (measured.get("random numbers, augmentation", 0.0) + measured.get("to and from the layout", 0.0)) * n \
        / a["cores"] / a["clock"]
    return by, backward


def parameters(bench):
    return sum(int(s["weights"]) for s in bench["network"][0]["steps"])


# ---- the network between ranks -------------------------------------------------------------------------------------

def lateness(seconds, a):
    """How much later than its end a message of that length is noticed: half of the sleep it ends in."""
    if seconds < 50e-6:
        return 0.0
    sleep = 20e-6 if seconds < 20e-3 else 200e-6
    return (sleep + a["slack_us"] * 1e-6) / 2


def message(size, network, a):
    beyond = max(0.0, size - 1024 * network["eager_kb"])
    steps = 3 if beyond else 1
    sent = max(0.0, size - beyond - network.get("credit", 0.0)) + network["beyond"] * beyond
    data = sent / (network["gbit"] * 1e9 / 8 * network["share"])
    seconds = steps * network["latency_us"] * 1e-6 + data
    return seconds + steps * lateness(seconds, a)


def bucket_seconds(size, ranks, trees, network, a, per_node=1):
    """From ready to summed, `trees` partial sums of earlier rounds included."""
    shared = {**network, "gbit": network["gbit"] / per_node}
    added = size * trees
    seconds, half = 0.0, size
    for level in range(ranks.bit_length() - 1):
        half /= 2
        seconds += 2 * message(half, MEMORY if 2 ** level < per_node else shared, a)
        added += half
    return seconds + 3 * added / (a["adding"] * 1e9)


def buckets(bench):
    """[(bytes, index of the first step in it)], from the end of the gradient."""
    total = parameters(bench)
    wanted = (total // BUCKETS_WANTED + 1 + LEAST_BUCKET - 1) // LEAST_BUCKET * LEAST_BUCKET
    length = min(wanted, MOST_BUCKET)
    first_at, at = [], 0  # where each step's weights begin
    for s in bench["network"][0]["steps"]:
        first_at.append(at)
        at += int(s["weights"])
    result, end = [], total
    while end > 0:
        begin = max(0, end - length)
        inside = [i for i, s in enumerate(bench["network"][0]["steps"]) if s["weights"] and first_at[i] < end
                  and first_at[i] + s["weights"] > begin]
        result.append((4 * (end - begin), min(inside)))
        end = begin
    return result


def messages(bench, backward, ranks, trees, network, a, per_node=1):
    """(seconds of all buckets, seconds that are left when the backward pass ends)."""
    way = sum(backward)
    ready, at = {}, 0.0
    for i in range(len(backward) - 1, -1, -1):
        at += backward[i]
        ready[i] = at
    busy, done = 0.0, 0.0
    for size, step in buckets(bench):
        seconds = bucket_seconds(size, ranks, trees, network, a, per_node)
        busy += seconds
        done = max(done, ready[step]) + seconds
    return busy, max(0.0, done - way)


# ---- an update --------------------------------------------------------------------------------------------------------

def divide(batch, ranks, most):
    """(images of a round, rounds) of a rank; rounds of at most `most` images."""
    mine = batch // ranks
    rounds = next(r for r in range(1, mine + 1) if mine % r == 0 and mine // r <= most)
    return mine // rounds, rounds


def share_of_node(a, per_node, alone):
    """What each of the ranks of a node has of it.  With others to talk to, one core is left to messages (data/recipes/)."""
    cores = max(1, a["cores"] // per_node)
    return {**a, "cores": cores if alone or cores < 4 else cores - 1, "bandwidth": a["bandwidth"] / per_node, "cache_mb": a["cache_mb"] / per_node}


def update(bench, node, network, ranks, batch, most=64, per_node=1):
    """{n, rounds, seconds, images_per_second, by: part -> seconds, busy: seconds of messages, hidden or not}; rounds of at most
    `most` images."""
    a = share_of_node(node, per_node, ranks == 1)
    n, rounds = divide(batch, ranks, most)
    one, backward = round_of(bench, a, n)
    by = {k: v * rounds for k, v in one.items()}
    size, memory = 4 * parameters(bench), a["bandwidth"] * 1e9
    trees = (rounds - 1).bit_length() if ranks > 1 else 0  # that the last round is added to, by the thread of messages
    by["merging"] = 3 * size * max(0, rounds - 1 - trees) / memory
    measured = core_seconds(bench).get("clean-up, Adam, averages", 0.0) * bench["train"][0]["n"]
    by["update"] = max(measured / a["cores"] / a["clock"], 9 * size / memory)
    busy = 0.0
    if ranks > 1:
        busy, by["messages"] = messages(bench, backward, ranks, trees, network, a, per_node)
        taken = 2 * size * (1 - 1 / ranks) * a["copying"] / a["cores"]
        by["messages"] += taken * min(1.0, sum(backward) / busy)
        by["agreeing"] = 2 * (ranks.bit_length() - 1) * message(64, network, a)
        by["waiting"] = a["jitter"] * math.sqrt(2 * math.log(ranks)) * sum(one.values()) * rounds
    seconds = sum(by.values())
    return {"ranks": ranks, "per_node": per_node, "batch": batch, "n": n, "rounds": rounds, "seconds": seconds,
            "images_per_second": batch / seconds, "by": by, "busy": busy}


def best_update(bench, node, network, nodes, batch, choices=(1, 2, 4, 8, 16)):
    """With the number of ranks to a node that is fastest there."""
    possible = [p for p in choices if nodes * p <= batch and p <= node["cores"]]
    return max((update(bench, node, network, nodes * p, batch, per_node=p) for p in possible), key=lambda u: u["images_per_second"])
