#!/usr/bin/env bash
# fdm verify as a command: exit codes, JSON, precisions; and against PyTorch, with the README's own recipe.
. "$(dirname "$0")/house/lib.sh"
model=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
trace=tests/golden/trace_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug.safetensors
weights=tests/golden/net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug.safetensors

# exits CODE NAME ARGUMENTS...: the command ends with that code; its output is in $tmp/out, $tmp/err
exits() {
    local code=$1 name=$2
    shift 2
    "$fdm" "$@" >"$tmp/out" 2>"$tmp/err"
    local got=$?
    if [ "$got" = "$code" ]; then ok "$name"; else
        head -n 5 "$tmp/out" "$tmp/err"
        fail "$name: exit code $got instead of $code"
    fi
}
says() { if grep -q -- "$2" "$tmp/$1"; then ok "$3"; else
    head -n 5 "$tmp/$1"
    fail "$3"
fi; }

exits 0 "a golden is its own dump" verify --model $model --dump $model
says out 'pass: 5 of 5' "it says so"
exits 0 "a golden trace" verify --model $weights --dump $trace --all
says out 'trace.model.dec.16x16_aux_conv' "--all lists every tensor"
exits 1 "a dump of another network" verify --model $model --dump $trace --no-diagnosis
says out 'first bad' "it names a module"
exits 2 "no model" verify --dump $trace
exits 2 "an unknown class" verify --model $model --dump $model --layers linear=fp8
exits 3 "no such file" verify --model $model --dump $tmp/none.npz
exits 3 "nothing to verify" verify --model $model --dump tests/golden/rng_cpu.safetensors

"$fdm" denoise --model $weights --in $trace --out "$tmp/tf32.npz" --trace --backend tf32
# the results alone lack their inputs
exits 3 "a dump without inputs" verify --model $weights --dump "$tmp/tf32.npz"
says err '"x" is missing' "it names the input"
[ "$(wc -l <"$tmp/err")" = 1 ] && ok "in one line" || fail "in one line"

run_torch() { # INTERPRETER
    OMP_NUM_THREADS=2 "$1" bench/check_verify.py "$fdm" ${FDM_VERIFY_CHECKS:-quick} >"$tmp/torch" 2>"$tmp/err" ||
        grep -q '^FAIL' "$tmp/torch" || fail "bench/check_verify.py with $1: $(tail -n 1 "$tmp/err")"
    sed "s|\$| ($("$1" -c 'import torch; print("PyTorch", torch.__version__)'))|" "$tmp/torch"
    failures=$((failures + $(grep -c '^FAIL' "$tmp/torch")))
}
if [ -n "${SANITIZE:-}" ]; then
    skip "PyTorch's dumps: not for a sanitizer build"
else
    for python in ${FDM_TEST_PYTHON:-python3}; do
        if "$python" -c 'import torch, numpy' 2>/dev/null; then run_torch "$python"; else skip "PyTorch's dumps: $python has no torch"; fi
    done
fi
finish
