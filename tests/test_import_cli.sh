#!/usr/bin/env bash
# `fdm import`, `fdm export` and `fdm info` of pickles: published files, hostile ones, a published run gone on with, and
# what PyTorch writes and reads, where there is PyTorch.
. "$(dirname "$0")/house/lib.sh"
golden=${FDM_TEST_GOLDEN_DIR:-tests/golden}
run=$golden/run_ddpmpp_fdm_edm

try_grep=-F
says() { # NAME TEXT FILE
    verdict "$1 says $2" grep -qF -- "$2" "$3"
}

# ---- Published files -----------------------------------------------------------------------------------------------
verdict "snapshot" "$fdm" import "$run/snapshot-nosrc.pkl" "$tmp/model.safetensors"
verdict "snapshot: the published tensors" "$fdm" compare "$tmp/model.safetensors" "$run/network-snapshot-000000.safetensors" --ulp 0
verdict "training state" "$fdm" import "$run/training-state-nosrc.pt" "$tmp/state.safetensors"
verdict "training state: its network" "$fdm" import "$run/training-state-nosrc.pt" "$tmp/net.safetensors" --network
verdict "training state: the published network" "$fdm" compare "$tmp/net.safetensors" "$run/network-snapshot-000000.safetensors" --ulp 0
for name in "$tmp/model.safetensors" "$run/network-snapshot-000000.safetensors"; do
    "$fdm" sample --model "$name" --seeds 0 --steps 3 --class 1 --outdir "$tmp/${name##*/}.out" -q 2>"$tmp/err" || fail "sample from $name: $(cat "$tmp/err")"
done
verdict "the same picture" cmp "$tmp/model.safetensors.out/000000.png" "$tmp/network-snapshot-000000.safetensors.out/000000.png"

"$fdm" info "$run/snapshot-nosrc.pkl" >"$tmp/info" || fail "info of a snapshot"
for text in "network snapshot: pickle, protocol 4" "FDM_EDMPrecond, 3 x 16 x 16 images" '"warmup_ite": 3.0' "ImageFolderDataset" \
    "ema.model.enc.16x16_conv.weight"; do says "info" "$text" "$tmp/info"; done
"$fdm" info "$run/training-state-nosrc.pt" --json >"$tmp/info" || fail "info of a training state"
for text in '"kind": "training state: zip of torch.save, protocol 2"' '"class_name": "FDM_EDMPrecond"' '"amsgrad": false' \
    '"name": "net.model.map_label.weight"'; do says "info --json" "$text" "$tmp/info"; done

# ---- Usage ---------------------------------------------------------------------------------------------------------
pkl=$run/snapshot-nosrc.pkl
try 2 "wants SRC DST" import "$pkl"
try 2 "name it *.safetensors" import "$pkl" "$work/model.npz"
try 2 "needs --data" import "$pkl" "$work/m.safetensors" --batch 8
try 2 "give one of them" import "$pkl" "$work/run" --data "$golden/data_toy16.zip" --network
try 2 "name it *.pt" export "$tmp/model.safetensors" "$work/model.pkl"
try 3 "cannot open" import "$tmp/nothing.pkl" "$work/m.safetensors"
try 3 "cannot open" info "$tmp/nothing.pkl"
try 3 "a directory" import "$tmp" "$work/m.safetensors"
try 3 "is no training state" import "$pkl" "$work/run" --data "$golden/data_toy16.zip"
try 3 "give --snapshot" import "$run/training-state-nosrc.pt" "$work/run" --data "$golden/data_toy16.zip"
try 4 "cannot" import "$pkl" "$work/none/m.safetensors"
try 3 "no pickle of protocol 2 to 5" import README.md "$work/m.safetensors"

