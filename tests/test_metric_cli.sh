#!/usr/bin/env bash
# `fdm metric` as a command: published Frechet distances, data sets, folders, the classifier, statistics files, the same
# numbers whatever threads and instruction set, sane orders, refusals in one line.
. "$(dirname "$0")/house/lib.sh"
golden=${FDM_TEST_GOLDEN_DIR:-tests/golden}

refuse() { try "$1" "$2" metric "${@:3}"; }
# number FILE MEASURE [KEY]: a figure of the last space in the JSON, "null" if there is none
number() {
    awk -v measure="\"$2\":" -v key="\"${3:-value}\":" '
        $1 == measure { inside = 1; found = "null" }
        inside && $1 == key { gsub(",", "", $2); found = $2; inside = 0 }
        $1 ~ /^}/ { inside = 0 }
        END { print found }' "$1"
}
holds() { awk "BEGIN { exit !($1) }"; } # a condition on numbers
metric() { # NAME ARGUMENT...: the JSON into $tmp/NAME.json
    local name=$1
    shift
    "$fdm" metric "$@" --json >"$tmp/$name.json" 2>"$tmp/err" || fail "fdm metric $*: $(head -c 300 "$tmp/err")"
}

"$fdm" metric "$golden/fid_dim64.safetensors" "$golden/fid_dim64.safetensors" >"$tmp/out" 2>"$tmp/err"
if grep -q liblapack3 "$tmp/err"; then
    refuse 4 'LAPACK' "$golden/fid_dim64.safetensors" "$golden/fid_dim64.safetensors"
    skip "metric: this build has no LAPACK"
    finish
    exit
fi

# ---- Published Frechet distances ---------------------------------------------------------------------------------
for pair in fid_dim64:0.8429920127460662 fid_dim64_rankdef:26.056670700751254; do
    file=$golden/${pair%:*}.safetensors
    metric fid "$file" "$file"
    got=$(number "$tmp/fid.json" frechet_distance)
    verdict "published Frechet distance of ${pair%:*}: $got" holds "($got / ${pair#*:} - 1) ^ 2 < 1e-24"
    verdict "nothing but that from mu and sigma" test "$(number "$tmp/fid.json" precision)$(number "$tmp/fid.json" kernel_distance)" = nullnull
done
file=$golden/fid_stats_dim32.safetensors
metric same "$file" "$file"
verdict "a set and itself: distance 0" holds "$(number "$tmp/same.json" frechet_distance) < 1e-10"
verdict "a set and itself: precision and recall 1" holds "$(number "$tmp/same.json" precision) * $(number "$tmp/same.json" recall) == 1"

# ---- Data sets, the classifier: the same numbers everywhere -------------------------------------------------------
"$fdm" dataset data/emoji32.zip "$tmp/emoji.zip" --resolution 8x8 --max-images 200 -q >/dev/null 2>&1
metric one "$tmp/emoji.zip" --train-classifier "$tmp/one.safetensors" --epochs 1 --isa portable --threads 1
metric two "$tmp/emoji.zip" --train-classifier "$tmp/two.safetensors" --epochs 1 --threads 3
verdict "the classifier's weights do not depend on instruction set and threads" cmp "$tmp/one.safetensors" "$tmp/two.safetensors"
metric other "$tmp/emoji.zip" --train-classifier "$tmp/other.safetensors" --epochs 1 --seed 1
if cmp -s "$tmp/one.safetensors" "$tmp/other.safetensors"; then fail "--seed 1 makes the same classifier"
else ok "--seed makes another classifier"; fi
metric one "$tmp/emoji.zip" --classifier "$tmp/one.safetensors" --bootstrap 20 --isa portable --threads 1
metric two "$tmp/emoji.zip" --classifier "$tmp/one.safetensors" --bootstrap 20 --threads 3
verdict "nor do the measures" cmp "$tmp/one.json" "$tmp/two.json"
verdict "both spaces are measured" test "$(grep -c '"space"' "$tmp/one.json")" = 2
metric two "$tmp/emoji.zip" --classifier "$tmp/one.safetensors" --bootstrap 20 --seed 1
if cmp -s "$tmp/one.json" "$tmp/two.json"; then fail "--seed 1 makes the same halves"; else ok "--seed makes other halves"; fi
"$fdm" metric "$tmp/emoji.zip" --classifier "$tmp/one.safetensors" --bootstrap 20 >"$tmp/text"
verdict "a table for people" test "$(grep -cE '^  (Frechet distance|kernel distance|precision|recall) +[-0-9.e]+ +\[[-0-9.e]+, [-0-9.e]+\]' "$tmp/text")" = 8
verdict "accuracy is told" grep -q 'of the held-out ones right' "$tmp/text"

# ---- Statistics files ---------------------------------------------------------------------------------------------

"$fdm" dataset data/emoji32.zip "$tmp/flags.zip" --resolution 8x8 --classes 9 -q >/dev/null 2>&1
for space in pixels classifier; do
    for format in npz safetensors; do
        "$fdm" metric "$tmp/emoji.zip" --space $space --classifier "$tmp/one.safetensors" --save-stats "$tmp/$space.$format" -q ||
            fail "--save-stats $space"
        metric direct "$tmp/emoji.zip" "$tmp/flags.zip" --space $space --classifier "$tmp/one.safetensors" --bootstrap 0
        metric file "$tmp/$space.$format" "$tmp/flags.zip" --space $space --classifier "$tmp/one.safetensors" --bootstrap 0
        verdict "$format statistics of REF stand for REF ($space)" diff <(grep -v '"reference"' "$tmp/direct.json") \
            <(grep -v '"reference"' "$tmp/file.json")
    done
