#!/usr/bin/env bash
# `fdm process`: tables, figures as numbers and as pictures; and the guided reading, whose references must hold.
. "$(dirname "$0")/house/lib.sh"
guide=src/process/README.md

refuse() { try "$1" "$2" process "${@:3}"; }
# near FIELD LINE FILE VALUE: within 1e-14 of it, relative (tau = 20.1 is itself rounded)
near() { awk -F, -v f="$1" -v l="$2" -v v="$4" 'NR == l { d = $f - v; if (d < 0) d = -d; bad = !(d <= 1e-14 * (v < 0 ? -v : v)) } END { exit bad }' "$3"; }

# ---- Tables ------------------------------------------------------------------------------------------------------
"$fdm" process --zeta 1 --tau 0,1,2.5 >"$tmp/tau.csv"
verdict "the oscillator's columns" test "$(head -n 1 "$tmp/tau.csv")" = tau,mean_x,mean_v,cov_xx,cov_xv,cov_vv,h
verdict "one line for each tau" test "$(wc -l <"$tmp/tau.csv")" = 4
verdict "mean at tau = 1: 2/e" near 2 3 "$tmp/tau.csv" 0.73575888234288464
verdict "velocity there: -1/e" near 3 3 "$tmp/tau.csv" -0.36787944117144233
verdict "variance at 2.5, 60 digits: 4 x 0.21883699512922971..." near 4 4 "$tmp/tau.csv" 0.875347980516918860
"$fdm" process --zeta 0.25 --tau 100 >"$tmp/late.csv"
verdict "stationary variance 1 at zeta = 1/4" near 4 2 "$tmp/late.csv" 1
"$fdm" process --precond fdm_edm --fdm_multiplier 2 --sigma 0.002,0.5,80 >"$tmp/sigma.csv"
verdict "the kernel's columns" test "$(head -n 1 "$tmp/sigma.csv")" = sigma,t,B,s,c_skip,c_out,c_in,c_noise
verdict "s(sigma_min) = 1" near 4 2 "$tmp/sigma.csv" 1
verdict "s(80) = 21.1 e^-20.1" near 4 4 "$tmp/sigma.csv" "$(awk 'BEGIN { printf "%.17g", 21.1 * exp(-20.1) }')"
verdict "c_in is s" awk -F, 'NR > 1 && $4 != $7 { exit 1 }' "$tmp/sigma.csv"
verdict "c_skip(0.5) = 1/2" near 5 3 "$tmp/sigma.csv" 0.5
"$fdm" process --precond fdm_ve --fdm-multiplier 2 --sigma 50 >"$tmp/ve2.csv"
"$fdm" process --precond fdm_ve --fdm-multiplier 1 --sigma 50 >"$tmp/ve1.csv"
verdict "VE-FDM takes no notice of m, as published" cmp -s "$tmp/ve1.csv" "$tmp/ve2.csv"
"$fdm" process --precond fdm_ve --ve_multiplier 2 --sigma 50 >"$tmp/ve2.csv"
verdict "but of its own, the paper's" bash -c "! cmp -s $tmp/ve1.csv $tmp/ve2.csv"
for precond in vp ve edm fdm_vp fdm_ve fdm_edm; do
    verdict "a table of $precond" bash -c "[ \$($fdm process --precond $precond --sigma 0.1,1,10 | wc -l) = 4 ]"
done
"$fdm" process --zeta 1 --tau 1 --json >"$tmp/tau.json"
verdict "JSON has the same" grep -q '"mean_x": 0.735758882342884' "$tmp/tau.json"
"$fdm" process --precond edm --sigma 1 --json >"$tmp/edm.json"
verdict "JSON says null where there is no clock" grep -q '"t": null' "$tmp/edm.json"

# A kernel's damping, not published but for 1: s(80) = mu(2 B(1)), and without friction that is cos(20.1).
"$fdm" process --precond fdm_edm --zeta 0 --sigma 80 >"$tmp/undamped.csv"
verdict "--sigma with --zeta 0" awk -F, 'NR == 2 { d = $4 - cos(2 * $3); bad = !(d * d <= 1e-30) } END { exit bad }' "$tmp/undamped.csv"
"$fdm" process --precond fdm_edm --zeta 1 --sigma 0.002,0.5,80 >"$tmp/one.csv"
verdict "--sigma with --zeta 1 is the kernel" cmp "$tmp/sigma.csv" "$tmp/one.csv"

# ---- Refusals ----------------------------------------------------------------------------------------------------
refuse 2 'nothing asked for'
refuse 2 'give one' --sigma 1 --tau 1
refuse 2 'goes without' --figure scale --tau 1
refuse 2 'scale' --figure nothing
refuse 2 'tau' --tau -1
refuse 2 'svg or .png' --plot "$tmp/x.pdf"
refuse 2 'needs --image' --figure strip

