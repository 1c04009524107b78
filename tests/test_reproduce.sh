#!/usr/bin/env bash
# bench/reproduce.py: what its report says of synthetic measures, and that a plan which was killed and gone on with ends in the
# same records as one that was not.
. "$(dirname "$0")/house/lib.sh"
if ! command -v python3 >/dev/null; then
    skip "bench/reproduce.py: no python3"
    exit 0
fi
export PYTHONPATH=bench PYTHONDONTWRITEBYTECODE=1

# ---- The report ----
cat >"$tmp/checks.py" <<'PY'
import sys
import traceback
import reproduce_plan as plan
from reproduce_claims import answer, claims
from reproduce_numbers import Rows, difference, interval, verdict
from reproduce_report import ablation, origins, text
from reproduce_sanity import sanity

def estimate(value):
    return {"value": value, "low": value - 1, "high": value + 1, "bias": 0, "standard_error": 1}

def row(method, seed, pixels, classifier=1, kimg=10.24, steps=9, solver="edm", **more):
    spaces = {name: {m: estimate(v) for m in ("frechet_distance", "kernel_distance", "precision", "recall")}
              for name, v in (("pixels", pixels), ("classifier", classifier))}
    return {"resolution": 16, "method": method, "seed": seed, "kimg": kimg, "solver": solver, "steps": steps,
            "nfe": plan.nfe(solver, steps), "images": 500, **spaces, "training_seconds": 1, "sampling_seconds": None,
            "date": "2026-01-01 00:00 UTC", "load_average": 0, **more}

def pair(base, momentum, **more):
    """EDM's and EDM-FDM's rows of as many seeds as distances are given."""
    return [row(m, i + 1, v, **more) for m, values in zip(plan.PAIRS[0], (base, momentum)) for i, v in enumerate(values)]

def results(rows, **more):
    sets = {k: {"pixels": {"frechet_distance": estimate(p)}, "classifier": {"frechet_distance": estimate(c)}}
            for k, p, c in (("identical", 0, 0), ("part", 2, .1), ("halves", 2, .1), ("noise", 300, 30), ("untrained", 310, 31))}
    protocols = {"16": {"images": 500, "warmup": 100, "train": ["--batch", "32"]}}
    return {"fdm": "fdm 0", "quick": False, "machine": {"cpu": "c", "cores": 2, "memory_gb": 1, "kernel": "k"}, "protocols": protocols,
            "rows": rows, "missing": [], "failures": [], "sanity": {"16": sets}, "classifiers": {}, "runs": {}, **more}

def d(edm, fdm, space="pixels"):
    rows = Rows(results(pair(edm, fdm)))
    return difference(*(rows.seeds(16, m, 10.24, *plan.USUAL) for m in ("edm", "edm-fdm")), space)

def claimed(rows, start):
    """The cells of the claim's row."""
    line, = [x for x in claims(results(rows), Rows(results(rows))) if x.startswith("| " + start)]
    return [cell.strip() for cell in line.strip("|").split("|")]

CHECKS = {}

def check(name):
    return lambda function: CHECKS.update({name: function})

@check("one seed: no verdict, and what the images alone would say")
def _():
    assert d([10], [12]) == (2, 1.96 * 2 ** .5, 1) and "no verdict" in verdict(d([10], [12])) and answer(d([10], [12])) == "open: one seed"
    assert "would say higher" in answer(d([10], [20])) and "would say lower" in answer(d([20], [10]))

@check("two seeds: no verdict however far")
def _():
    assert d([10, 11], [90, 91])[2] == 2 and answer(d([10, 11], [90, 91])) == "open: two seeds"

@check("three seeds: Student's t of the paired differences")
def _():
    mean, half, n = d([10, 20, 30], [11, 22, 33])
    assert n == 3 and mean == 2 and abs(half - 4.303 / 3 ** .5) < 1e-12
    assert answer((mean, half, n)) == "open" and "no difference" in verdict((mean, half, n))
    assert answer(d([10, 20, 30], [5, 15, 25.1])) == "holds here" and answer(d([5, 15, 25.1], [10, 20, 30])) == "does not hold here"