done
metric files "$tmp/pixels.npz" "$tmp/pixels.safetensors" --bootstrap 0
verdict "two statistics files" holds "$(number "$tmp/files.json" frechet_distance) < 1e-9"
metric fewer "$tmp/pixels.npz" "$tmp/flags.zip" --max-images 100 --bootstrap 0
verdict "--max-images" grep -q '"images": 100,' "$tmp/fewer.json"

# ---- Samples of the shipped model: other pictures >> fewer steps > other seeds -------------------------------------
"$fdm" dataset data/emoji32.zip "$tmp/e16.zip" --resolution 16x16 --max-images 40 -q >/dev/null 2>&1
if [ -n "${SANITIZE:-}" ]; then skip "samples of the shipped model: slow in a sanitizer build"; else
    for run in a:0-39:5 b:40-79:5 c:80-119:2; do
        IFS=: read -r name seeds steps <<<"$run"
        "$fdm" sample --model tests/golden_extra/shapes16_fdm_edm.safetensors --outdir "$tmp/$name" --seeds "$seeds" --steps "$steps" -q ||
            fail "fdm sample"
    done
    for name in a b c e16.zip; do
        metric "m-$name" "$tmp/a" "$tmp/$name" --components 8 --bootstrap 0
    done
    for measure in frechet_distance kernel_distance; do
        a=$(number "$tmp/m-a.json" $measure) b=$(number "$tmp/m-b.json" $measure) c=$(number "$tmp/m-c.json" $measure)
        e=$(number "$tmp/m-e16.zip.json" $measure)
        verdict "$measure: same $a, seeds $b, steps $c, emoji $e" holds "$a < $b && $b < $c && 2 * $c < $e"
    done
fi

# Images without classes.
"$fdm" sample --model tests/golden_extra/shapes16_fdm_edm.safetensors --outdir "$tmp/plain" --seeds 0-1 --steps 2 -q || fail "fdm sample"

# ---- Refusals -----------------------------------------------------------------------------------------------------
refuse 2 'wants REF' -q
refuse 3 'nowhere' "$tmp/nowhere.zip"
refuse 3 'nowhere' "$tmp/nowhere.npz" "$tmp/emoji.zip"
refuse 3 'neither "mu" and "sigma" nor "features"' "$golden/rng_cpu.safetensors" "$tmp/emoji.zip"
refuse 3 '64 features, the other 32' "$golden/fid_dim64.safetensors" "$golden/fid_stats_dim32.safetensors"
refuse 3 '16 x 16 against a reference of 3 x 8 x 8' "$tmp/emoji.zip" "$tmp/e16.zip"
refuse 3 '16 x 16 for a classifier of 3 x 8 x 8' "$tmp/e16.zip" --space classifier --classifier "$tmp/one.safetensors"
refuse 3 'of two spaces' "$tmp/classifier.npz" "$tmp/flags.zip" --space classifier --classifier "$tmp/other.safetensors"
refuse 3 'of two spaces' "$tmp/pixels.npz" "$tmp/classifier.npz"
refuse 3 'knows no components' "$golden/fid_dim64.safetensors" "$tmp/emoji.zip"
refuse 3 'not known to be of REF' "$tmp/emoji.zip" "$golden/fid_dim64.safetensors"
refuse 3 'not made by fdm metric' "$tmp/emoji.zip" --classifier tests/golden_extra/shapes16_fdm_edm.safetensors
refuse 3 'no classes' "$tmp/plain" --train-classifier "$tmp/x.safetensors"
refuse 3 'at least 201' "$tmp/emoji.zip" "$tmp/emoji.zip" --block 201
refuse 2 'no halves' "$tmp/pixels.npz"
refuse 2 'needs --classifier' "$tmp/emoji.zip" --space classifier
refuse 2 'exclude each other' "$tmp/emoji.zip" --classifier a --train-classifier b
refuse 2 'goes with --train-classifier' "$tmp/emoji.zip" --epochs 3
refuse 2 'bootstrap 1' "$tmp/emoji.zip" --bootstrap 1
refuse 2 'one space' "$tmp/emoji.zip" --classifier "$tmp/one.safetensors" --save-stats "$tmp/x.npz"
refuse 2 'of one space' "$tmp/pixels.npz" "$tmp/flags.zip" --space both --classifier "$tmp/one.safetensors"
refuse 2 '\.npy' "$tmp/emoji.zip" --save-stats "$tmp/x.npy"
refuse 4 'cannot' "$tmp/emoji.zip" --train-classifier "$tmp/no/such/folder.safetensors"
verdict "no output of what was refused" bash -c "! ls $tmp/x.* 2>/dev/null"

# ---- A build without LAPACK: one line that says what to install ---------------------------------------------------
cat >"$tmp/without.c" <<'C'
#include <stdio.h>
#include "metric/lapack.h"
int main(void) {
    double values[1], vectors[1], a[1] = {1};
    fdm_error err;
    fdm_status status = fdm_symmetric_eigen(values, vectors, a, 1, 1, &err);
    if (status == fdm_nuclear_norm(values, a, 1, 1, &err)) puts(err.message);
    return (int)status;
}
C
if [ -n "${SANITIZE:-}" ]; then skip "a build without LAPACK: not for a sanitizer build"; else
    "${CC:-gcc}" -std=c11 -D_GNU_SOURCE -DFDM_NO_LAPACK -Iinclude -Isrc -I. -o "$tmp/without" "$tmp/without.c" src/metric/lapack.c src/base/base.c
    "$tmp/without" >"$tmp/out"
    verdict "without LAPACK: exit code 4" test $? = 4
    verdict "without LAPACK: what to install" grep -q 'liblapack3' "$tmp/out"
fi
finish
