#!/usr/bin/env bash
# The table "How good are they?" of data/README.md: both shipped models against the set that they were trained on.
#   data/quality.sh BUILD [OUT [SETS]]     pictures and measures go to OUT (BUILD/quality); SETS disjoint sets of seeds (1)
# The classes are in the proportions of the data: a uniform mix of the data's own pictures is far from the data.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-$build/quality}
sets=${3:-1}
fdm=$build/fdm
# 500 over the classes as the 99, 67, 576, 152, 133, 205, 85, 260, 223 and 260 pictures of data/emoji32.zip, by largest remainders
counts=(24 16 140 37 32 50 21 63 54 63)
mkdir -p "$out"

# draw MODEL STEPS FOLDER SEED: 500 images from SEED on, class after class
draw() {
    local first=$4 k
    [ ! -e "$3" ] || return 0
    rm -rf "$3.partial"
    for k in "${!counts[@]}"; do
        "$fdm" sample -q --model "$1" --class "$k" --seeds "$first-$((first + counts[k] - 1))" --steps "$2" --outdir "$3.partial"
        first=$((first + counts[k]))
    done
    mv "$3.partial" "$3"
}
# row NAME ARGUMENT...: one line for each space
row() {
    local name=$1
    shift
    [ -e "$out/$name.json" ] || { "$fdm" metric -q "$@" --json >"$out/partial" && mv "$out/partial" "$out/$name.json"; }
    echo "$name"
    tr -d '\n ' <"$out/$name.json" | sed -E 's/\{"space":/\n&/g' | sed -nE \
        's/.*"space":"([a-z]+)".*"frechet_distance":\{"value":([^,]+),"low":([^,]+),"high":([^,]+),.*"precision":\{"value":([^,]+),.*"recall":\{"value":([^,]+),.*/\1 \2 \3 \4 \5 \6/p' |
        awk '{ printf "    %-10s  Frechet %.3g (%.3g to %.3g)  precision %.3g  recall %.3g\n", $1, $2, $3, $4, $5, $6 }'
}

data=$out/emoji16.zip classifier=$out/classifier.safetensors
[ -e "$data" ] || "$fdm" dataset -q data/emoji32.zip "$data" --resolution 16x16
[ -e "$classifier" ] || "$fdm" metric -q "$data" --train-classifier "$classifier" --bootstrap 0 >"$out/classifier.txt"
against=(--classifier "$classifier" --max-images 500)
row identical "$data" "$data" --classifier "$classifier"
row floor "$data" --classifier "$classifier" --max-images 1000
# What the network draws before training: the first update has the learning rate 0
[ -e "$out/untrained" ] || "$fdm" train -q --outdir "$out/untrained" --nosubdir --data "$data" --cond 1 --precond fdm_edm --warmup_ite 400 \
    --cbase 32 --cres 1,2,2 --num_blocks 1 --attn_resolutions 8 --dropout 0 --augment 0 --batch 32 --duration 0.000032 --seed 1
draw "$out/untrained/network-snapshot-000000.safetensors" 18 "$out/noise" 0
row noise "$data" "$out/noise" "${against[@]}"
for ((set = 0; set < sets; set++)); do
    for steps in 18 9 5; do
        for framework in fdm_edm edm; do
            draw "data/emoji16_$framework.safetensors" "$steps" "$out/$framework-$steps-$set" $((10000 * set))
            row "$framework-$steps-$set" "$data" "$out/$framework-$steps-$set" "${against[@]}"
        done
    done
done