@check("an interval that touches 0 decides nothing")
def _():
    for mean in (-2.0, 2.0):
        assert answer((mean, 2.0, 3)) == "open" and "no difference" in verdict((mean, 2.0, 3))
    assert answer((-2.0, 1.999, 3)) == "holds here" and verdict((2.0, 1.999, 3)) == "**higher**"

@check("seeds that only one side has are not compared; none in common: not run")
def _():
    rows = Rows(results(pair([1, 2, 3], [4])))
    a, b = (rows.seeds(16, m, 10.24, *plan.USUAL) for m in ("edm", "edm-fdm"))
    assert difference(a, b, "pixels")[2] == 1 and difference(a, {}, "pixels") is None and answer(None) == verdict(None) == "not run"
    assert interval([3]) == (3, None)

@check("a verdict for each space")
def _():
    rows = pair([10, 20, 30], [10, 21, 29])
    for x in rows: x["classifier"]["frechet_distance"] = estimate(x["seed"] / 100 + (x["method"] == "edm-fdm"))
    assert [c for c in claimed(rows, "EDM-FDM is better at equal images")[3::2]] == ["open", "**does not hold here**"]

@check("what lies below the paper's range says so and is not in bold")
def _():
    few = claimed(pair([10, 20, 30], [5, 15, 25], steps=3), "EDM-FDM is better at equal evaluations, Heun: 5")
    assert "below the paper" in few[0] and few[3] == "holds here"
    within = claimed(pair([10, 20, 30], [5, 15, 25], steps=18), "EDM-FDM is better at equal evaluations, Heun: 35")
    assert "below" not in within[0] and within[3] == "**holds here**"

@check("half the images: beside it the baseline's own two distances")
def _():
    half = claimed(pair([40, 41, 42], [38, 39, 40], kimg=5.12) + pair([20, 21, 22], [19, 20, 21]), "half the images do")
    assert "41.0 → 21.0" in half[0] and half[2].startswith("+18.0") and half[3] == "**does not hold here**"

@check("noise that is not far from a method's last snapshot is named, with the ratio")
def _():
    lines = "\n".join(sanity(results(pair([290], [150], kimg=1.28) + pair([20, 30], [100, 70]))))
    assert "EDM (10.24 kimg) 10.0, EDM-FDM (10.24 kimg) 3.0.  **Less than 5 times: EDM-FDM.**" in lines, lines
    assert "All of them at least 5 times" in lines

@check("other latents: the distances of all sets, and their spread")
def _():
    others = [row(m, 1, v, latents=k) for m, values in (("edm", (22, 24)), ("edm-fdm", (30, 30))) for k, v in enumerate(values, 1)]
    lines = "\n".join(sanity(results(pair([20, 26], [30, 32]), latents=others)))
    assert "| 20.0, 22.0, 24.0 | 22.0 | 2.00 | 4.24 (2 seeds) |" in lines, lines
    assert "| EDM-FDM − EDM | 10.0, 8.00, 6.00 | 8.00 | 2.00 | 2.83 (2 seeds) |" in lines and "alone* for that difference: 2.77; 1.96 standard deviations over the sets: 3.92." in lines, lines

@check("records of two programs or machines are warned of; old ones, which do not say, are read")
def _():
    assert origins(pair([1], [2])) == "  2 of the 2 records do not say which program and machine made them."
    assert "Program: a." in origins(pair([1], [2], fdm="a", machine="x")) and "Warning" not in origins(pair([1], [2], fdm="a", machine="x"))
    assert "Warning: the records are of 2 programs: a, b" in origins(pair([1], [2], fdm="a") + pair([1], [2], fdm="b"))
    assert "2 programs" in origins(pair([1], [2], fdm="a", trained_by="b")) and "2 machines" in origins(pair([1], [], fdm="a", machine="x") + pair([1], [], fdm="a", machine="y"))