# ---- Figures as numbers -------------------------------------------------------------------------------------------
for figure in scale moments phase clouds descent; do
    verdict "numbers of $figure" bash -c "$fdm process --figure $figure >$tmp/$figure.csv && [ \$(wc -l <$tmp/$figure.csv) -gt 20 ] &&
        head -n 1 $tmp/$figure.csv | grep -qx panel,series,x,y,low,high && ! grep -qE '(nan|inf)' $tmp/$figure.csv"
done
verdict "numbers as JSON" bash -c "$fdm process --figure scale --json | grep -q '\"series\"'"
# Particles do not depend on threads or instruction set.
for how in "--threads 1" "--threads 3" "--isa portable"; do
    # shellcheck disable=SC2086
    "$fdm" process --figure clouds $how >"$tmp/again.csv"
    verdict "same numbers with $how" cmp -s "$tmp/clouds.csv" "$tmp/again.csv"
done
verdict "other numbers from another seed" bash -c "! $fdm process --figure clouds --seed 2 | cmp -s - $tmp/clouds.csv"

# ---- Pictures ------------------------------------------------------------------------------------------------------
if "$fdm" process --plot "$tmp/scale.svg" 2>"$tmp/err"; then
    verdict "an SVG" grep -q '<svg' "$tmp/scale.svg"
    "$fdm" process --plot "$tmp/again.svg"
    verdict "the same twice" cmp -s "$tmp/scale.svg" "$tmp/again.svg"
    "$fdm" process --figure strip --image data/emoji32.zip --index 3 --plot "$tmp/strip.png"
    verdict "a PNG" bash -c "head -c 8 $tmp/strip.png | od -An -tx1 | grep -q '89 50 4e 47'"
    "$fdm" process --figure strip --image tests/corpus/png/rgb8.png --plot "$tmp/strip2.svg"
    verdict "a strip of a PNG file, as SVG" grep -q '<image' "$tmp/strip2.svg"
    "$fdm" process --tau 0.1,1,10 --plot "$tmp/table.svg" >"$tmp/table.csv"
    verdict "a table drawn and printed" bash -c "[ \$(wc -l <$tmp/table.csv) = 4 ] && grep -q '<svg' $tmp/table.svg"
    refuse 4 'no/such' --plot "$tmp/no/such/x.svg"
    refuse 3 'missing.png' --figure strip --image "$tmp/missing.png" --plot "$tmp/x.png"
    refuse 2 'images' --figure strip --image data/emoji32.zip --index 99999 --plot "$tmp/x.png"
else
    verdict "without cairo, one line says what to install" bash -c "[ \$(wc -l <$tmp/err) = 1 ] && grep -q libcairo2-dev $tmp/err"
    skip "pictures: built without cairo"
fi

# ---- The guided reading ---------------------------------------------------------------------------------------------
# [`name`](file#L12) must point at a line that has the name.
grep -oE '\[`[A-Za-z0-9_]+`\]\([^)#]+#L[0-9]+\)' "$guide" | sort -u >"$tmp/references"
wrong=0
while IFS= read -r reference; do
    name=$(sed 's/^\[`\([^`]*\)`.*/\1/' <<<"$reference")
    file=$(sed 's/.*(\([^#]*\)#.*/\1/' <<<"$reference") line=$(sed 's/.*#L\([0-9]*\))/\1/' <<<"$reference")
    sed -n "${line}p" "$(dirname "$guide")/$file" 2>/dev/null | grep -qw -- "$name" || {
        echo "$guide: $reference is not there"
        wrong=$((wrong + 1))
    }
done <"$tmp/references"
if [ "$wrong" = 0 ] && [ "$(wc -l <"$tmp/references")" -ge 10 ]; then
    ok "the guide's $(wc -l <"$tmp/references") references to functions and tests hold"
else
    fail "the guide: $wrong references are wrong"
fi
heavy='figure nfe' # takes seconds; `make figures` runs it
[ -z "${SANITIZE:-}" ] || heavy='figure (nfe|orders)'
grep -E '^    fdm process' "$guide" | grep -vE -- "--plot|$heavy" >"$tmp/commands"
while IFS= read -r command; do
    # shellcheck disable=SC2086
    verdict "the guide's command:$command" bash -c "${command/    fdm/$fdm} >$tmp/command.out"
done <"$tmp/commands"
verdict "the guide has commands to run" test "$(wc -l <"$tmp/commands")" -ge 5
finish
