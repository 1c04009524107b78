#!/usr/bin/env bash
# What `make demo` runs, in two minutes on two cores: samples four classes of the shipped model, shows FDM beside EDM after few
# steps, compares with the published program and with a GPU's precision, and trains a small network from scratch.
#   data/demo.sh BUILD [OUT [quick]]     pictures and tensors go to OUT (BUILD/demo); quick: all of it in seconds, for a test
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-$build/demo}
fdm=$build/fdm
# What the shipped networks have learnt to draw; the other six classes are blobs (data/README.md)
learnt=0,2,8,9 classes='faces|people|symbols|flags'
golden=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
seeds=0-23 few=0-5 steps=(5 9 18) images=15000 show=(0 3000)
[ "${3:-}" != quick ] || seeds=0 few=0 steps=(2 3) images=200 show=()
mkdir -p "$out"
rm -rf "$out/samples" "$out/steps" "$out/faces"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "1. Four classes of the shipped Fast Diffusion Model, ${steps[-1]} Heun steps (data/README.md: 1.3 M parameters, trained by fdm itself)"
"$fdm" sample --model data/emoji16_fdm_edm.safetensors --class $learnt --seeds $seeds --steps "${steps[-1]}" --outdir "$out/samples"
"$fdm" sheet "$out"/samples/{0,2,8,9} --columns "$classes" --wide 4 --scale 3 --out "$out/samples.png" \
    --title "Emoji drawn by the Fast Diffusion Model in data/, ${steps[-1]} steps" \
    --note "seeds $seeds of the four classes that it has learnt, none left out; the other six are coloured shapes"

say "2. FDM beside EDM after few steps: two networks that differ in nothing but the framework, the same noise"
cells=() rows=
for n in "${steps[@]}"; do
    for framework in fdm_edm edm; do
        echo "   $framework, $n steps"
        "$fdm" sample -q --model "data/emoji16_$framework.safetensors" --class $learnt --seeds $few --steps "$n" --outdir "$out/steps/$framework-$n"
        cells+=("$out/steps/$framework-$n"/{0,2,8,9})
        rows+="|$([ "$framework" = edm ] && echo EDM || echo FDM), $n steps"
    done
done
"$fdm" sheet "${cells[@]}" --columns "$classes" --rows "${rows#|}" --wide 3 --scale 3 --out "$out/steps.png" \
    --title "FDM beside EDM after few steps" --note "seeds $few in every block; N Heun steps are 2 N - 1 evaluations of the network"

say "3. A golden of the published program (PyTorch 1.13, f32), computed here"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/denoised.safetensors"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/truth.safetensors" --backend reference
echo "   max_abs: the largest difference to the published output; rms ratio: our error against f64 over theirs"
# 1e-5 of the largest value: the published f32 network is itself up to 2.7e-6 of it from the f64 one
"$fdm" compare "$golden" "$out/denoised.safetensors" --only out,F_x --mtol 1e-5 --truth "$out/truth.safetensors"

say "4. Is it a bug, or TF32? What a GPU with PyTorch's default precision would have dumped, checked as if it had been f32"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/gpu.npz" --trace --inputs --backend tf32
"$fdm" verify --model "$golden" --dump "$out/gpu.npz" --precision fp32 --html "$out/verify.html" >"$out/verify.txt" 2>&1 && exit 1
head -n 4 "$out/verify.txt" | cut -c 1-132
echo "...   (all of it: $out/verify.txt)"
tail -n 4 "$out/verify.txt"

say "5. Training from scratch: 0.75 M parameters, 99 yellow faces of data/emoji32.zip at 16x16 and their mirror images, a minute"
"$fdm" dataset -q data/emoji32.zip "$out/faces16.zip" --resolution 16x16 --classes 0
"$fdm" train --outdir "$out/faces" --nosubdir --data "$out/faces16.zip" --precond fdm_edm --xflip 1 \
    --cbase 32 --cres 1,2 --num_blocks 1 --attn_resolutions 8 --dropout 0 --augment 0 --warmup_ite 100 \
    --batch 32 --lr 2e-3 --lr_rampup 0.001 --ema 0.002 --duration "$(printf '0.%06d' "$images")" --tick 1 --snap 3 --image-count 25 --seed 1
# The mean loss of each tick, from what the run wrote
curve() { sed -nE 's/.*"Loss\/loss": \{"num": [0-9.]+, "mean": ([0-9.e+-]+).*/\1/p' "$out/faces/stats.jsonl" | tr '\n' ' '; }
echo "   loss: $(curve)"
[ "${3:-}" = quick ] || curve | awk '{ if ($NF >= $1 / 2) { print "the loss has not halved"; exit 1 } }'
cells=() heads=
for n in "${show[@]}" "$images"; do
    cells+=("$out/faces/fakes$(printf %06d $((n / 1000))).png")
    heads+="after $n images|"
done
"$fdm" sheet "${cells[@]}" "$out/faces/reals.png" --columns "${heads/after 0 images/before training}the data" --out "$out/training.png" \
    --title "Training a small Fast Diffusion Model from scratch" \
    --note "samples from the same 25 seeds, 9 steps; 750 thousand parameters, 99 faces at 16 x 16 and their mirror images"

say "The pictures, after $SECONDS seconds"
echo "   $out/samples.png     four classes, seeds $seeds"
echo "   $out/steps.png       FDM beside EDM after ${steps[*]} steps"
echo "   $out/training.png    before and after training"
echo "   $out/verify.html     the report on what a GPU would have computed"
echo "Next: README.md, or all ten classes, six of which are blobs:"
echo "   $fdm sample --model data/emoji16_fdm_edm.safetensors --class 0-9 --seeds 0-7 --outdir out --grid out/all.png"
