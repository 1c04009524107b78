#!/usr/bin/env bash
# Dependencies run one way:
#   base -> simd -> process -> precond -> nn -> train, sample -> verify, metric, simulate -> cli;   io only on base;
#   process never on simd; random on base and simd; reference (a backend) on what nn's table needs.
# The line of a part lists what it may include besides itself.
. "$(dirname "$0")/lib.sh"
declare -A may=(
    [base]=""
    [io]="base"
    [simd]="base"
    [random]="base simd"
    [process]="base"
    [precond]="base process"
    [reference]="base nn"
    [nn]="base io simd process precond"
    [sample]="base io random process precond nn"
    [simulate]="base simd random process sample"
    [train]="base io simd random process precond nn"
    [verify]="base io random process precond nn sample train"
    [metric]="base io simd nn train"
    [cli]="base io simd random process precond nn sample simulate train verify metric"
)
# Which part a public header belongs to.
declare -A part_of_header=(
    [status]=base [tensor]=base [version]=base [threads]=base [log]=base [ranks]=base
    [tensorfile]=io [safetensors]=io [npz]=io [png]=io [image]=io [dataset]=io
    [random]=random [process]=process [mixture]=process [precond]=precond
    [config]=nn [model]=nn [denoiser]=nn [emulation]=nn
    [sample]=sample [sampler]=sample [simulate]=simulate [train]=train [trainer]=train [replay]=train [gradient]=train
    [loss]=train [augment]=train [data_order]=train [init]=train [train_schedule]=train [train_stream]=train [import]=train
    [compare]=verify [pair_stats]=verify [verify]=verify [metric]=metric [classifier]=metric
)

# violations FILE PART: one line for every include that the table does not allow
violations() {
    local file=$1 part=$2 line target to
    while read -r line; do
        target=$(sed -n 's/^[^:]*: *# *include *["<]\([^">]*\)[">].*/\1/p' <<<"$line")
        case $target in
        ../*) echo "$file:$line: leaves its folder" ;;
        fdm/*.h)
            to=${target#fdm/}
            to=${part_of_header[${to%.h}]:-}
            [ -n "$to" ] || echo "$file:$line: add this header to the table of $0"
            [ -z "$to" ] || [ "$to" = "$part" ] || [[ " ${may[$part]} " == *" $to "* ]] ||
                echo "$file:$line: $part must not know $to" ;;
        */*)
            to=${target%%/*}
            [ -n "${may[$to]+set}" ] || continue # a system folder such as sys/
            [ "$to" = "$part" ] || [[ " ${may[$part]} " == *" $to "* ]] || echo "$file:$line: $part must not know $to" ;;
        esac
    done < <(grep -nE '^ *# *include' "$file")
}

for folder in src/*/ simd/; do
    part=${folder%/}
    part=${part#src/}
    if [ -z "${may[$part]+set}" ]; then
        fail "includes of $folder: add this part to the table of $0"
        continue
    fi
    : >"$tmp/found"
    for file in "$folder"*.[ch]; do
        [ ! -f "$file" ] || violations "$file" "$part" >>"$tmp/found"
    done
    verdict "includes of $folder" bash -c "cat $tmp/found; ! grep -q . $tmp/found"
done
: >"$tmp/found"
for header in include/fdm/*.h; do
    name=${header##*/}
    violations "$header" "${part_of_header[${name%.h}]:-none}" >>"$tmp/found" 2>&1
done
verdict "includes of include/fdm/" bash -c "cat $tmp/found; ! grep -q . $tmp/found"

# The check can fail: every forbidden pair, planted.
missed=0 planted=0
for part in "${!may[@]}"; do
    for to in "${!may[@]}"; do
        [ "$to" != "$part" ] && [[ " ${may[$part]} " != *" $to "* ]] || continue
        printf '#  include "%s/planted.h"\n' "$to" >"$tmp/planted.c"
        planted=$((planted + 1))
        [ -n "$(violations "$tmp/planted.c" "$part")" ] || missed=$((missed + 1))
    done
done
printf '#include "fdm/compare.h"\n' >"$tmp/planted.c"
[ -n "$(violations "$tmp/planted.c" base)" ] || missed=$((missed + 1))
printf '#include "../nn/graph.h"\n' >"$tmp/planted.c"
[ -n "$(violations "$tmp/planted.c" nn)" ] || missed=$((missed + 1))
if [ "$missed" = 0 ] && [ "$planted" -gt 50 ]; then ok "$planted planted violations are caught"; else
    fail "$missed of $planted planted violations went unseen"
fi
# The table itself has no cycle, but for the backend that nn's table names and is written against.
tsort_input=$(for part in "${!may[@]}"; do for to in ${may[$part]}; do echo "$part $to"; done; done)
if tsort <<<"$tsort_input" >/dev/null 2>"$tmp/cycle"; then ok "the table has no cycle"; else fail "cycle: $(cat "$tmp/cycle")"; fi
finish
