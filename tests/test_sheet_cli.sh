#!/usr/bin/env bash
# `fdm sheet`: what it reads and writes, how it arranges, what it refuses; and the options that feed it:
# `fdm sample --class LIST`, `fdm denoise --inputs`.
. "$(dirname "$0")/house/lib.sh"
same() { verdict "$1" cmp "$2" "$3"; }
# size FILE WxH: of a PNG
size() {
    local is
    is=$(od -An -j16 -N8 -tu1 "$1" | awk '{ print ($1 * 256 + $2) * 65536 + $3 * 256 + $4 "x" ($5 * 256 + $6) * 65536 + $7 * 256 + $8 }')
    if [ "$is" = "$2" ]; then ok "${1##*/}: $2"; else fail "${1##*/}: $is instead of $2"; fi
}
sheet() { try "$1" "$2" sheet "${@:3}"; }
model=tests/golden_extra/shapes16_fdm_edm.safetensors

# ---- --class LIST: every seed with each class ---------------------------------------------------------------------
few=(--model "$model" --steps 2 --solver euler -q)
try 0 '' sample "${few[@]}" --class 0,3,8 --seeds 0-3 --outdir "$tmp/classes" --grid "$tmp/grid.png"
(cd "$tmp/classes" && find . -type f | sort) >"$tmp/found"
printf './%s\n' {0,3,8}/00000{0,1,2,3}.png >"$tmp/expected"
verdict "a folder per class, an image per seed" diff "$tmp/expected" "$tmp/found"
try 0 '' sample "${few[@]}" --class 3 --seeds 2 --outdir "$tmp/one"
same "one class alone gives the same image, without a folder" "$tmp/one/000002.png" "$tmp/classes/3/000002.png"
if cmp -s "$tmp/classes/0/000002.png" "$tmp/classes/3/000002.png"; then fail "two classes, one image"; else ok "classes differ"; fi
size "$tmp/grid.png" 70x52 # a row per class: 4 and 3 images of 16 x 16 and gaps of 2
try 0 '' sample "${few[@]}" --class 0,3 --seeds 0,1001 --outdir "$tmp/sub" --subdirs
verdict "with --subdirs, too" test -f "$tmp/sub/3/001000/001001.png"
try 2 'the model has 10 classes' sample "${few[@]}" --class 3,10 --seeds 0 --outdir "$work/x"
try 2 'more than 10000000 images' sample "${few[@]}" --class 0-9 --seeds 0-5000000 --outdir "$work/x"

# ---- denoise --inputs: a dump for fdm verify ----------------------------------------------------------------------
golden=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
try 0 '' denoise --model "$golden" --in "$golden" --out "$tmp/dump.npz" --trace --inputs --backend tf32
try 0 '' verify --model "$golden" --dump "$tmp/dump.npz" --precision tf32
"$fdm" verify --model "$golden" --dump "$tmp/dump.npz" >"$tmp/out" 2>&1
verdict "checked as fp32 it fails" test $? = 1
verdict "and is recognised" grep -q 'this is tf32, not a bug' "$tmp/out"

# ---- Sheets -------------------------------------------------------------------------------------------------------
c=$tmp/classes
sheet 0 '' "$c/0" "$c/3" "$c/8" --wide 4 --across 1 --scale 1 --out "$tmp/plain.png"
size "$tmp/plain.png" 94x84 # 12 + 4 * 16 + 3 * 2 + 12; 12 + 3 * 16 + 2 * 6 + 12
sheet 0 '' "$c/0" "$c/3" "$c/8" --wide 4 --rows 'disc|triangle|smiley' --title 'Three classes' --note 'of ten' --out "$tmp/labelled.png"
sheet 0 '' "$tmp/labelled.png" "$tmp/plain.png" --columns 'a sheet|another' --scale 1 --out "$tmp/of-sheets.png"
sheet 0 '' data/emoji32.zip --first 6 --wide 3 --scale 3 --out "$tmp/zip.png"
size "$tmp/zip.png" 316x218 # 24 + 3 * 96 + 2 * 2; 24 + 2 * 96 + 2
sheet 0 '' "$c/0" "$c/3" "$c/8" "$c/0" "$c/3" --first 1 --columns 'one|two' --rows 'a|b|c' --out "$tmp/short.png"
sheet 0 '' "$c/0/000000.png" --title $'caf\xc3\xa9 \xff \x01 \xf0\x9f\x98\x80' --scale 1 --out "$tmp/odd.png"
echo old >"$tmp/again.png"
sheet 0 '' "$c/0" "$c/3" "$c/8" --wide 4 --across 1 --scale 1 --threads 1 --isa portable --out "$tmp/again.png"
same "the same input gives the same bytes, over an old file, too" "$tmp/plain.png" "$tmp/again.png"

# ---- Refusals -----------------------------------------------------------------------------------------------------
out=(--out "$work/x.png")
sheet 2 'wants PICTURE' "${out[@]}"
sheet 2 '--out is required' "$c/0"
sheet 2 'must end in .png' "$c/0" --out "$work/x.jpg"
sheet 4 'cannot write' "$c/0" --out "$tmp/nowhere/x.png"
sheet 2 'columns has 3 labels for 2 columns' "$c/0" "$c/3" --columns 'a|b|c' --across 2 "${out[@]}"
sheet 2 'rows has 3 labels, but 2 pictures, 1 to a row, make 2 rows' "$c/0" "$c/3" --rows 'a|b|c' "${out[@]}"
for option in '--scale 0' '--scale 65' '--scale x' '--across 0' '--wide -1' '--first 0' '--title' '--rows='; do
    # shellcheck disable=SC2086
    sheet 2 "${option%%[ =]*}" "$c/0" "${out[@]}" $option
done
sheet 3 'none.png' "$tmp/none.png" "${out[@]}"
sheet 3 '/dev/null: is a device' /dev/null "${out[@]}"
mkdir "$tmp/empty" "$tmp/mixed"
sheet 3 'holds no images' "$tmp/empty" "${out[@]}"
cp "$c/0/000000.png" "$tmp/mixed/a.png"
cp "$tmp/plain.png" "$tmp/mixed/b.png"
sheet 3 'b.png.*94 x 84 pixels, but the first image there has 16 x 16' "$tmp/mixed" "${out[@]}"
head -c 100 "$tmp/plain.png" >"$tmp/cut.png"
sheet 3 'cut.png.*truncated' "$c/0" "$tmp/cut.png" "${out[@]}"
head -c 1000 data/emoji32.zip >"$tmp/cut.zip"
sheet 3 'cut.zip' "$tmp/cut.zip" "${out[@]}"
printf 'PK' >"$tmp/tiny"
sheet 3 'tiny' "$tmp/tiny" "${out[@]}"
printf 'not a picture at all' >"$tmp/text.png"
sheet 3 'text.png' "$tmp/text.png" "${out[@]}"
sheet 2 'pixels; use fewer or smaller pictures' data/emoji32.zip --first 700 --scale 64 "${out[@]}"
sheet 2 'pixels; use fewer or smaller pictures' "$c/0" "$c/3" --wide 4 --columns "$(printf 'x%.0s' {1..9000})|y" "${out[@]}"
sheet 2 'pixels; use fewer or smaller pictures' "$c/0" --title "$(printf 'x%.0s' {1..9000})" "${out[@]}"
sheet 2 'pixels; use fewer or smaller pictures' "$c/0" --note "$(printf '|%.0s' {1..3000})" "${out[@]}"
finish