@check("a whole report: of three seeds, of one, of a baseline alone, of nothing")
def _():
    for rows in (pair([10, 20, 30], [11, 20, 31]) + [row("edm-scale", 1, 12)], pair([10], [11]), pair([10], []), []):
        body = text(results(rows), {})
        assert "## Every measurement" in body and "nan" not in body.lower()

failed = 0
for name, function in CHECKS.items():
    try:
        function()
        print("ok", name)
    except Exception:
        print(traceback.format_exc().strip())
        print("FAIL", name)
        failed += 1
sys.exit(failed)
PY
python3 "$tmp/checks.py"
failures=$((failures + $?))

# ---- A tiny plan ----
if [ -n "${SANITIZE:-}" ]; then
    skip "a tiny plan, killed and gone on with: not for a sanitizer build"
    finish
fi
# Two updates of a tiny network on 166 pictures, and two sets of samples
"$fdm" dataset -q data/emoji32.zip "$tmp/few32.zip" --classes 0,1
cat >"$tmp/tiny.py" <<'PY'
import sys
import reproduce_plan as plan
import reproduce_units
reproduce_units.ORIGINAL = sys.argv.pop(1)
options = "--cond 1 --arch ddpmpp --cbase 16 --cres 1 --num_blocks 1 --attn_resolutions 8 --dropout 0 --augment 0 --batch 512 --batch-gpu 64 " \
          "--lr 1e-3 --lr_rampup 0.001 --ema 0.001 --tick 1 --snap 0 --image-snap 0 --dump 0"
plan.PROTOCOLS = {16: plan.Protocol(16, tuple(options.split()), 1, 10, (1.024,))}
plan.USUAL = ("edm", 2)
plan.full = lambda: [plan.Job(16, "edm-fdm", 1, 1.024, plan.curve(1.024), latents=k) for k in (0, 1)]
import reproduce
sys.exit(reproduce.main())
PY
tiny() { exec python3 "$tmp/tiny.py" "$tmp/few32.zip" --build "$(dirname "$fdm")" --jobs 1 --folder "$tmp/$1" --out "$tmp/$1-report"; }
(tiny whole) >"$tmp/whole.txt" 2>&1
code=$?
verdict "a tiny plan ends" bash -c "cat '$tmp/whole.txt'; [ $code = 0 ] && grep -q 'Nothing is missing' '$tmp/whole-report.md'"
mkdir "$tmp/parts"
cp -r "$tmp/whole/data" "$tmp/parts/" # the classifier takes a second
# Killed in its first training run (its folder is there), which is far from the end
(tiny parts) >"$tmp/parts.txt" 2>&1 &
pid=$!
for _ in $(seq 1200); do
    [ ! -e "$tmp/parts/runs/16/edm-fdm/seed1/training_options.json" ] && kill -0 $pid 2>/dev/null || break
    sleep 0.05
done
kill -TERM $pid
wait $pid
code=$?
verdict "killed: exit code 130, and a report of what there is" bash -c "cat '$tmp/parts.txt'; [ $code = 130 ] && ! grep -q 'Nothing is missing' '$tmp/parts-report.md'"
(tiny parts) >"$tmp/again.txt" 2>&1
code=$?
verdict "the same command goes on" bash -c "cat '$tmp/again.txt'; [ $code = 0 ] && grep -q 'Nothing is missing' '$tmp/parts-report.md'"
verdict "both have the same records, of two sets, and the metric's sanity" python3 -c "import json
def records(name):
    r = json.load(open(f'$tmp/{name}-report.json'))
    rows = [{k: v for k, v in x.items() if k not in ('date', 'load_average', 'training_seconds', 'sampling_seconds')} for x in r['rows'] + r['latents']]
    return rows, r['sanity'], r['missing'], r['failures']
whole = records('whole')
assert len(whole[0]) == 2 and whole[1] and len({x['pixels']['frechet_distance']['value'] for x in whole[0]}) == 2
assert all(x['fdm'] and x['machine'] for x in whole[0])
assert whole == records('parts')"
finish
