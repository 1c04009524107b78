#!/usr/bin/env bash
# fdm train over MPI: the bits of one rank for 2 and 4 ranks, resumed with another number of ranks, killed at random moments;
# errors on one rank end all with one message.  With every MPI that is installed.
#   FDM_TEST_MPI=full    every number of ranks, of threads and instruction set; 20 kills of each rank (minutes); =kills: those
#   FDM_TEST_MPI_KINDS   "openmpi mpich"; the first one goes through everything
#   FDM_TEST_NEEDS_MPI=1 without any of them the test fails instead of being skipped, as in CI
. "$(dirname "$0")/house/lib.sh"
full=${FDM_TEST_MPI:-}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # a container's only user is root
export OMPI_MCA_rmaps_base_oversubscribe=1 # more ranks than cores
limit=300 # seconds until a run counts as hanging

refuses() { ! "$@"; }

kinds=()
for kind in ${FDM_TEST_MPI_KINDS:-openmpi mpich}; do
    if ! command -v "mpirun.$kind" >/dev/null; then
        skip "ranks over $kind: mpirun.$kind is not installed"
    elif "$fdm" --version | grep -q "^MPI: none"; then
        skip "ranks over $kind: this build is without MPI"
    elif ! "${MAKE:-make}" --no-print-directory FDM_QUIET_CONFIG=1 BUILD="$build" CC="${CC:-gcc}" "$build/fdm-$kind" >"$tmp/make.log" 2>&1; then
        if grep -q 'No rule to make target' "$tmp/make.log"; then skip "ranks over $kind: its headers are not installed"; else
            cat "$tmp/make.log"
            fail "fdm-$kind does not build"
        fi
    else
        kinds+=("$kind")
    fi
