#!/usr/bin/env bash
# Training runs: the same bits however they are computed, stopped, killed, starved of disk and resumed; and everything
# that is refused, each in one line that names what is wrong.
. "$(dirname "$0")/house/lib.sh"
export LC_ALL=C
golden=${FDM_TEST_GOLDEN_DIR:-tests/golden}
data=$tmp/d8.zip
mount=
trap '[ -z "$mount" ] || umount "$mount" 2>/dev/null; rm -rf "$tmp"' EXIT
"$fdm" dataset "$golden/data_toy16.zip" "$data" --resolution 8x8 -q >"$tmp/log" 2>&1 || fail "fdm dataset: $(cat "$tmp/log")"

net=(--data "$data" --cbase 8 --cres 1,2 --num_blocks 1 --attn_resolutions 4 --seed 3)
ticks=(--batch 8 --tick 0.016 --dump 1 --snap 5 --image-snap 0) # a state every second update
everything=(--cond 1 --xflip 1 --label_dropout 0.2 --dropout 0.13 --augment 0.2 --lr_rampup 0)

# with OPTION...: options, and those of the three lists above that they do not replace, in $options
with() {
    local all=("${net[@]}" "${ticks[@]}" "${everything[@]}") i
    options=("$@")
    for ((i = 0; i < ${#all[@]}; i += 2)); do
        [[ " $* " == *" ${all[i]} "* ]] || options+=("${all[@]:i:2}")
    done
}
# run NAME OPTION...: a run in $tmp/NAME, which must succeed
run() {
    local name=$1
    shift
    with "$@"
    "$fdm" train --outdir "$tmp/$name" --nosubdir "${options[@]}" -q >"$tmp/log" 2>&1 ||
        fail "training $name ($*): exit code $?: $(head -c 300 "$tmp/log")"
}
resume() { # NAME OPTION...
    local name=$1
    shift
    "$fdm" train --resume "$tmp/$name" -q "$@" >"$tmp/log" 2>&1 || fail "resuming $name: exit code $?: $(head -c 300 "$tmp/log")"
}
states() { (cd "$tmp/$1" && echo training-state-*.safetensors); }
losses() { sed 's/"Timing.*//' "$tmp/$1/stats.jsonl"; }
# same A B WHAT: the same files, byte for byte, but for times
same() {
    local a=$1 b=$2 file
    for file in $(states "$a") $(cd "$tmp/$a" && echo network-snapshot-*) reals.png; do
        cmp "$tmp/$a/$file" "$tmp/$b/$file" >"$tmp/log" 2>&1 || { fail "$3: $file: $(cat "$tmp/log")" && return; }
    done
    if [ "$(states "$a")" != "$(states "$b")" ]; then fail "$3: other states: $(states "$b")"
    elif [ "$(losses "$a")" != "$(losses "$b")" ]; then fail "$3: other losses in stats.jsonl"
    else ok "$3"; fi
}

# ---- The same bits however a run is computed -------------------------------------------------------------------------
twenty=(--duration 0.00016)
run base "${twenty[@]}" --threads 1
verdict "20 updates make 11 ticks" test "$(wc -l <"$tmp/base/stats.jsonl")" = 11
verdict "the newest two states are kept" test "$(states base)" = "training-state-000000152.safetensors training-state-000000160.safetensors"
for isa in portable avx2 avx512; do
    "$fdm" train -n --outdir "$tmp/none" "${net[@]}" --isa $isa >/dev/null 2>"$tmp/log"
    if grep -q 'cannot run' "$tmp/log"; then
        skip "$isa: this CPU cannot run it"
        continue
    fi
    for threads in 1 2 3; do
        run "$isa$threads" "${twenty[@]}" --isa $isa --threads $threads
        same base "$isa$threads" "20 updates, $isa, $threads threads"
    done
done
for way in norm block; do
    run "$way" "${twenty[@]}" --recompute $way
    same base "$way" "20 updates, --recompute $way"
done
# Rounds: all but the settings, which name --batch-gpu, is the same.
for round in 4 2 1; do
    run "round$round" "${twenty[@]}" --batch-gpu $round --threads 2
    "$fdm" compare "$tmp/base/training-state-000000160.safetensors" "$tmp/round$round/training-state-000000160.safetensors" \
        -q >"$tmp/log" 2>&1 && cmp "$tmp/base/network-snapshot-000000.safetensors" \
        "$tmp/round$round/network-snapshot-000000.safetensors" >>"$tmp/log" 2>&1 &&
        test "$(losses base)" = "$(losses "round$round")"
    verdict "batch 8 in rounds of $round" test $? = 0
done
run other "${twenty[@]}" --seed 4
verdict "another seed gives other bits" test -n "$(cmp "$tmp/base/network-snapshot-000000.safetensors" \
    "$tmp/other/network-snapshot-000000.safetensors")"
verdict "the losses are finite" test "$(grep -c '"mean": [0-9.]*, "std": [0-9.]*}, "Progress/tick"' "$tmp/base/stats.jsonl")" = 11

# Every framework on both networks.
for precond in vp ve edm fdm_vp fdm_ve fdm_edm; do
    for arch in ddpmpp ncsnpp; do
        extra=()
        [[ $precond == fdm_* ]] && extra=(--warmup_ite 3 --zeta 0.5)
        run "$precond-$arch" --duration 0.000016 --precond $precond --arch $arch "${extra[@]}"
        verdict "$precond, $arch: two updates" grep -q '"Progress/kimg": {"num": 1, "mean": 0.016' "$tmp/$precond-$arch/stats.jsonl"
        verdict "its snapshot is a model file" "$fdm" info "$tmp/$precond-$arch/network-snapshot-000000.safetensors"
        rm -rf "${tmp:?}/$precond-$arch"
    done
done

# Grids of samples, and the names of the run directories.
for number in 00000 00001; do
    "$fdm" train --outdir "$tmp/out" "${net[@]}" --cond 1 --batch 8 --duration 0.000016 --tick 1 --image-snap 1 --image-count 4 \
        --image-steps 2 -q >"$tmp/log" 2>&1
    dir=$tmp/out/$number-d8-cond-ddpmpp-fdm_edm-batch8
    verdict "run directory $number" test -s "$dir/fakes000000.png" -a -s "$dir/reals.png" -a -s "$dir/training_options.json" -a \
        -s "$dir/log.txt" -a -s "$dir/network-snapshot-000000.safetensors"
done

# ---- Stopped and resumed ---------------------------------------------------------------------------------------------
images=1600 kills=30 # 200 updates
if [ -n "${SANITIZE:-}" ]; then
    images=1008 kills=5
    echo "only 126 updates and 5 kills: the program is slow under sanitizers"
fi
long=(--duration "$(printf '0.%06d' $images)")
last=$(printf 'training-state-%09d.safetensors' $images) before_last=$(printf 'training-state-%09d.safetensors' $((images - 16)))
run whole "${long[@]}"
background() { # NAME ARGUMENT...: started with default signals, which a background job has not; its id in $pid
    local name=$1
    shift
    set -m
    "$fdm" "$@" >"$tmp/$name.out" 2>"$tmp/$name.err" </dev/null &
    pid=$!
    set +m
}
await() { # PATTERN FILE: a line, for a minute at most
    local i
    for ((i = 0; i < 1200; i++)); do
        grep -q "$1" "$2" 2>/dev/null && return
        sleep 0.05
    done
    fail "no line $1 in ${2##*/}"
}
for signal in INT TERM; do
    background stop train --outdir "$tmp/$signal" --nosubdir "${net[@]}" "${ticks[@]}" "${everything[@]}" "${long[@]}" -q
    await '^tick 5 ' "$tmp/$signal/log.txt"
    kill -$signal $pid
    wait $pid
    code=$?
    verdict "SIG$signal: 130" test $code = 130
    verdict "SIG$signal: one line that says how to go on" test "$(grep -c "saved; go on with --resume $tmp/$signal\$" "$tmp/stop.err")" = 1 \
        -a "$(wc -l <"$tmp/stop.err")" = 1
    rm -rf "$tmp/copy$signal" && cp -r "$tmp/$signal" "$tmp/copy$signal"
    resume "$signal" --threads 1 --recompute norm
    same whole "$signal" "SIG$signal, resumed: the bits of a run left alone"
    verdict "it went on from a state" grep -q '^resuming from ' "$tmp/$signal/log.txt"
done

# Longer than planned: the same as planning it so, whose settings alone differ.
run short --duration 0.0008
resume short "${long[@]}"
verdict "--duration raised: the same network" cmp "$tmp/whole/network-snapshot-000001.safetensors" \
    "$tmp/short/network-snapshot-000001.safetensors"

# ---- Killed ----------------------------------------------------------------------------------------------------------
RANDOM=20240 done_runs=0 hit=0
for ((k = 0; k < kills; k++)); do
    if [ -s "$tmp/killed/training_options.json" ]; then
        background killed train --resume "$tmp/killed" -q --threads $((1 + k % 3))
    else # killed before it said what it is, if at all
        background killed train --outdir "$tmp/killed" --nosubdir "${net[@]}" "${ticks[@]}" "${everything[@]}" "${long[@]}" -q
    fi
    sleep "0.$(printf %03d $((RANDOM % 400 + 3)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    code=$?
    if [ $code = 137 ]; then hit=$((hit + 1))
    elif [ $code = 0 ]; then # it was done: once more
        same whole killed "killed and resumed to the end"
        rm -rf "$tmp/killed"
        done_runs=$((done_runs + 1))
    else fail "kill $k: exit code $code: $(head -c 300 "$tmp/killed.err")"; fi
done
if [ -s "$tmp/killed/training_options.json" ]; then resume killed; else run killed "${long[@]}"; fi
same whole killed "killed $hit times in all, over $((done_runs + 1)) runs: the bits of a run left alone"
verdict "no state was found damaged" test "$(cat "$tmp/killed/log.txt" | grep -c 'not whole')" = 0
verdict "nothing half-written is left" test -z "$(find "$tmp/killed" -name '.fdm-*')"

# ---- Damaged states --------------------------------------------------------------------------------------------------
newest() { states "$1" | tr ' ' '\n' | tail -n 1; }
harm() { # NAME WHAT: copyINT with its newest state harmed
    rm -rf "${tmp:?}/$1" && cp -r "$tmp/copyINT" "$tmp/$1"
    file=$tmp/$1/$(newest "$1")
    case $2 in
    truncated) truncate -s -100 "$file" ;;
    empty) : >"$file" ;;
    header) printf '\xff' | dd of="$file" bs=1 seek=40 conv=notrunc 2>/dev/null ;;
    element) # one bit of a weight
        byte=$(od -An -tu1 -j 500000 -N1 "$file")
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$file" bs=1 seek=500000 conv=notrunc 2>/dev/null
        ;;
    esac
}
for what in truncated empty header element; do
    harm harmed $what
    resume harmed
    verdict "newest state $what: said so" grep -q "^not whole, trying an older one: .*${file##*/}" "$tmp/harmed/log.txt"
    verdict "and put aside" test -e "$file.damaged"
    same whole harmed "and resumed from the one before: the same bits"
