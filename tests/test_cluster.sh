#!/usr/bin/env bash
# fdm over ranks that mpirun starts: sample and metric make the bits of one process, whoever fails is named once; and the
# recipes: their lines are run with launchers that are not there (srun) or are (mpirun).
. "$(dirname "$0")/house/lib.sh"
model=tests/golden_extra/shapes16_fdm_edm.safetensors

# ---- The launcher of the MPI that fdm was built with --------------------------------------------------------------------
case $("$fdm" --version) in
*"Open MPI"*) launcher=(mpirun -q --oversubscribe) ;;
*MPICH*) launcher=(mpiexec.hydra) ;;
*) launcher=() ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
cores=$(env -u OMP_NUM_THREADS nproc) # which would be what nproc says
have_mpi=$([ ${#launcher[@]} -gt 0 ] && command -v "${launcher[0]}" >/dev/null && echo yes)
# over RANKS ARGUMENT...: fdm on so many ranks
over() {
    local ranks=$1
    shift
    "${launcher[@]}" -n "$ranks" "$fdm" "$@" </dev/null
}
# refused CODE MESSAGE RANKS ARGUMENT...: exit code, and one line of fdm on stderr
refused() {
    local want=$1 message=$2 code
    shift 2
    over "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
    if [ "$code" = "$want" ] && [ "$(grep -c '^fdm[ :]' "$tmp/err")" = 1 ] && grep -qF "$message" "$tmp/err"; then
        ok "$1 ranks: $message ($want)"
    else
        fail "$1 ranks: exit code $code instead of $want, or not one line with \"$message\": $(head -c 600 "$tmp/err")"
    fi
}

sampling() {
    local one=$tmp/one many=$tmp/many options=(sample -q --model "$model" --steps 3 --S_churn 5 --seeds 3-9 --threads 1)
    "$fdm" "${options[@]}" --outdir "$one" --grid "$one.png" --save-tensors "$one.safetensors"
    over 3 "${options[@]}" --batch 2 --outdir "$many" --grid "$many.png" --save-tensors "$many.safetensors"
    verdict "sample on 3 ranks: images" diff -r "$one" "$many"
    verdict "sample on 3 ranks: grid" cmp "$one.png" "$many.png"
    verdict "sample on 3 ranks: tensors" cmp "$one.safetensors" "$many.safetensors"
    options=(sample -q --model "$model" --steps 3 --latents "$one.safetensors" --threads 1)
    "$fdm" "${options[@]}" --save-tensors "$tmp/given-one.npz"
    over 2 "${options[@]}" --save-tensors "$tmp/given.npz"
    verdict "sample on 2 ranks: from latents" "$fdm" compare "$tmp/given-one.npz" "$tmp/given.npz"
    over 4 sample -q --model "$model" --steps 3 --S_churn 5 --seeds 3,4 --threads 1 --outdir "$tmp/few"
    verdict "sample: fewer images than ranks" bash -c "cmp $one/000003.png $tmp/few/000003.png && cmp $one/000004.png $tmp/few/000004.png && [ \$(ls $tmp/few | wc -l) = 2 ]"
}

# One image that takes longer than the ranks without one are patient (1.25 x 2 + 1 s and a little): how long, rank 0 tells them.
slow_image() {
    local options=(sample -q --model "$model" --seeds 3 --threads 1) begun took
    begun=$(date +%s%N)
    "$fdm" "${options[@]}" --steps 40 --outdir "$tmp/timed"
    took=$((($(date +%s%N) - begun) / 1000000 + 1))
    verdict "sample: ranks without an image wait for a slow one" over 3 "${options[@]}" --steps $((40 * 6000 / took)) --rank-timeout 2 --outdir "$tmp/slow"
}

measuring() {
    local options=(metric -q data/emoji32.zip --max-images 90 --bootstrap 7 --threads 1)
    "$fdm" "${options[@]}" --json --save-stats "$tmp/one.npz" >"$tmp/one.json"
    over 3 "${options[@]}" --json --save-stats "$tmp/many.npz" >"$tmp/many.json"
    verdict "metric on 3 ranks: figures" cmp "$tmp/one.json" "$tmp/many.json"
    verdict "metric on 3 ranks: statistics" "$fdm" compare "$tmp/one.npz" "$tmp/many.npz"
}

help_once() { [ "$(over 3 help sample | grep -c '^usage: ')" = 1 ]; }
failing() {
    refused 2 "unknown command trian; did you mean fdm train?" 3 trian
    refused 2 "fdm denoise: started as one of 3 processes, but fdm denoise does not share its work among them" 3 denoise --out "$tmp/never.npz"
    verdict "3 ranks: help once" help_once
    mkdir -p "$tmp/blocked/000005.png/x"
    refused 3 "nothing.safetensors: cannot open" 3 sample --model nothing.safetensors --grid "$tmp/never.png"
    refused 4 "rank 1: $tmp/blocked/000005.png" 2 sample -q --model "$model" --steps 2 --seeds 0-6 --outdir "$tmp/blocked"
    refused 3 "nothing.zip: cannot open" 2 metric nothing.zip
    # What each rank sees under the name that has RANK in it.
    cp "$model" "$tmp/model0.safetensors" && cp "$model" "$tmp/model1.safetensors"
    cp data/emoji32.zip "$tmp/set0.zip" && cp tests/golden/data_toy16.zip "$tmp/set1.zip"
    printf x | dd of="$tmp/model1.safetensors" bs=1 seek=$(($(stat -c %s "$model") - 4)) conv=notrunc status=none
    printf '#!/usr/bin/env bash\nexec %q "${@/RANK/${OMPI_COMM_WORLD_RANK:-$PMI_RANK}}"\n' "$fdm" >"$tmp/each"
    chmod +x "$tmp/each"
    fdm=$tmp/each refused 3 "rank 1: $tmp/model1.safetensors: not what rank 0 has: its checksum is" 2 sample -q --model "$tmp/modelRANK.safetensors" --steps 2 --outdir "$tmp/never"
    fdm=$tmp/each refused 3 "rank 1: $tmp/set1.zip: not what rank 0 has: the number of its images is" 2 metric -q "$tmp/setRANK.zip"
    refused 4 "cannot write" 2 metric data/emoji32.zip --save-stats "$tmp/none/x.npz"
}

if [ -n "$have_mpi" ]; then
    sampling
    slow_image
    measuring
    failing
else
    skip "fdm over ranks: built without MPI, or its launcher is not here"
fi

# ---- Recipes ----------------------------------------------------------------------------------------------------------------
for script in data/recipes/*.sbatch data/recipes/*.sh; do verdict "$script is bash" bash -n "$script"; done
verdict "every recipe is explained" bash -c 'for f in data/recipes/*; do f=${f##*/}; [ "$f" = README.md ] || grep -qF "\`$f\`" data/recipes/README.md || exit 1; done'

# ---- The model's report ---------------------------------------------------------------------------------------------------
# What it says follows from the times in its JSON; so do the predictions that the check is held against.
if command -v python3 >/dev/null; then
    cp bench/results/cluster-model.json bench/results/cluster-check.json "$tmp"
    verdict "the model's predictions of the check" python3 bench/cluster_check.py --from "$tmp/cluster-check.json" --out "$tmp/cluster-check.json"
    verdict "... are those of the report" cmp bench/results/cluster-check.json "$tmp/cluster-check.json"
    verdict "the model's report" python3 bench/cluster_model.py --from "$tmp/cluster-model.json" --out "$tmp/cluster-model"
    verdict "... is the one in bench/results" diff <(grep -v '^!' bench/results/cluster-model.md | cat -s) <(grep -v '^!' "$tmp/cluster-model.md" | cat -s)
else
    skip "the model's report: no python3"
fi

# Programs that stand in for Slurm's, and for fdm: they say how they were called.
mkdir "$tmp/bin"
cat >"$tmp/bin/srun" <<'EOF'
#!/usr/bin/env bash
echo "srun $* OMP_NUM_THREADS=$OMP_NUM_THREADS SRUN_CPUS_PER_TASK=$SRUN_CPUS_PER_TASK $OMPI_MCA_btl_tcp_eager_limit" >>"$CALLS"
while [[ $1 == -* ]]; do shift; done
[ -z "${LAUNCHER:-}" ] || exec $LAUNCHER "$@"
exec "$@"
EOF
for name in scancel scontrol; do printf '#!/usr/bin/env bash\necho "%s $*" >>"$CALLS"\n%s' $name "$([ $name = scontrol ] || echo 'kill -TERM "$(cat "$CALLS.pid")"')" >"$tmp/bin/$name"; done
cat >"$tmp/bin/trains" <<'EOF'
#!/usr/bin/env bash
echo "fdm $*" >>"$CALLS"
trap '[ -z "${STATE:-}" ] || echo >"$STATE"; exit "${CODE:-130}"' TERM
echo $$ >"$CALLS.pid"
[ -z "${SIGNAL:-}" ] || { kill -USR1 "$PPID"; for i in {1..50}; do sleep 0.1; done; }
exit "${CODE:-0}"
EOF
chmod +x "$tmp"/bin/*
export CALLS=$tmp/calls PATH=$tmp/bin:$PATH
slurm=(env SLURM_CPUS_PER_TASK=8 SLURM_NTASKS=4 SLURM_JOB_ID=77)
called() { verdict "$1" grep -qxE -- "$2" "$CALLS"; } # NAME LINE
recipe() { # CODE NAME COMMAND...
    local want=$1 name=$2 code
    shift 2
    : >"$CALLS"
    "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
    if [ "$code" = "$want" ]; then ok "$name"; else fail "$name: exit code $code instead of $want: $(head -c 300 "$tmp/err")"; fi
}

bind='--distribution=block:block --cpu-bind=cores --kill-on-bad-exit=1'
pinned='OMP_NUM_THREADS=7 SRUN_CPUS_PER_TASK=8 4194304'
recipe 0 "train.sbatch begins a run" "${slurm[@]}" FDM=trains bash data/recipes/train.sbatch "$tmp/run" --batch 64
called "... with srun's line" "srun --mpi=pmix $bind trains train --outdir $tmp/run --nosubdir --batch 64 $pinned"
mkdir "$tmp/run" && : >"$tmp/run/training_options.json"
recipe 130 "train.sbatch goes on with it, and hands on its code" "${slurm[@]}" FDM=trains CODE=130 FDM_SRUN_MPI=pmi2 bash data/recipes/train.sbatch "$tmp/run"
called "... with --resume" "srun --mpi=pmi2 $bind trains train --resume $tmp/run $pinned"
verdict "... and is not queued again when something else stops it" bash -c "! grep -q scontrol $CALLS"
state=$tmp/run/training-state-000000008.safetensors
recipe 0 "train.sbatch near the end of its time" "${slurm[@]}" FDM=trains SIGNAL=1 STATE="$state" bash data/recipes/train.sbatch "$tmp/run"
called "... tells the ranks" "scancel --signal=TERM 77"
called "... and is queued again" "scontrol requeue 77"
verdict "... and leaves nothing behind" test ! -e "$tmp/run/.asked-to-stop"
recipe 0 "train.sbatch: srun ends a rank before it has ended by itself" "${slurm[@]}" FDM=trains SIGNAL=1 CODE=143 STATE="$state" bash data/recipes/train.sbatch "$tmp/run"
called "... and is queued again, for a state has been saved" "scontrol requeue 77"
touch -d '1 minute ago' "$state"
recipe 143 "train.sbatch: the ranks end without a state" "${slurm[@]}" FDM=trains SIGNAL=1 CODE=143 bash data/recipes/train.sbatch "$tmp/run"
verdict "... and is not queued again" bash -c "! grep -q scontrol $CALLS"
recipe 2 "train.sbatch wants a power of two" "${slurm[@]}" SLURM_NTASKS=6 FDM=trains bash data/recipes/train.sbatch "$tmp/run"
recipe 2 "fdm.sbatch wants an allocation" env FDM=trains bash data/recipes/fdm.sbatch sample
recipe 2 "fdm.sbatch wants a command" "${slurm[@]}" bash data/recipes/fdm.sbatch
recipe 2 "mpirun.sh wants ranks" bash data/recipes/mpirun.sh data/recipes/hosts.openmpi none sample
recipe 2 "mpirun.sh wants a host" bash data/recipes/mpirun.sh /dev/null 1 sample

printf '#!/usr/bin/env bash\n[ "$1" != --version ] || { echo "%s"; exit; }\necho "$(basename "$0") $*" >>"$CALLS"\n' 'Open MPI 4' >"$tmp/bin/open"
printf '#!/usr/bin/env bash\n[ "$1" != --version ] || { echo "%s"; exit; }\necho "$(basename "$0") $*" >>"$CALLS"\n' 'HYDRA' >"$tmp/bin/hydra"
chmod +x "$tmp"/bin/*
recipe 0 "mpirun.sh, Open MPI" env OMP_NUM_THREADS=8 FDM_MPIRUN=open FDM_MPIRUN_OPTIONS="--mca btl_tcp_if_include eth1" bash data/recipes/mpirun.sh data/recipes/hosts.openmpi 2 sample --seeds 0-7
called "... its line" "open --hostfile data/recipes/hosts.openmpi -n 8 --map-by ppr:2:node:PE=8 --bind-to core -x OMP_NUM_THREADS --mca btl_tcp_if_include eth1( --mca btl_tcp_[a-z_]+ 4194304){3}( --mca oob_tcp_keepalive_[a-z]+ [0-9]+){3} --mca odls_base_sigkill_timeout 15 fdm sample --seeds 0-7"
recipe 0 "mpirun.sh, MPICH" env OMP_NUM_THREADS=8 FDM_MPIRUN=hydra bash data/recipes/mpirun.sh data/recipes/hosts.mpich 2 sample
called "... its line" "hydra -f data/recipes/hosts.mpich -n 8 -ppn 2 -bind-to core:8 -genvlist OMP_NUM_THREADS fdm sample"

# The same with ranks.
if [ -n "$have_mpi" ]; then
    recipe 0 "fdm.sbatch with two ranks" "${slurm[@]}" SLURM_CPUS_PER_TASK=1 LAUNCHER="${launcher[*]} -n 2" FDM="$fdm" bash data/recipes/fdm.sbatch sample -q --model "$model" --steps 3 --S_churn 5 --seeds 3-9 --outdir "$tmp/slurm"
    verdict "... which makes the images of one" diff -r "$tmp/one" "$tmp/slurm"
    [[ ${launcher[0]} == mpirun ]] && echo "localhost slots=$cores" >"$tmp/hosts" || echo "localhost:2" >"$tmp/hosts"
    if [ "$cores" -gt 1 ]; then
        recipe 0 "mpirun.sh with two ranks" env FDM_MPIRUN="${launcher[0]}" FDM="$fdm" bash data/recipes/mpirun.sh "$tmp/hosts" 2 sample -q --model "$model" --steps 3 --S_churn 5 --seeds 3-9 --outdir "$tmp/hosted"
        verdict "... which makes the images of one" diff -r "$tmp/one" "$tmp/hosted"
    else
        skip "mpirun.sh with two ranks: one core"
    fi
else
    skip "recipes with ranks: built without MPI, or its launcher is not here"
fi
finish
