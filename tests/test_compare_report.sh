#!/usr/bin/env bash
# `fdm compare` as a command beyond its verdicts (test_cli.sh has those): renaming, rules, JSON, the page in a browser.
. "$(dirname "$0")/house/lib.sh"

# safetensors FILE HEADER DATA: DATA as \x escapes
safetensors() {
    local n
    n=$(printf '%s' "$2" | wc -c)
    {
        printf "$(printf '\\x%02x\\x%02x' $((n % 256)) $((n / 256)))"'\0\0\0\0\0\0'
        printf '%s' "$2"
        printf "$3"
    } >"$1"
}
run() { # CODE ARGUMENT...: output in $tmp/out, message in $tmp/err
    local want=$1
    shift
    "$fdm" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    local code=$?
    [ "$code" = "$want" ] || echo "exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    [ "$code" = "$want" ]
}
says() { run "$1" "${@:3}" && grep -qF -- "$2" "$tmp/out"; }
refuses() { run "$1" "${@:3}" && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -qF -- "$2" "$tmp/err"; }

one_two='\x00\x00\x80\x3f\x00\x00\x00\x40' two_four='\x00\x00\x00\x40\x00\x00\x80\x40'
vector() { echo "{\"$1\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"; }
safetensors "$tmp/a.safetensors" "$(vector model.x)" "$one_two"
safetensors "$tmp/b.safetensors" "$(vector trace.model.x)" "$one_two"
safetensors "$tmp/twice.safetensors" "$(vector model.x)" "$two_four"
a=$tmp/a.safetensors b=$tmp/b.safetensors twice=$tmp/twice.safetensors

# ---- Names and rules ---------------------------------------------------------------------------------------------
verdict "names that differ by a prefix: the table says how to rename" says 1 "try --rename 'trace.*=*'" compare "$a" "$b"
verdict "--rename" says 0 '1 of 1 tensors agree' compare "$a" "$b" --rename 'trace.*=*'
verdict "--rename-a" says 0 '1 of 1 tensors agree' compare "$a" "$b" --rename-a '*=trace.*'
verdict "--rename-truth" says 0 'RMS ratio' compare "$a" "$a" --truth "$b" --rename-truth 'trace.*=*'
verdict "a rule without =" refuses 2 "has no '='" compare "$a" "$b" --rename 'trace.*'
verdict "--rename-truth without --truth" refuses 2 'needs --truth' compare "$a" "$b" --rename-truth 'a=b'
verdict "a factor is named" says 1 'B is A times 2' compare "$a" "$twice"
verdict "--snr passes" says 0 pass compare "$a" "$a" --snr 20
verdict "--snr fails" refuses 1 '1 of 1 tensors fail' compare "$a" "$twice" --snr 20
verdict "--ratio without --truth" refuses 2 -- compare "$a" "$twice" --ratio 2
verdict "--ratio passes" says 0 pass compare "$a" "$a" --truth "$twice" --ratio 1
verdict "-v shows the neighbourhood" says 1 'around [1]' compare -v "$a" "$twice"
verdict "-v shows a histogram" says 1 'ULP (F32)' compare -v "$a" "$twice"

# ---- Real tensors: a whole network's trace -----------------------------------------------------------------------
net=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
for mode in direct winograd4; do
    "$fdm" denoise -q --model "$net" --in "$net" --out "$tmp/$mode.safetensors" --trace --conv "$mode" || fail "fdm denoise --conv $mode"
done
"$fdm" denoise -q --model "$net" --in "$net" --out "$tmp/truth.npz" --trace --backend reference || fail "fdm denoise --backend reference"
three=(compare "$tmp/direct.safetensors" "$tmp/winograd4.safetensors" --truth "$tmp/truth.npz")
run 1 "${three[@]}" --json --html "$tmp/report.html" --threads 1 >/dev/null
cp "$tmp/out" "$tmp/one.json"
cp "$tmp/report.html" "$tmp/one.html"
run 1 "${three[@]}" --json --html "$tmp/report.html" --threads 5 >/dev/null
verdict "JSON is the same for any number of threads" cmp "$tmp/out" "$tmp/one.json"
verdict "and so is the page" cmp "$tmp/report.html" "$tmp/one.html"
verdict "every module is in it" test "$(grep -c '^   "name": "trace\.' "$tmp/one.json")" = \
    "$("$fdm" info "$tmp/truth.npz" | grep -c '^trace\.')"
verdict "the page fits an e-mail" test "$(wc -c <"$tmp/report.html")" -lt 1000000
verdict "--html needs a place to write" refuses 4 'nowhere' compare "$a" "$a" --html "$tmp/nowhere/report.html"
verdict "a failed comparison leaves no page" refuses 3 'missing' compare "$a" "$tmp/missing.npz" --html "$tmp/none.html"
verdict "none indeed" test ! -e "$tmp/none.html"
if command -v python3 >/dev/null && python3 -c 'import jsonschema' 2>/dev/null; then
    verdict "an independent validator accepts the JSON" python3 -c 'import json, sys, jsonschema
jsonschema.validate(json.load(open(sys.argv[1])), json.load(open("src/verify/report.schema.json")))' "$tmp/one.json"
else
    skip "an independent JSON Schema validator: no Python with jsonschema here"
fi

# ---- The page in a browser ---------------------------------------------------------------------------------------
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then
    skip "the page in a browser: no chromium here"
    finish
    exit
fi
browse() { # OPTION... URL
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
        --user-data-dir="$tmp/profile" "$@" 2>"$tmp/browser.log"
}
name='<script>document.title=1</script>\"><img src=x onerror=document.title=2>'
safetensors "$tmp/evil_a.safetensors" "$(vector "$name")" "$one_two"
safetensors "$tmp/evil_b.safetensors" "$(vector "$name")" "$two_four"
run 1 compare "$tmp/evil_a.safetensors" "$tmp/evil_b.safetensors" --html "$tmp/evil.html" >/dev/null
browse --dump-dom "file://$tmp/evil.html" >"$tmp/dom"
verdict "a hostile name is text in the browser" bash -c "grep -q '<title>fail: fdm compare</title>' $tmp/dom && ! grep -qE '<(img|script)' $tmp/dom"
browse --dump-dom "file://$tmp/report.html" >"$tmp/dom"
verdict "the browser sees the whole page" bash -c "grep -q 'What was compared' $tmp/dom && grep -q '<svg class=\"profile\"' $tmp/dom"
verdict "a point for every module" test "$(grep -o '<circle class=' "$tmp/dom" | wc -l)" -ge "$(grep -c '"name"' "$tmp/one.json")"
browse --screenshot="$tmp/page.png" --window-size=1160,1500 "file://$tmp/report.html" >/dev/null
verdict "a screenshot with something on it" test "$(wc -c <"$tmp/page.png" 2>/dev/null || echo 0)" -gt 30000
finish
