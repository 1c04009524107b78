#!/usr/bin/env bash
# What `make demo` runs: samples images from the shipped model, denoises a golden input and compares the result with the
# published program's, then trains a small network from scratch for about two minutes on two cores.
#   data/demo.sh BUILD      pictures and tensors go to BUILD/demo/
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
fdm=$build/fdm
out=$build/demo
model=data/shapes16_fdm_edm.safetensors
golden=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
mkdir -p "$out"

echo "1. Sixteen images from $model (EDM-FDM, class-conditional, 18 Heun steps)"
"$fdm" sample --model "$model" --outdir "$out/images" --seeds 0-15 --grid "$out/grid.png"
echo "   picture: $out/grid.png"
echo

echo "2. The same seeds with 9 evaluations instead of 35: DPM-Solver++"
"$fdm" sample --model "$model" --outdir "$out/images-dpm9" --seeds 0-15 --solver dpm --steps 9 --grid "$out/grid-dpm9.png"
echo "   picture: $out/grid-dpm9.png"
echo

echo "3. A golden input, denoised here and by the published program (PyTorch 1.13, f32)"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/denoised.safetensors"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/truth.safetensors" --backend reference
echo "   max_abs: the largest difference to the published output; rms ratio: our error against f64 over theirs"
# 1e-5 of the largest value: the published f32 network is itself up to 2.7e-6 of it from the f64 one
"$fdm" compare "$golden" "$out/denoised.safetensors" --only out,F_x --mtol 1e-5 --truth "$out/truth.safetensors"
echo

echo "4. Training from scratch: 0.75 M parameters, 99 yellow faces of data/emoji32.zip at 16x16 and their mirror images"
rm -rf "$out/faces"
"$fdm" dataset -q data/emoji32.zip "$out/faces16.zip" --resolution 16x16 --classes 0
"$fdm" train --outdir "$out/faces" --nosubdir --data "$out/faces16.zip" --precond fdm_edm --xflip 1 \
    --cbase 32 --cres 1,2 --num_blocks 1 --attn_resolutions 8 --dropout 0 --augment 0 --warmup_ite 100 \
    --batch 32 --lr 2e-3 --lr_rampup 0.001 --ema 0.002 --duration 0.02 --tick 2 --snap 5 --seed 1
# The mean loss of each tick, from what the run wrote
curve() { sed -nE 's/.*"Loss\/loss": \{"num": [0-9.]+, "mean": ([0-9.e+-]+).*/\1/p' "$out/faces/stats.jsonl" | tr '\n' ' '; }
echo "   loss: $(curve)"
curve | awk '{ if ($NF >= $1 / 2) { print "the loss has not halved"; exit 1 } }'
echo "   before: $out/faces/fakes000000.png   after: $out/faces/fakes000020.png   the data: $out/faces/reals.png"