# ---- Hostile files -------------------------------------------------------------------------------------------------
mkdir "$tmp/attacks"
"$build/tests/test_import" --write "$tmp/attacks" >/dev/null || fail "attacks cannot be written"
# In a sanitizer build 20 of them: test_import has read all of them in one process.
[ -z "${SANITIZE:-}" ] || sed -i '0~4!d' "$tmp/attacks/list"
# Every one is refused, and shown or refused by fdm info, in 5 seconds of CPU time and the memory that README.md promises:
# twice its size and 32 MiB (a sanitizer takes more).
program=$fdm
limited() { "$build/tests/test_import" --limited "$tmp/peak" "$program" "$@"; }
within_memory() { # NAME FILE
    local most=$((2 * $(wc -c <"$2") / 1024 + 32768))
    [ -n "${SANITIZE:-}" ] || verdict "$1: $(cat "$tmp/peak") of $most kB" test "$(cat "$tmp/peak")" -le "$most"
}
while IFS=$'\t' read -r name mention; do
    file=$tmp/attacks/$name.pkl
    fdm=limited
    try 3 "$mention" import "$file" "$work/m.safetensors"
    within_memory "import $name" "$file"
    fdm=$program
    limited info "$file" --json >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    verdict "info $name: exit code $code: $(head -c 300 "$tmp/err")" [ "$code" = 0 -o "$code" = 3 ]
    within_memory "info $name" "$file"
done <"$tmp/attacks/list"
verdict "at least 20 attacks" [ "$(wc -l <"$tmp/attacks/list")" -ge 20 ]
try 3 "names os.system" info "$tmp/attacks/os_system.pkl"

# ---- A published run gone on with ----------------------------------------------------------------------------------
mkdir "$tmp/published"
cp "$run/training-state-nosrc.pt" "$tmp/published/training-state-000000.pt"
cp "$run/snapshot-nosrc.pkl" "$tmp/published/network-snapshot-000000.pkl"
for name in one two; do
    verdict "a run from a training state ($name)" "$fdm" import "$tmp/published/training-state-000000.pt" "$tmp/$name" \
        --data "$golden/data_toy16.zip" --batch 8 --duration 0.00004 --seed 1
done
state=$(echo "$tmp"/one/training-state-*.safetensors)
verdict "counts no update yet" [ "${state##*/}" = training-state-000000000.safetensors ]
says "its options" '"warmup_ite": 3.0' "$tmp/one/training_options.json"
"$fdm" info "$state" --json >"$tmp/info"
for text in '"name": "ema.model.map_label.weight"' '"name": "adam_v.model.map_label.weight"'; do says "the state" "$text" "$tmp/info"; done
verdict "fdm train goes on" "$fdm" train --resume "$tmp/one" -q
says "log" "resuming from" "$tmp/one/log.txt"
verdict "to 40 images" [ -f "$tmp/one/training-state-000000040.safetensors" ]
verdict "in two parts" bash -c '"$1" train --resume "$2" --duration 0.000016 -q && "$1" train --resume "$2" --duration 0.00004 -q' _ "$fdm" "$tmp/two"
verdict "the same to the bit" "$fdm" compare "$tmp/one/network-snapshot-000000.safetensors" "$tmp/two/network-snapshot-000000.safetensors" --ulp 0
try 2 "holds a training run" import "$tmp/published/training-state-000000.pt" "$tmp/one" --data "$golden/data_toy16.zip"
# what training_options.json beside the state says
echo '{"batch_size": 4, "optimizer_kwargs": {"lr": 0.002}, "ema_halflife_kimg": 250, "total_kimg": 0.02, "seed": 7}' \
    >"$tmp/published/training_options.json"
verdict "options of the published run" "$fdm" import "$tmp/published/training-state-000000.pt" "$tmp/three" --data "$golden/data_toy16.zip"
for text in '"batch": 4,' '"lr": 0.002' '"ema": 0.25' '"seed": 7'; do says "options" "$text" "$tmp/three/training_options.json"; done

# ---- PyTorch, where there is one -----------------------------------------------------------------------------------
peer=${FDM_TORCH_PYTHON:-/usr/bin/python3}
if "$peer" -c 'import torch' 2>/dev/null; then
    scratch=$tmp/peer
    # In memory, if there is 3 GB of it to spare: every file is synced, and a slow disk would decide how long this takes.
    [ "$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 3000000 ] 2>/dev/null && scratch=$(mktemp -d /dev/shm/fdm-test-XXXXXX)
    PYTHONDONTWRITEBYTECODE=1 "$peer" tests/import_peer.py "$fdm" "$scratch" ${SANITIZE:+--sanitized} || fail "tests/import_peer.py: exit code $?"
    rm -rf "$scratch"
else
    skip "files of PyTorch: $peer has none (apt install python3-torch)"
fi
finish
