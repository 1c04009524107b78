#!/usr/bin/env bash
# A command of fdm that runs over ranks, on the hosts of a file and without Slurm:
#
#     data/recipes/mpirun.sh HOSTFILE RANKS_PER_HOST COMMAND [OPTION...]
#     data/recipes/mpirun.sh data/recipes/hosts.openmpi 2 train --outdir runs --data cifar10.zip --batch 512
#
# Works with Open MPI and with MPICH, whichever `mpirun` is (it must be the one that fdm was built with: fdm --version), and gives each
# rank an equal part of a host's cores (those that nproc counts here), or OMP_NUM_THREADS cores.  FDM=/path/to/fdm where it
# is not in PATH, the same on every host; FDM_MPIRUN=mpiexec.hydra another launcher; FDM_MPIRUN_OPTIONS="--mca btl_tcp_if_include eth1"
# more options of it; FDM_DRY_RUN=1 only shows the line.  data/recipes/README.md explains.
set -euo pipefail
[ $# -ge 3 ] || { echo "mpirun.sh: wants HOSTFILE RANKS_PER_HOST COMMAND [OPTION...]" >&2; exit 2; }
hostfile=$1 per=$2
shift 2
case $per in '' | *[!0-9]* | 0) echo "mpirun.sh: $per ranks per host; a number of 1 or more" >&2; exit 2 ;; esac
[ -r "$hostfile" ] || { echo "mpirun.sh: $hostfile: cannot read it" >&2; exit 2; }
hosts=$(grep -cvE '^[[:space:]]*(#|$)' "$hostfile" || true)
[ "$hosts" -gt 0 ] || { echo "mpirun.sh: $hostfile: names no host" >&2; exit 2; }
cores=${OMP_NUM_THREADS:-$(($(nproc) / per))} # of a rank
[ "$cores" -gt 0 ] || { echo "mpirun.sh: $per ranks per host, but $(nproc) cores" >&2; exit 2; }
threads=$cores
[ "$1" != train ] || [ "$threads" -lt 4 ] || threads=$((threads - 1)) # one core for the thread that sends gradients
export OMP_NUM_THREADS=$threads
mpirun=${FDM_MPIRUN:-mpirun}
read -r -a more <<<"${FDM_MPIRUN_OPTIONS:-}"
if "$mpirun" --version 2>&1 | grep -q 'Open MPI'; then
    launch=("$mpirun" --hostfile "$hostfile" -n "$((hosts * per))" --map-by "ppr:$per:node:PE=$cores" --bind-to core
        -x OMP_NUM_THREADS "${more[@]}")
    for limit in eager_limit rndv_eager_limit max_send_size; do # on Ethernet: no message waits for leave to be sent
        launch+=(--mca "btl_tcp_$limit" 4194304)
    done
    # A node that vanishes is noticed after two minutes, not after 15 or more; and whoever is told to stop gets 15 s, not one.
    launch+=(--mca oob_tcp_keepalive_time 60 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 6
        --mca odls_base_sigkill_timeout 15)
else # MPICH and its relatives: Hydra
    launch=("$mpirun" -f "$hostfile" -n "$((hosts * per))" -ppn "$per" -bind-to "core:$cores"
        -genvlist OMP_NUM_THREADS "${more[@]}")
fi

if [ -n "${FDM_DRY_RUN:-}" ]; then
    echo "OMP_NUM_THREADS=$threads ${launch[*]} ${FDM:-fdm} $*"
    exit 0
fi
exec "${launch[@]}" "${FDM:-fdm}" "$@"
