"""Draws one update of a trace of messages (fdm train --trace-comm) as SVG: for every rank the steps of its backward pass, and
below them its messages, a bucket each, dark while the backward pass went on.

    mpirun -n 2 fdm train ... --trace-comm trace.json
    python3 bench/comm_trace.py trace.json picture.svg --update 3

Prints what part of the messages' time the backward pass hid, for every rank, over all updates in the trace.
"""
import argparse
import collections
import json

BACKWARD, MESSAGES = 0, 1
WIDTH, LEFT, RIGHT, LANE, GAP, TOP, BOTTOM = 860, 150, 15, 26, 22, 34, 40
COLOURS = {"step": ("#9fc5e8", "#6fa8dc"), "hidden": "#38761d", "exposed": "#b6d7a8"}


def read(path):
    """events[rank][update][lane]: (begin, end, name) in ms, in order; and what the trace says of what it leaves out."""
    with open(path, encoding="utf-8") as f:
        trace = json.load(f)
    events = collections.defaultdict(lambda: collections.defaultdict(lambda: ([], [])))
    for e in trace["traceEvents"]:
        if e["ph"] == "X":
            begin = e["ts"] / 1e3
            events[e["pid"]][e["args"]["update"]][e["tid"]].append((begin, begin + e["dur"] / 1e3, e["name"]))
    return events, trace["otherData"]


def hidden(lanes):
    """Seconds of messages during the backward pass, and of all, of one rank's update."""
    first, last = lanes[BACKWARD][0][0], lanes[BACKWARD][-1][1]
    return (sum(max(0, min(e, last) - max(b, first)) for b, e, _ in lanes[MESSAGES]), sum(e - b for b, e, _ in lanes[MESSAGES]))


def rectangle(x0, x1, y, height, colour, title):
    return (f'<rect x="{x0:.2f}" y="{y}" width="{max(x1 - x0, 0.3):.2f}" height="{height}" fill="{colour}" stroke="white" '
            f'stroke-width="0.3"><title>{title}</title></rect>')


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def tick_length(span):
    return next(step for step in (m * 10.0 ** k for k in range(-3, 9) for m in (1, 2, 5)) if span / step <= 10)


def axis(span, scale, bottom):
    step = tick_length(span)
    for i in range(int(span / step) + 1):
        x = LEFT + i * step * scale
        yield f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>'
        yield text(x, bottom + 14, f"{i * step:g}", "middle")
    yield text(WIDTH - RIGHT, bottom + 30, "ms since the backward pass began", "end")


def draw_rank(rank, lanes, origin, scale, y):
    at = lambda time: LEFT + (time - origin) * scale
    end = lanes[BACKWARD][-1][1]
    yield text(8, y + LANE * 0.65, f"rank {rank}: backward pass")
    yield text(8, y + LANE * 1.75, "messages")
    for i, (b, e, name) in enumerate(lanes[BACKWARD]):
        yield rectangle(at(b), at(e), y, LANE, COLOURS["step"][i % 2], f"{name}: {e - b:.3f} ms")
    for b, e, name in lanes[MESSAGES]:
        title = f"{name}: {e - b:.3f} ms"
        if b < end:
            yield rectangle(at(b), at(min(e, end)), y + LANE + 3, LANE, COLOURS["hidden"], title + ", during the backward pass")
        if e > end:
            yield rectangle(at(max(b, end)), at(e), y + LANE + 3, LANE, COLOURS["exposed"], title + ", after the backward pass")


def draw(events, update):
    chosen = {rank: events[rank][update] for rank in sorted(events)}
    times = [t for lanes in chosen.values() for lane in lanes for event in lane for t in event[:2]]
    origin, span = min(times), max(times) - min(times)
    scale = (WIDTH - LEFT - RIGHT) / span
    each = 2 * LANE + 3 + GAP
    bottom = TOP + each * len(chosen) - GAP // 2
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>',
             text(8, 16, f"Update {update}: steps of the backward pass, and messages that sum its gradient over the ranks "
                         "(dark: while the backward pass went on)")]
    lines += axis(span, scale, bottom)
    for i, (rank, lanes) in enumerate(chosen.items()):
        lines += draw_rank(rank, lanes, origin, scale, TOP + i * each)
    return "\n".join(lines + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("trace")
    parser.add_argument("picture")
    parser.add_argument("--update", type=int, help="which one, from 1 on (default: the middle one)")
    args = parser.parse_args()
    events, other = read(args.trace)
    update = args.update or (other["updates"] + 1) // 2
    if not 1 <= update <= other["updates"]:
        parser.error(f"--update {update}: the trace holds updates 1 to {other['updates']}")
    with open(args.picture, "w", encoding="utf-8") as f:
        f.write(draw(events, update))
    for rank in sorted(events):
        parts = [hidden(lanes) for lanes in events[rank].values()]
        print(f"rank {rank}: {100 * sum(p[0] for p in parts) / sum(p[1] for p in parts):.0f} % of the messages' time during the "
              f"backward pass, {len(parts)} updates")


if __name__ == "__main__":
    main()
