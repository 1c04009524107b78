#!/usr/bin/env bash
# `fdm grad` and `fdm replay` as commands: published gradients and updates, and what is refused, in one line each.
. "$(dirname "$0")/house/lib.sh"
golden=${FDM_TEST_GOLDEN_DIR:-tests/golden}
out=$tmp/out.safetensors

# refuse CODE PATTERN ARGUMENT...: exit code, one line on stderr that matches, no output file
refuse() {
    local want=$1 pattern=$2 code
    shift 2
    rm -f "$out"
    "$fdm" "$@" >"$tmp/log" 2>"$tmp/err" </dev/null
    code=$?
    if [ "$code" != "$want" ]; then fail "fdm $*: exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    elif [ "$(wc -l <"$tmp/err")" != 1 ] || ! grep -qE -- "$pattern" "$tmp/err"; then fail "fdm $*: $(head -c 300 "$tmp/err")"
    elif [ -e "$out" ]; then fail "fdm $*: left an output"
    else ok "fdm $* ($want)"; fi
}
agree() { # FILE FILE PATTERN
    "$fdm" compare "$1" "$2" --only "$3" --mtol 2e-5
}

for case in FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug:12.5 FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug:5; do
    net=$golden/net_${case%:*}.safetensors batch=$golden/grad_${case%:*}.safetensors
    "$fdm" grad --model "$net" --in "$batch" --clamp "${case#*:}" --out "$out" >"$tmp/log" 2>&1 || fail "fdm grad: $(cat "$tmp/log")"
    verdict "fdm grad: published gradients, ${case%:*}" agree "$out" "$batch" 'grad.*'
    verdict "fdm grad: published loss and images, ${case%:*}" agree "$out" "$batch" 'loss,D_yn,loss_per_sample'
    "$fdm" grad --model "$net" --in "$batch" --out "$out" -q
    if agree "$out" "$batch" loss >/dev/null 2>&1; then fail "without --clamp the loss is the same"
    else ok "without --clamp another loss"; fi
done
"$fdm" grad --model "$net" --in "$batch" --clamp 5 --out "$tmp/block.safetensors" --recompute block --threads 1 -q
"$fdm" grad --model "$net" --in "$batch" --clamp 5 --out "$out" --threads 2 -q
verdict "--recompute and --threads change no bit" cmp "$out" "$tmp/block.safetensors"

refuse 2 '--model, --in and --out are required' grad --model "$net" --in "$batch"
refuse 3 'nowhere: cannot open' grad --model "$tmp/nowhere" --in "$batch" --out "$out"
refuse 3 'no tensor|sigma|noise_unit|missing' grad --model "$net" --in "$net" --out "$out"
refuse 3 '"y" is missing; it must be' grad --model "$golden/net_VPPrecond_ddpmpp_tiny_r16_lab.safetensors" --in "$golden/augment_r32_p012.safetensors" --out "$out"
refuse 2 'clamp' grad --model "$net" --in "$batch" --out "$out" --clamp 0
refuse 2 'clamp' grad --model "$net" --in "$batch" --out "$out" --clamp nan
refuse 4 'cannot' grad --model "$net" --in "$batch" --out "$tmp/no/such/folder.safetensors"

for run in train_FDM_EDMPrecond_ddpmpp_mc8 train_VPPrecond_ddpmpp_mc8; do
    "$fdm" replay --in "$golden/$run.safetensors" --updates 5 --out "$out" >"$tmp/log" 2>&1 || fail "fdm replay: $(cat "$tmp/log")"
    verdict "fdm replay $run: a line for every loss call" test "$(grep -c '^update [1-5], round 1: loss [0-9.]*$' "$tmp/log")" = 5
    verdict "fdm replay $run: parameters and averages" bash -c "'$fdm' info '$out' | grep -q 'ema.model.map_layer0.weight'"
    "$fdm" replay --in "$golden/$run.safetensors" --updates 5 --out "$tmp/one.safetensors" -q --threads 1 --isa portable --recompute block
    verdict "fdm replay $run: the same bits on portable, one thread, recomputed" cmp "$out" "$tmp/one.safetensors"
done
refuse 2 'holds 5 updates, not 6' replay --in "$golden/$run.safetensors" --updates 6 --out "$out"
refuse 2 'holds 0 updates, not 1' replay --in "$batch" --out "$out"
refuse 2 'are required' replay --in "$batch"