done

# refuse CODE PATTERN ARGUMENT...: exit code, one line on stderr that matches, nothing in $work
refuse() {
    local want=$1 pattern=$2 code shown
    shift 2
    shown=${*//$tmp\//}
    "$fdm" train "$@" >"$tmp/out.log" 2>"$tmp/err" </dev/null
    code=$?
    if [[ $code != $want ]]; then fail "$shown: exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    elif [ "$(wc -l <"$tmp/err")" != 1 ]; then fail "$shown: not one line on stderr: $(head -c 300 "$tmp/err")"
    elif ! grep -qE -- "$pattern" "$tmp/err"; then fail "$shown: stderr does not match $pattern: $(head -c 300 "$tmp/err")"
    elif [ -n "$(find "$work" ! -type d)" ]; then
        fail "$shown: left $(find "$work" ! -type d)"
        rm -rf "$work" && mkdir "$work"
    else ok "$shown ($want)"; fi
}
harm harmed truncated
truncate -s 1000 "$tmp/harmed/$(states harmed | cut -d ' ' -f 1)"
list=$(ls "$tmp/harmed")
refuse 3 'no whole training state' --resume "$tmp/harmed"
verdict "both states stay where they are" test "$(ls "$tmp/harmed")" = "$list"

# ---- No room, no right to write --------------------------------------------------------------------------------------
# A limit of the file size stands for a full disk: states do not fit, everything else does.
cp -r "$tmp/copyTERM" "$tmp/full"
before=$(cd "$tmp/full" && sha256sum training-state-*)
(ulimit -f 500 && exec "$fdm" train --resume "$tmp/full" -q >"$tmp/out.log" 2>"$tmp/err" </dev/null)
verdict "states do not fit: exit code 4 at the end" test $? = 4
verdict "in one line that names the file" test "$(grep -c 'the last training state was not written: .*'"$last: " "$tmp/err")" = 1
verdict "log.txt warns" grep -q '^warning: the training state was not written: .*training-state-.*training goes on' "$tmp/full/log.txt"
verdict "the old states are whole" test "$(cd "$tmp/full" && sha256sum training-state-*)" = "$before"
verdict "nothing half-written is left" test -z "$(find "$tmp/full" -name '.fdm-*')"
resume full
same whole full "with room again: the bits of a run left alone"

cp -r "$tmp/copyTERM" "$tmp/full2" # not even a snapshot fits, nor a line of stats.jsonl
head -c 90000 /dev/zero | tr '\0' ' ' >>"$tmp/full2/log.txt"
(ulimit -f 50 && exec "$fdm" train --resume "$tmp/full2" -q >"$tmp/out.log" 2>"$tmp/err" </dev/null)
verdict "no snapshot fits: exit code 4" test $? = 4 -a "$(wc -l <"$tmp/err")" = 1
resume full2
same whole full2 "with room again: the same bits"

if [ "$(id -u)" = 0 ] && mkdir "$tmp/mnt" && mount -t tmpfs -o size=2m tmpfs "$tmp/mnt" 2>/dev/null; then
    mount=$tmp/mnt
    "$fdm" train --outdir "$mount/r" --nosubdir "${net[@]}" "${ticks[@]}" "${everything[@]}" "${long[@]}" -q >"$tmp/out.log" 2>"$tmp/err"
    verdict "a disk of 2 MB: exit code 4" test $? = 4
    verdict "and why" grep -q 'No space left on device' "$tmp/err"
    cp -r "$mount/r" "$tmp/moved"
    mount -o remount,ro "$mount"
    refuse 4 'log.txt: cannot write: Read-only file system' --resume "$mount/r"
    verdict "a read-only disk loses nothing" diff -r "$mount/r" "$tmp/moved"
    umount "$mount" && mount=
    resume moved
    same whole moved "moved to a larger disk: the same bits"
else
    skip "no tmpfs: only root may mount one"
fi
if [ "$(id -u)" = 0 ]; then
    skip "read-only folders: root may write to them"
else
    chmod 555 "$work"
    refuse 4 'work/x: cannot make the folder' --outdir "$work/x" --nosubdir "${net[@]}"
    chmod 755 "$work"
    background ro train --outdir "$tmp/ro" --nosubdir "${net[@]}" "${ticks[@]}" "${everything[@]}" "${long[@]}" -q
    await '^tick 3 ' "$tmp/ro/log.txt"
    chmod 555 "$tmp/ro"
    wait $pid
    verdict "the folder becomes read-only: exit code 4" test $? = 4 -a "$(wc -l <"$tmp/ro.err")" = 1
    refuse 4 'cannot' --resume "$tmp/ro"
    chmod 755 "$tmp/ro"
    resume ro
    same whole ro "writable again: the same bits"
fi
: >"$tmp/file"
refuse 4 'cannot make the folder' --outdir "$tmp/file" --nosubdir "${net[@]}"
refuse 4 'cannot make the folder' --outdir "$tmp/file/x" "${net[@]}"
refuse 4 '/proc/x: cannot make the folder' --outdir /proc/x --nosubdir "${net[@]}"

# ---- Refused ---------------------------------------------------------------------------------------------------------
list=$(cd "$tmp/whole" && sha256sum ./*)
refuse 2 'whole: holds a training run; go on with --resume' --outdir "$tmp/whole" --nosubdir "${net[@]}"
for option in '--cond 1' '--arch ncsnpp' '--precond edm' '--batch 4' '--batch-gpu 4' '--cbase 8' '--cres 1,2' '--num_blocks 1' \
    '--attn_resolutions 4' '--lr 0.1' '--lr_rampup 1' '--ema 1' '--dropout 0' '--label_dropout 0' '--augment 0' '--xflip 0' \
    '--warmup_ite 3' '--fdm_multiplier 2' '--zeta 2' '--ls 1' '--seed 3' "--transfer $tmp/x" "--outdir $tmp/x" --nosubdir; do
    # shellcheck disable=SC2086
    refuse 2 "${option%% *} cannot be given with --resume" --resume "$tmp/whole" $option
done
refuse 2 '--outdir and --data .* required' --outdir "$work"
refuse 2 '--outdir and --data .* required' --data "$data"
refuse 2 '--batch 8 is no multiple of --batch-gpu 3' --outdir "$work" "${net[@]}" --batch 8 --batch-gpu 3
refuse 2 '--label_dropout drops the labels of --cond 1' --outdir "$work" "${net[@]}" --label_dropout 0.1
refuse 2 '--zeta belongs to the fdm_' --outdir "$work" "${net[@]}" --precond edm --zeta 0.5
for option in '--lr 0' '--lr nan' '--lr 1e30' '--dropout 1' '--augment 2' '--batch 0' '--batch 70000' '--cres 0' '--cres x' '--arch u' \
    '--precond x' '--cond 2' '--duration 0' '--duration -1' '--tick 0' '--seed -1' '--image-steps 1' '--recompute all' \
    '--zeta -1' '--zeta nan' '--zeta 1e7'; do
    # shellcheck disable=SC2086
    refuse 2 "${option%% *}" --outdir "$work" "${net[@]}" $option
done
refuse 2 '--duration is in millions of images' --outdir "$work" "${net[@]}" --duration 1e-9
refuse 3 'nowhere.zip: ' --outdir "$work" --data "$tmp/nowhere.zip"
refuse '[23]' 'these settings: .*(divisible|levels|resolution)' --outdir "$work" --data "$data" --cbase 8 --cres 1,1,1,1,1
refuse 3 'nowhere: is no run directory' --resume "$tmp/nowhere"
mkdir "$tmp/plain"
cp tests/corpus/png/rgb8.png "$tmp/plain" 2>/dev/null || cp "$tmp/base/reals.png" "$tmp/plain"
"$fdm" dataset "$tmp/plain" "$tmp/plain.zip" --resolution 8x8 -q >"$tmp/log" 2>&1 || fail "$(cat "$tmp/log")"
refuse 3 'plain.zip: --cond needs labels' --outdir "$work" --data "$tmp/plain.zip" --cond 1 --cbase 8 --cres 1,2
verdict "a finished run was not touched" test "$(cd "$tmp/whole" && sha256sum ./*)" = "$list"

# The warm-up goes on when a run is resumed; with --warmup_restart it starts over, as the published program's does.
warm=(--warmup_ite 40 --precond fdm_edm)
run warm4 "${warm[@]}" --duration 0.000032
run warm8 "${warm[@]}" --duration 0.000032
cp -r "$tmp/warm8" "$tmp/warm8r"
resume warm8 --duration 0.000064
resume warm8r --duration 0.000064 --warmup_restart
limits() { "$fdm" compare "$tmp/warm4/training-state-000000032.safetensors" "$tmp/$1/training-state-000000064.safetensors" \
    --only trainer.warmup >/dev/null 2>&1; }
verdict "warm-up restarted on resume: the limit of as many calls" limits warm8r
if limits warm8; then fail "warm-up resumed: the limit of a restarted one"; else ok "warm-up resumed: another limit"; fi

# Not published: the warm-up alone, on a framework without FDM's kernel.
run warmplain --precond edm --warmup_ite 40 --duration 0.000032
run plain --precond edm --duration 0.000032
alike() { "$fdm" compare "$tmp/warm4/$state" "$tmp/$1/$state" --only trainer.warmup >/dev/null 2>&1; }
state=training-state-000000032.safetensors
verdict "--warmup_ite with edm: the limits of fdm_edm" alike warmplain
verdict "--warmup_ite with edm: other weights than without" test -n "$(cmp "$tmp/warmplain/$state" "$tmp/plain/$state")"
verdict "--warmup_ite with edm: said to be unpublished" bash -c "'$fdm' train -n --outdir '$tmp/none' --data '$data' --precond edm \
    --cbase 8 --cres 1,2 --warmup_ite 40 2>&1 | grep -q 'warm-up .*the published program has none here'"
# Nor is this: another damping than critical; 1 changes nothing.
run zeta1 --zeta 1 --duration 0.000032
run zetahalf --zeta 0.5 --duration 0.000032
run zetanone --duration 0.000032
verdict "--zeta 1: the bits of a run without it" cmp "$tmp/zeta1/$state" "$tmp/zetanone/$state"
verdict "--zeta 0.5: other weights" test -n "$(cmp "$tmp/zetahalf/$state" "$tmp/zetanone/$state")"
verdict "--zeta 0.5: the snapshot knows" bash -c "'$fdm' info '$tmp/zetahalf/network-snapshot-000000.safetensors' | grep -q ', zeta 0.5\$'"

# Two processes in one run directory.
background first train --outdir "$tmp/twice" --nosubdir "${net[@]}" "${ticks[@]}" --duration 10 -q
await '^tick 1 ' "$tmp/twice/log.txt"
refuse 4 'twice: another process is training in this folder' --resume "$tmp/twice"
refuse 2 'twice: holds a training run' --outdir "$tmp/twice" --nosubdir "${net[@]}"
kill -TERM $pid
wait $pid
verdict "the first one is unharmed" test $? = 130

# The data has moved, or is other data.
cp -r "$tmp/copyINT" "$tmp/data"
mv "$data" "$tmp/elsewhere.zip"
refuse 3 'd8.zip: ' --resume "$tmp/data"
"$fdm" dataset "$golden/data_toy16.zip" "$tmp/nine.zip" --resolution 8x8 --max-images 9 -q >/dev/null 2>&1
refuse 3 'the data has changed: .*nine.zip holds 18 images, the run was on 20' --resume "$tmp/data" --data "$tmp/nine.zip"
refuse 3 'the network of this state is not the one' --resume "$tmp/data" --data "$golden/data_toy16.zip"
verdict "its states are untouched" test "$(states data)" = "$(states copyINT)"
resume data --data "$tmp/elsewhere.zip"
verdict "--data with --resume: the same network" cmp "$tmp/whole/network-snapshot-000001.safetensors" \
    "$tmp/data/network-snapshot-000001.safetensors"
mv "$tmp/elsewhere.zip" "$data"

# Dry runs do nothing, and show what would be done.
verdict "-n" "$fdm" train -n --outdir "$work/new" "${net[@]}"
verdict "-n makes nothing" test -z "$(ls "$work")"
list=$(cd "$tmp/copyINT" && sha256sum ./*)
verdict "-n --resume" "$fdm" train -n --resume "$tmp/copyINT" --duration 5
verdict "-n --resume changes nothing" test "$(cd "$tmp/copyINT" && sha256sum ./*)" = "$list"
# Rounds chosen automatically: they fit the budget for a batch that is no power of two, and are no matter of the backend,
# because a warm-up counts them.
rounds() { "$fdm" train -n --outdir "$tmp/none" --data "$golden/data_toy16.zip" --cbase 64 --batch 999 --warmup_ite 370 "$@" 2>&1; }
verdict "batch 999: rounds that fit" test "$(rounds | grep -cE '^updates .* in rounds of (27|37|111),|the first (10|14|42) updates$')" = 2
verdict "the same for the reference" test "$(rounds | grep '^updates')" = "$(rounds --backend reference | grep '^updates')"
# A state is no model.
"$fdm" sample --model "$tmp/base/training-state-000000160.safetensors" --outdir "$work" --seeds 0 >/dev/null 2>"$tmp/err"
verdict "sampling from a state: says what to take" grep -q 'is a training state, not a model; take a network-snapshot' "$tmp/err"

# The command's own defaults are the library's, which fill in what training_options.json does not say.
mkdir "$tmp/defaults"
echo "{\"data\": \"$data\", \"cbase\": 8, \"seed\": 3, \"conv\": \"winograd2\"}" >"$tmp/defaults/training_options.json"
"$fdm" train -n --resume "$tmp/defaults" | sed -n '/^settings/,$p' >"$tmp/library"
"$fdm" train -n --outdir "$tmp/x" --data "$data" --cbase 8 --seed 3 | sed -n '/^settings/,$p' >"$tmp/command"
verdict "the defaults of command and library" cmp "$tmp/library" "$tmp/command"
# The convolution mode belongs to the run; runs from before there was a choice are direct.
sed -i 's/, "conv": "winograd2"//' "$tmp/defaults/training_options.json"
verdict "no mode in training_options.json: direct" sh -c "'$fdm' train -n --resume '$tmp/defaults' | grep -q '\"conv\": \"direct\"'"
"$fdm" train -n --resume "$tmp/defaults" --conv direct >/dev/null 2>"$tmp/err"
verdict "--conv with --resume is refused" test "$?" = 2 -a "$(wc -l <"$tmp/err")" = 1
verdict "... and says why" grep -q -e '--conv cannot be given with --resume' "$tmp/err"
verdict "are 25 or more" test "$(grep -c '": ' "$tmp/command")" -ge 25
verdict "--cbase by default" grep -q '"cbase": 128' <("$fdm" train -n --outdir "$tmp/x" --data "$data" --num_blocks 1 --cres 1)

# ---- Transfer --------------------------------------------------------------------------------------------------------
snapshot=$tmp/base/network-snapshot-000000.safetensors
run transfer --duration 0.000008 --transfer "$snapshot" --lr_rampup 10 # the first update has a learning rate of 0
count=$(sed -n 's/^transfer: \([0-9]*\) of \1 tensors from .*/\1/p' "$tmp/transfer/log.txt")
verdict "--transfer takes all ${count:-} tensors" test "${count:-0}" -gt 100
verdict "and starts with them" "$fdm" compare "$snapshot" "$tmp/transfer/network-snapshot-000000.safetensors" --only 'model*'
run transfer2 --duration 0.000008 --transfer "$snapshot" --cres 1,1
verdict "another network: what starts fresh is named" grep -q '^transfer: model.*weight starts fresh' "$tmp/transfer2/log.txt"
verdict "and the rest is taken" grep -q '^transfer: [1-9][0-9]* of [0-9]* tensors' "$tmp/transfer2/log.txt"
head -c 5000 "$snapshot" >"$tmp/cut.safetensors"
refuse 3 'cut.safetensors: ' -n --outdir "$work/t" "${net[@]}" --transfer "$tmp/cut.safetensors"
refuse 3 'none.safetensors: ' -n --outdir "$work/t" "${net[@]}" --transfer "$tmp/none.safetensors"
refuse 3 'no tensor fits this network' -n --outdir "$work/t" "${net[@]}" --transfer "$golden/kernel_values.safetensors"

# ---- Losses that are not finite --------------------------------------------------------------------------------------
run nan "${twenty[@]}" --lr 1000
verdict "NaN: the update and the image are named" grep -qE \
    '^warning: update [0-9]+ \(image [0-9]+ of the run\): the loss of [0-9]+ of 8 images is not finite, first that of 00000/img[0-9]+.png' \
    "$tmp/nan/log.txt"
verdict "NaN: what became of the gradient" grep -qE '^warning: update [0-9]+: [0-9]+ elements of the gradient were not finite' "$tmp/nan/log.txt"
verdict "NaN: the run goes on to its end" grep -q '"Loss/loss": .*"mean": null.*"mean": 0.16' "$tmp/nan/stats.jsonl"
resume nan --duration 0.00032
verdict "NaN: and can be resumed" test -s "$tmp/nan/training-state-000000320.safetensors"

# ---- A warm-up is resumed, or starts over when asked to --------------------------------------------------------------
run warm --duration 0.00016 --warmup_ite 40
run warm1 --duration 0.00008 --warmup_ite 40
rm -rf "$tmp/warm2" && cp -r "$tmp/warm1" "$tmp/warm2"
resume warm1 --duration 0.00016
resume warm2 --duration 0.00016 --warmup_restart
warm=$tmp/warm/network-snapshot-000000.safetensors
verdict "a warm-up goes on where it was" cmp "$warm" "$tmp/warm1/network-snapshot-000000.safetensors"
verdict "--warmup_restart: it does not" test -n "$(cmp "$warm" "$tmp/warm2/network-snapshot-000000.safetensors")"
refuse 2 '--warmup_restart belongs to --resume' --outdir "$work" "${net[@]}" --warmup_restart
refuse 2 '--trace-comm: there are no messages on one rank' --outdir "$work" "${net[@]}" --trace-comm "$work/trace.json"

# ---- A damaged image in the middle of a run --------------------------------------------------------------------------
slow=(--batch 1 --duration 0.00002 --dump 0 --image-count 1) # reals.png reads one image
run single "${slow[@]}"
cp "$data" "$tmp/late.zip"
printf '\xff\xff\xff' | dd of="$tmp/late.zip" bs=1 seek=2100 conv=notrunc 2>/dev/null # among the pixels of img00000006.png
with "${slow[@]}" --data "$tmp/late.zip"
"$fdm" train --outdir "$tmp/damaged" --nosubdir "${options[@]}" -q >/dev/null 2>"$tmp/err"
verdict "a damaged image: exit code 3" test $? = 3
verdict "one line that names it" test "$(grep -c 'late.zip: member "00000/img00000006.png": ' "$tmp/err")" = 1 -a "$(wc -l <"$tmp/err")" = 1
cp "$data" "$tmp/late.zip"
resume damaged
verdict "what was trained before it is not lost" grep -q '^resuming from ' "$tmp/damaged/log.txt"
verdict "repaired and resumed: the bits of a run left alone" cmp "$tmp/single/network-snapshot-000000.safetensors" \
    "$tmp/damaged/network-snapshot-000000.safetensors"

# ---- Hostile training_options.json -----------------------------------------------------------------------------------
h=$tmp/hostile
mkdir "$h"
good=$tmp/copyINT/training_options.json
refuse_any() { # WHAT: refused in one line, or taken; never a crash
    "$fdm" train -n --resume "$h" >"$tmp/out.log" 2>"$tmp/err" </dev/null
    code=$?
    if [ $code = 0 ] || { [[ $code == [234] ]] && [ "$(wc -l <"$tmp/err")" = 1 ]; }; then ok "training_options.json $1 ($code)"
    else fail "training_options.json $1: exit code $code: $(head -c 300 "$tmp/err")"; fi
}
size=$(wc -c <"$good")
for ((i = 0; i < 10; i++)); do
    head -c $((size * i / 10)) "$good" >"$h/training_options.json"
    refuse 3 'training_options.json: ' -n --resume "$h"
done
for text in '' '[]' '5' '{' '{"settings": 5}' '{"settings": []}' '{"data": 5}' '{"data": ""}' '{"data": "a\u0000b"}' '{"data": "a", "data": "b"}' \
    "$(head -c 100000 /dev/zero | tr '\0' '[')" "$(printf '\xff\xfe')" '{"data": "\ud800"}'; do
    printf %s "$text" >"$h/training_options.json"
    refuse 3 'training_options.json: ' -n --resume "$h"
done
echo '{}' >"$h/training_options.json"
refuse 2 '--data is required' -n --resume "$h"
keys=$(sed -n '/"settings"/,$s/^ *"\([a-z_]*\)":.*/\1/p' "$good")
verdict "settings are found" test "$(echo "$keys" | wc -w)" -ge 26
for key in $keys; do
    [ "$key" = settings ] && continue
    for value in '{}' '"x"' '[[]]' 1e300 -1 99999999999999999999 true; do
        sed "/\"settings\"/,\$s/^\\( *\"$key\": \\)[^,[]*\\(\\[.*\\)\\{0,1\\}/\\1$value,/; s/,,/,/" "$good" >"$h/training_options.json"
        refuse_any "$key $value"
    done
done >"$tmp/many"
verdict "$(grep -c '^ok' "$tmp/many") wrong values of settings: refused in one line, or taken" test "$(grep -c '^ok' "$tmp/many")" -gt 180 \
    -a "$(grep -c '^FAIL' "$tmp/many")" = 0
grep '^FAIL' "$tmp/many" | head -n 5
sed 's/"lr": 0.001/"lr": 0.002/' "$good" >"$tmp/data/training_options.json"
cp "$tmp/copyINT"/training-state* "$tmp/data/"
rm -f "$tmp/data/$last" "$tmp/data/$before_last"
refuse 3 'other settings than training_options.json' --resume "$tmp/data"
finish