done
[ ${#kinds[@]} -gt 0 ] || [ "${FDM_TEST_NEEDS_MPI:-}" != 1 ] || fail "no MPI to test with (apt install libopenmpi-dev openmpi-bin, or libmpich-dev mpich)"
[ ${#kinds[@]} -gt 0 ] || finish || exit 1
[ ${#kinds[@]} -gt 0 ] || exit 0
where_none_is() { FDM_TEST_MPI_KINDS=none FDM_TEST_NEEDS_MPI=$1 bash tests/test_mpi.sh; }
verdict "without MPI it is skipped" where_none_is 0
verdict "without MPI where one is needed it fails" refuses where_none_is 1

data=tests/golden/data_toy16.zip
# Everything that enters the bits: labels and their dropout, augmentation, dropout, rounds, a warm-up that ends in the run.
net=(--cond 1 --cbase 8 --cres 1,1 --num_blocks 1 --attn_resolutions 8 --batch 8 --batch-gpu 4 --warmup_ite 12
    --label_dropout 0.1 --dropout 0.13 --augment 0.3 --seed 3)
tail=(--data $data --tick 0.016 --snap 2 --dump 2 --image-count 5 --image-steps 2 --nosubdir -q)
ten=(--duration 0.00008) # 10 updates
last=training-state-000000080.safetensors

# over KIND RANKS ARGUMENT...: fdm train over that many ranks
over() {
    local kind=$1 ranks=$2
    shift 2
    timeout -k 5 $limit "mpirun.$kind" -n "$ranks" "$build/fdm-$kind" train "$@"
}
# one_line CODE PATTERN COMMAND...: it fails with that code, and rank 0 or whoever noticed says one line that matches
one_line() {
    local want=$1 pattern=$2 code
    shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    grep '^fdm train: ' "$tmp/err" >"$tmp/line"
    [ "$code" = "$want" ] && [ "$(wc -l <"$tmp/line")" = 1 ] && grep -qE "$pattern" "$tmp/line" && return 0
    echo "exit code $code"
    head -n 20 "$tmp/err"
    return 1
}
same_losses() { diff <(grep -o '"Loss/loss": {[^}]*}' "$1/stats.jsonl") <(grep -o '"Loss/loss": {[^}]*}' "$2/stats.jsonl"); }

# overlaps TRACE RANK: some message of the rank was under way during a step of the backward pass of the same update
overlaps() {
    awk -v rank="$2" '
        /"ph": "X"/ {
            gsub(/[",:{}]/, " ")
            for (i = 1; i < NF; i++) value[$i] = $(i + 1)
            if (value["pid"] != rank) next
            begin = value["ts"] + 0; end = begin + value["dur"]; update = value["update"]
            if (value["tid"] == 0) { # all of them come before the messages
                if (!(update in first)) first[update] = begin
                last[update] = end
            } else { messages++; during += update in first && begin < last[update] && end > first[update] }
        }
        END { print during + 0 " of " messages + 0 " messages"; exit !during }' "$1"
}
verdict "one rank, 10 updates" "$fdm" train --outdir "$tmp/one" "${tail[@]}" "${net[@]}" "${ten[@]}" --threads 2

# --- bits ---
runs=("2 1 portable" "4 2 avx2" "4 1 avx512")
[ "$full" != full ] || runs=({2,4,8}\ {1,2}\ {portable,avx2,avx512})
has=$("$fdm" --version | sed -n 's/^vector instructions of this CPU: //p')
for kind in "${kinds[@]}"; do
    [ "$kind" = "${kinds[0]}" ] || [ -n "$full" ] || runs=("2 2 portable") # of the others only that they work
    for run in "${runs[@]}"; do
        read -r ranks threads isa <<<"$run"
        if [[ " $has " != *" $isa "* ]]; then
            skip "$kind, $ranks ranks, $isa: this CPU lacks it"
            continue
        fi
        out=$tmp/$kind-$ranks-$threads-$isa
        more=()
        [ "$ranks" != 2 ] || more=(--trace-comm "$tmp/$kind.json")
        verdict "$kind, $ranks ranks, $threads threads, $isa" over "$kind" "$ranks" --outdir "$out" "${tail[@]}" "${net[@]}" \
            "${ten[@]}" --threads "$threads" --isa "$isa" "${more[@]}"
        for file in $last network-snapshot-000000.safetensors fakes000000.png reals.png training_options.json; do
            verdict "$kind, $ranks ranks, $threads threads, $isa: $file" cmp "$tmp/one/$file" "$out/$file"
        done
        verdict "$kind, $ranks ranks, $threads threads, $isa: losses" same_losses "$tmp/one" "$out"
    done
    for rank in 0 1; do
        verdict "$kind: the trace shows messages of rank $rank during its backward pass" overlaps "$tmp/$kind.json" $rank
    done
    sed -E '/"tid": 1, "ts"/s/"ts": /"ts": 9/' "$tmp/$kind.json" >"$tmp/serial.json" # later by more than the run is long
    verdict "$kind: one whose messages come later does not" refuses overlaps "$tmp/serial.json" 0
done
kind=${kinds[0]} # from here on one of them

# --- another number of ranks ---
go_on() { over "$kind" "$1" --resume "$tmp/several" -q "${@:2}"; }
verdict "4 ranks, 3 updates" over "$kind" 4 --outdir "$tmp/several" "${tail[@]}" "${net[@]}" --duration 0.000024
verdict "2 ranks go on" go_on 2 --duration 0.000048
verdict "one rank goes on" "$fdm" train --resume "$tmp/several" -q --duration 0.000064
verdict "4 ranks end it" go_on 4 "${ten[@]}"
verdict "4, 2, 1, 4 ranks: the state" cmp "$tmp/one/$last" "$tmp/several/$last"

# --- errors ---
verdict "3 ranks do not divide the batch" one_line 2 'cannot be shared by 3 ranks' over "$kind" 3 --outdir "$tmp/none" "${tail[@]}" "${net[@]}"
verdict "a bad option" one_line 2 'lr -1: wants' over "$kind" 2 --outdir "$tmp/none" "${tail[@]}" "${net[@]}" --lr -1
verdict "no data" one_line 3 'nowhere.zip' over "$kind" 2 --outdir "$tmp/none" --data nowhere.zip
verdict "a folder that holds a run" one_line 2 'holds a training run' over "$kind" 2 --outdir "$tmp/one" "${tail[@]}" "${net[@]}"
verdict "errors leave nothing" test ! -e "$tmp/none"
verdict "a launcher of no MPI" one_line 2 'started as one of 2 processes' \
    env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 "$fdm" train --outdir "$tmp/none" "${tail[@]}"

# The disk is full for rank 0 once the run has begun: it goes on, and says so at its end.
cat >"$tmp/full_disk" <<'SH'
#!/usr/bin/env bash
[ "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-}}" != 0 ] || ulimit -f 100 # kB
exec "$@"
SH
on_full_disk() { timeout -k 5 $limit "mpirun.$kind" -n 2 bash "$tmp/full_disk" "$build/fdm-$kind" train "$@"; }
if [ "$kind" = openmpi ]; then
    cp -r "$tmp/one" "$tmp/disk"
    verdict "a full disk" one_line 4 'was not written' on_full_disk --resume "$tmp/disk" -q --duration 0.0001
    verdict "a full disk leaves nothing half-written" test -z "$(find "$tmp/disk" -name '.fdm-*' -o -name '*000100*')"
    verdict "and the state before, to go on from" "$fdm" train --resume "$tmp/disk" -q --duration 0.0001
else # MPICH's shared memory is a file, too
    skip "a full disk on rank 0: with openmpi alone"
fi

# --- ranks that die ---
# processes WORD: those that have it on their command line, with what they run
processes() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        { mapfile -d '' -t words <"$file"; } 2>/dev/null
        [[ " ${words[*]} " != *"$1"* ]] || echo "${file//[^0-9]/} ${words[0]##*/}"
    done
}
# rank_process DIR RANK: its process
rank_process() {
    local p
    for p in $(processes "$1" | cut -d ' ' -f 1); do
        [[ $(readlink "/proc/$p/exe") == */fdm-* ]] || continue
        tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qxE "(OMPI_COMM_WORLD_RANK|PMI_RANK)=$2" && echo "$p" && return 0
    done
    return 1
}
# start PATTERN RANKS ARGUMENT...: in the background, until there is such a file
start() {
    local pattern=$1 ranks=$2 i
    shift 2
    over "$kind" "$ranks" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
    launched=$!
    for ((i = 0; i < 3000; i++)); do
        ! compgen -G "$pattern" >/dev/null || break
        sleep 0.02
    done
}
# signal_rank DIR SIGNAL RANK [MS]: that many ms after it is found, which must be within 2 s
signal_rank() {
    local p i ms=${4:-0}
    for ((i = 0; i < 100; i++)); do
        if p=$(rank_process "$1" "$3"); then
            [ "$ms" = 0 ] || sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
            kill "-$2" "$p" 2>/dev/null && return 0
        fi
        sleep 0.02
    done
    echo "no rank $3 to signal"
    return 1
}
# ended CODES: the run that was started has ended with one of those (| between them)
ended() {
    local code
    wait "$launched"
    code=$?
    [[ "|$1|" == *"|$code|"* ]] && return 0
    echo "exit code $code"
    head -n 5 "$tmp/err"
    return 1
}
goal=(--duration 0.000768) # 96 updates
verdict "one rank, 96 updates" "$fdm" train --outdir "$tmp/whole" "${tail[@]}" "${net[@]}" "${goal[@]}"
whole=training-state-000000768.safetensors
start "$tmp/alone/training_options.json" 4 --outdir "$tmp/alone" "${tail[@]}" "${net[@]}" "${goal[@]}"
begun=$(date +%s%N)
verdict "4 ranks left alone" ended 0
took=$((($(date +%s%N) - begun) / 1000000 + 1)) # ms from the first file to the end: kills fall somewhere in them

# killed DIR RANKS RANK: a run of which that rank is killed at a random moment.  One that ended before it is tried again, with
# half the patience: 2 ranks may be much faster than the 4 that were timed.
killed() {
    local dir=$1 ranks=$2 rank=$3 try
    for try in {1..12}; do
        rm -rf "$dir"
        start "$dir/training_options.json" "$ranks" --outdir "$dir" "${tail[@]}" "${net[@]}" "${goal[@]}"
        signal_rank "$dir" KILL "$rank" $((RANDOM % ((took >> (try - 1)) + 1))) >/dev/null && return 0
        wait "$launched"
    done
    echo "$try runs ended before the kill"
    return 1
}
kills=("4 $((RANDOM % 4))" "2 $((RANDOM % 2))") # which ones the lines below say
[ -z "$full" ] || kills=({1..20}\ {0,1,2,3})
for kill in "${kills[@]}"; do
    read -r ranks rank <<<"$kill"
    [ -z "$full" ] || ranks=4
    dir=$tmp/killed
    verdict "rank $rank of $ranks is killed" killed "$dir" "$ranks" "$rank"
    wait "$launched"
    code=$?
    at=$(find "$dir" -name 'training-state-*' -printf '%f\n' | sort | tail -n 1)
    verdict "rank $rank of $ranks killed after ${at:-no state}: the run ends, exit code $code" test "$code" != 0 -o "$at" = "$whole"
    verdict "rank $rank of $ranks killed: 2 ranks go on" over "$kind" 2 --resume "$dir" -q "${goal[@]}"
    verdict "rank $rank of $ranks killed: the bits of a run left alone" cmp "$tmp/whole/$whole" "$dir/$whole"
    verdict "rank $rank of $ranks killed: nothing half-written" test -z "$(find "$dir" -name '.fdm-*')"
done

# A rank that hangs: rank 0 loses patience first.  Its disk is slow, and the others, whose patience ends before the state is
# written, give it the time: they do not even end when they are told to.
dir=$tmp/hangs
rare=(--data $data --tick 1000 --image-snap 0 --nosubdir -q) # writes after the first update, then no more
slow="$build/tests/mpi/slow_calls.so"
verdict "a slow disk to preload" "${MAKE:-make}" --no-print-directory FDM_QUIET_CONFIG=1 BUILD="$build" CC="${CC:-gcc}" "$slow"
slowly() { LD_PRELOAD=$slow FDM_SLOW_FSYNC=$tmp/slow "$@"; }
slowly start "$dir/network-snapshot-*" 4 --outdir "$dir" "${rare[@]}" "${net[@]}" --duration 1 --rank-timeout 2
sleep 0.5
echo 5 >"$tmp/slow"
verdict "rank 1 stops" signal_rank "$dir" STOP 1
verdict "rank 2 is told to end" signal_rank "$dir" TERM 2 4500 # milliseconds: beyond its patience
verdict "rank 2 is told to end again" signal_rank "$dir" TERM 2
verdict "a rank that hangs ends the run" ended "4"
rm -f "$tmp/slow"
verdict "a rank that hangs: one line says which" bash -c "grep '^fdm train: ' $tmp/err | tee /dev/stderr | grep -cx 'fdm train: rank 0 waits for rank 1 of 4, .*' | grep -qx 1"
verdict "a rank that hangs: rank 0 has saved" grep -q '^the run ends at .* images, saved' "$dir/log.txt"
verdict "a rank that hangs: a whole state to go on from" "$fdm" train --resume "$dir" -q --duration 0.000001

# The first rank hangs in what it writes: the option says for how long the others wait for that, too.
first_writes() {
    timeout -k 5 $limit "mpirun.$kind" -n 2 "$build/fdm-$kind" sample -q --model tests/golden_extra/shapes16_fdm_edm.safetensors \
        --steps 2 --seeds 0,1 --rank-timeout 3 --save-tensors "$tmp/never.safetensors" >"$tmp/never.out" 2>&1 </dev/null
    local code=$?
    [ $code = 4 ] && grep -q '^fdm sample: rank 1 waits for rank 0 of 2, ' "$tmp/never.out" && return 0
    echo "exit code $code"
    head -n 5 "$tmp/never.out"
    return 1
}
patience() {
    "${MAKE:-make}" --no-print-directory FDM_QUIET_CONFIG=1 BUILD="$build" CC="${CC:-gcc}" "$build/tests/mpi/patience-$kind" || return
    timeout -k 5 60 "mpirun.$kind" -n 2 "$build/tests/mpi/patience-$kind"
    [ $? = 4 ]
}

# Patience of 300 s, but a scheduler asks to stop: rank 0 saves without the one that hangs, after ten seconds.
dir=$tmp/hurries
start "$dir/network-snapshot-*" 2 --outdir "$dir" "${rare[@]}" "${net[@]}" --duration 1
verdict "rank 1 stops" signal_rank "$dir" STOP 1
verdict "rank 0 is asked to stop" signal_rank "$dir" TERM 0
# Meanwhile:
echo 60 >"$tmp/slow"
verdict "rank 0 hangs while it writes" slowly first_writes
rm -f "$tmp/slow"
verdict "who is merely behind is waited for, twice as long as before and from when it is asked" patience
verdict "it does not wait for ever" ended "4"
verdict "it does not wait for ever: one line says why" grep -q '^fdm train: rank 0 waits for rank 1 of 2, ' "$tmp/err"
verdict "it does not wait for ever: rank 0 has saved" grep -q '^the run ends at .* images, saved' "$dir/log.txt"
verdict "it does not wait for ever: a whole state to go on from" "$fdm" train --resume "$dir" -q --duration 0.000001
# Nor is a rank lost that still draws when rank 0, which was asked, no longer does.
if [ "$full" = full ]; then
    dir=$tmp/draws
    start "$dir/network-snapshot-*" 2 --outdir "$dir" --data $data --tick 1000 --nosubdir -q "${net[@]}" --duration 1 --image-steps 1000
    verdict "rank 1 stops while it draws" signal_rank "$dir" STOP 1
    verdict "rank 0 is asked to stop while it draws" signal_rank "$dir" TERM 0
    sleep 12
    verdict "rank 1 goes on" signal_rank "$dir" CONT 1
    verdict "rank 1 is not lost" ended "130"
fi

# A wish to stop that reaches one rank stops all, after the update.
# A launcher that ends the others once the first of them has ended does not change the code.
dir=$tmp/stops
interrupted() { grep -c '^fdm train: interrupted at .* images, saved' "$tmp/err" | grep -qx 1; }
LD_PRELOAD=$slow FDM_SLOW_FINALIZE=6 start "$dir/training-state-*" 4 --outdir "$dir" "${tail[@]}" "${net[@]}" --duration 1
verdict "rank 2 is asked to stop" signal_rank "$dir" TERM 2
for ((i = 0; i < 500; i++)); do ! interrupted || break; sleep 0.02; done
verdict "rank 1 is asked to stop, too, when all is done" signal_rank "$dir" TERM 1
verdict "rank 1 is asked again" signal_rank "$dir" TERM 1
verdict "all stop, exit code 130" ended "130"
verdict "all stop: one line says so" interrupted
dir=$tmp/stops2
start "$dir/training-state-*" 2 --outdir "$dir" "${tail[@]}" "${net[@]}" --duration 1
launcher=$(processes "$dir" | sed -n "s/ mpirun.$kind\$//p" | head -n 1)
verdict "SIGUSR1 to mpirun reaches the ranks" kill -USR1 "${launcher:-none}"
verdict "all stop, exit code 130" ended "130|0" # 0: Open MPI's mpirun once in 180 runs, of ranks that all ended with 130
verdict "one line says so" interrupted
finish
