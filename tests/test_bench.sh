#!/usr/bin/env bash
# `fdm bench`: what it prints is complete, what is asked wrongly is refused.  How fast it is, is no test's business.
. "$(dirname "$0")/house/lib.sh"
model=tests/golden_extra/shapes16_fdm_edm.safetensors

# refused CODE PATTERN ARGUMENT...: that exit code, and one line on stderr that matches
refused() {
    local want=$1 pattern=$2 code
    shift 2
    "$fdm" bench "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    if [ "$code" = "$want" ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -qE -- "$pattern" "$tmp/err" && [ ! -s "$tmp/out" ]; then
        ok "fdm bench $* ($want)"
    else
        fail "fdm bench $*: exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    fi
}
refused 2 'too many arguments' surplus
refused 2 '--batch' --batch 0
refused 2 '--rounds' --rounds 0
refused 2 'unknown option --layer; did you mean --layers' --layer
refused 2 'no layer has "9x9"' --layers --only 9x9
refused 2 'f32' --backend reference
refused 2 'not a JSON object' --network --config 5
refused 2 'not a JSON object' --network --config '{'
refused 2 'model_channels' --network --config '{"model_channels": -1}'
refused 2 'has its configuration' --network --model "$model" --config '{}'
refused 2 'would be' --layers --only 8x8 --serve
refused 3 'missing.safetensors' --network --model "$tmp/missing.safetensors"
"$fdm" bench --layers --only 'norm+SiLU 256 16x16 forward' --batch 1 --rounds 1 -q >/dev/full 2>"$tmp/err"
verdict "a full disk under stdout is exit code 4" test $? = 4

# One round of a few layers, of a small network and of its training.
small=(--threads 2 --rounds 2 --batch 2)
"$fdm" bench "${small[@]}" --layers --only 'norm+SiLU 256 16x16' -q >"$tmp/out" 2>"$tmp/err"
verdict "bench --layers ends well and -q says nothing" test $? = 0 -a ! -s "$tmp/err"
for word in 'FMA peak' 'memory triad' 'norm\+SiLU 256 16x16 +forward .* GB/s .*%' ' backward .* GB/s .*%'; do
    verdict "it shows $word" grep -qE "$word" "$tmp/out"
done
"$fdm" bench "${small[@]}" --network --model "$model" -q >"$tmp/out"
for word in 'images/s' '3x3 convolution, forward .*%' 'the rest .*%'; do
    verdict "bench --network shows $word" grep -qE "$word" "$tmp/out"
done

tiny='{"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "img_resolution": 8, "attn_resolutions": [8]}'
"$fdm" bench "${small[@]}" --json --layers --only 'linear' --network --train --sample --images 3 --steps 2 --config "$tiny" \
    >"$tmp/all.json" 2>"$tmp/err"
verdict "bench --json of everything ends well" test $? = 0
if command -v python3 >/dev/null; then
    cat >"$tmp/check.py" <<'PY'
import json
import math
import sys

spread = {"median", "q1", "q3", "low", "high"}
every = {"name", "pass", "n", "flops", "executed_flops", "bytes", "limit", "speed", "of_limit", "seconds", "times",
         "direct_gflops", "images_per_second"}
r = json.load(open(sys.argv[1]), parse_constant=lambda c: sys.exit(f"{c} is no JSON"))
assert set(r) == {"machine", "rounds", "peak_gflops", "triad_gbs", "layers", "network", "train", "sample"}, set(r)
assert set(r["machine"]) == {"cpu", "cores", "isa", "threads", "date", "load_average", "version"}, r["machine"]
assert r["machine"]["threads"] == 2 and r["rounds"] == 2
for what in ("peak_gflops", "triad_gbs"):
    for threads in ("all_threads", "one_thread"):
        assert set(r[what][threads]) == spread and r[what][threads]["low"] > 0
assert [(c["name"], c["pass"]) for c in r["layers"]] == [("linear 512->256", p) for p in ("forward", "backward")]
assert [len(r[g]) for g in ("network", "train", "sample")] == [1, 1, 1]
assert r["sample"][0]["n"] == 3 and r["train"][0]["n"] == 2
for c in r["layers"] + r["network"] + r["train"] + r["sample"]:
    assert every <= set(c), every - set(c)
    assert set(c["of_limit"]) == set(c["seconds"]) == spread and len(c["times"]) == 2
    assert all(t > 0 and math.isfinite(t) for t in c["times"])
    assert c["seconds"]["low"] <= c["seconds"]["q1"] <= c["seconds"]["median"] <= c["seconds"]["q3"] <= c["seconds"]["high"]
for g in ("network", "train"):
    kinds = [k["kind"] for k in r[g][0]["profile"]]
    assert len(set(kinds)) == len(kinds) > 5, kinds
    assert any("d_weight" in k for k in kinds) == (g == "train")
assert len(r["network"][0]["steps"]) > 10 and {s["op"] for s in r["network"][0]["steps"]} >= {"conv2d", "groupnorm", "linear"}
PY
    verdict "the JSON is valid and complete" python3 "$tmp/check.py" "$tmp/all.json"
else
    skip "the JSON is valid and complete: no python3 to read it"
fi

# The protocol of bench/compare.py.
printf 'run\npeak\nrun\nend\n' | "$fdm" bench --network --config "$tiny" --batch 1 --serve >"$tmp/out" 2>"$tmp/err"
verdict "bench --serve ends well" test $? = 0 -a ! -s "$tmp/err"
verdict "it answers every line" awk 'NR == 1 && !/^ready fdm [a-z0-9]+$/ || (NR == 2 || NR == 4) && !/^[0-9.]+$/ ||
    NR == 3 && !/^[0-9.]+ [0-9.]+$/ { exit 1 } END { exit NR != 4 }' "$tmp/out"

# Ctrl-C is an orderly end.
"$fdm" bench --network --config "$tiny" --batch 1 --rounds 10000 -q >"$tmp/out" 2>"$tmp/err" &
process=$!
sleep 2
kill -TERM "$process"
wait "$process"
verdict "an interrupted run is exit code 130 and says so in one line" test $? = 130 -a "$(cat "$tmp/err")" = "fdm bench: interrupted"
finish
