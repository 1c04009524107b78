#!/usr/bin/env bash
# The demo: images from the model shipped here, and one forward pass held against the published program's.
#   data/demo.sh BUILD
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
fdm=$build/fdm
out=$build/demo
model=data/shapes16_fdm_edm.safetensors
golden=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
mkdir -p "$out"

echo
echo "1. Sixteen images from seeds 0 to 15: EDM sampler, 18 steps, the small class-conditional model of data/"
"$fdm" sample --model "$model" --seeds 0-15 --outdir "$out/images" --grid "$out/grid.png"
echo
echo "2. D(x; sigma) of a network of the published program, on its weights and inputs"
"$fdm" denoise --model "$golden" --in "$golden" --out "$out/denoised.safetensors"
echo
echo "3. The same against what the published program computed (PyTorch, f32): at most 1e-5 of the largest value apart?"
"$fdm" compare "$golden" "$out/denoised.safetensors" --only out,F_x --mtol 1e-5
echo
echo "The picture: $out/grid.png"
