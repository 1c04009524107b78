#!/usr/bin/env bash
# The command's frame: help, options, exit codes, streams, signals; and `fdm compare` on small files.
. "$(dirname "$0")/house/lib.sh"

# try CODE PATTERN ARGUMENT...: exit code, and for a failure one line on stderr that matches
try() {
    local want=$1 pattern=$2 code
    shift 2
    "$fdm" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    if [ "$code" != "$want" ]; then
        fail "fdm $*: exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    elif [ "$want" = 0 ] && ! grep -qE -- "$pattern" "$tmp/out"; then
        fail "fdm $*: stdout does not match $pattern"
    elif [ "$want" != 0 ] && ! grep -qE -- "$pattern" "$tmp/err"; then
        fail "fdm $*: stderr does not match $pattern: $(head -c 300 "$tmp/err")"
    elif [ "$want" != 0 ] && [ "$(wc -l <"$tmp/err")" != 1 ]; then
        fail "fdm $*: not one line on stderr"
    else
        ok "fdm $* ($want)"
    fi
}

f32='{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
one_two='\x00\x00\x80\x3f\x00\x00\x00\x40'
safetensors "$tmp/a.safetensors" "$f32" "$one_two"
safetensors "$tmp/same.safetensors" "$f32" "$one_two"
safetensors "$tmp/near.safetensors" "$f32" '\x01\x00\x80\x3f\x00\x00\x00\x40' # one ULP up
safetensors "$tmp/nan.safetensors" "$f32" '\x00\x00\xc0\x7f\x00\x00\x00\x40'
safetensors "$tmp/shape.safetensors" '{"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}' "$one_two"
safetensors "$tmp/dtype.safetensors" '{"x":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}' "$one_two"
safetensors "$tmp/name.safetensors" '{"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' "$one_two"
safetensors "$tmp/more.safetensors" '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}' "$one_two"
safetensors "$tmp/empty.safetensors" '{}' ''
safetensors "$tmp/cut.safetensors" "$f32" '\x00\x00\x80\x3f'
a=$tmp/a.safetensors

# ---- Help --------------------------------------------------------------------------------------------------------
try 0 'usage: fdm <command>'
try 0 'usage: fdm <command>' help
try 0 'usage: fdm <command>' --help
try 0 'usage: fdm <command>' -h
try 0 '^fdm [0-9]+\.[0-9]+\.[0-9]+$' --version
commands=$("$fdm" help | sed -n '/^commands:/,$ s/^  \([a-z]*\) .*/\1/p')
for command in $commands; do
    for spelling in "help $command" "$command --help" "$command -h"; do
        # shellcheck disable=SC2086
        try 0 "usage: fdm $command" $spelling
    done
    verdict "fdm help $command shows examples" grep -q '^examples:' "$tmp/out"
    verdict "fdm help $command fits a wide terminal" awk 'length($0) > 130 { exit 1 }' "$tmp/out"
done
if echo "$commands" | grep -qx compare; then ok "the table of commands is read"; else fail "no commands found in fdm help"; fi
try 2 'unknown command compar; did you mean fdm compare' compar
try 2 'unknown command xyzzy' xyzzy
try 2 'unknown command xyzzy' help xyzzy

# ---- Options -----------------------------------------------------------------------------------------------------
try 2 'wants A B' compare
try 2 'wants A B' compare "$a"
try 2 'too many arguments' compare "$a" "$a" "$a"
try 2 'unknown option --rtoll; did you mean --rtol' compare "$a" "$a" --rtoll 1
try 2 'unknown option --frobnicate' compare "$a" "$a" --frobnicate
try 2 'unknown option -z' compare "$a" "$a" -z
try 2 '--rtol needs a value' compare "$a" "$a" --rtol
try 2 '--rtol needs a value' compare "$a" "$a" --rtol --json
try 2 '--json takes no value' compare "$a" "$a" --json=1
try 2 '--rtol is given twice' compare "$a" "$a" --rtol 1 --rtol 1
try 2 'empty' compare "$a" "$a" --rtol=
for value in nan NaN inf -1 1e999 1x 0x10 '1 ' ' 1' -- ''; do
    "$fdm" compare "$a" "$a" --rtol "$value" >/dev/null 2>"$tmp/err"
    verdict "--rtol '$value' is refused" test $? = 2 -a "$(wc -l <"$tmp/err")" = 1
done
for value in 1.5 -1 9223372036854775808 99999999999999999999 1e3 ten ''; do
    "$fdm" compare "$a" "$a" --ulp "$value" >/dev/null 2>"$tmp/err"
    verdict "--ulp '$value' is refused" test $? = 2 -a "$(wc -l <"$tmp/err")" = 1
done
try 0 pass compare "$a" "$a" --ulp 9223372036854775807
try 0 pass compare --rtol=1e-5 "$a" --atol 0 "$a"
try 0 pass compare -v "$a" -- "$a"
"$fdm" compare -qv "$a" "$a" >"$tmp/out" 2>&1
verdict "-q is silent when all is well" test $? = 0 -a ! -s "$tmp/out"
for value in 0 -1 1025 two 99999999999; do try 2 '--threads' compare "$a" "$a" --threads "$value"; done
try 2 '--isa' compare "$a" "$a" --isa sse9
try 2 '--backend' compare "$a" "$a" --backend gpu
try 2 '--conv winograd3: wants one of direct, winograd2, winograd4' compare "$a" "$a" --conv winograd3
try 2 '--conv needs a value' compare "$a" "$a" --conv
for mode in direct winograd2 winograd4; do try 0 pass compare "$a" "$a" --conv "$mode"; done
try 0 pass compare "$a" "$a" --threads 2 --isa portable --backend reference
FDM_ISA=sse9 try 2 'FDM_ISA' compare "$a" "$a"
FDM_ISA='' try 0 pass compare "$a" "$a"

# ---- Convolution modes: what they change and what they leave alone --------------------------------------------------
net=tests/golden/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors
denoise() { # NAME OPTION...: $tmp/NAME.safetensors
    local out=$tmp/$1.safetensors
    shift
    "$fdm" denoise -q --model "$net" --in "$net" --out "$out" --isa portable --threads 1 "$@" >/dev/null 2>"$tmp/err" \
        || fail "fdm denoise $*: $(head -c 300 "$tmp/err")"
}
same() { cmp -s "$tmp/$1.safetensors" "$tmp/$2.safetensors"; }
for mode in direct winograd2 winograd4; do denoise "$mode" --conv "$mode"; done
denoise default
denoise truth --backend reference
verdict "--conv winograd2 is the default" same default winograd2
if same direct winograd2 || same direct winograd4 || same winograd2 winograd4; then fail "a mode changes no bit"; else ok "each mode rounds in its own way"; fi
try 0 pass compare "$tmp/direct.safetensors" "$tmp/winograd2.safetensors" --mtol 5e-6 # two f32 results, each within 2.7e-6
try 0 pass compare "$tmp/direct.safetensors" "$tmp/winograd4.safetensors" --mtol 5e-5
try 1 fail compare "$tmp/direct.safetensors" "$tmp/winograd4.safetensors" --mtol 1e-9
for mode in direct winograd4; do
    denoise "truth-$mode" --backend reference --conv "$mode"
    verdict "--backend reference takes no notice of --conv $mode" same truth "truth-$mode"
    for isa in avx2 avx512; do
        if ! grep -qw "${isa/avx512/avx512vl}" /proc/cpuinfo; then skip "no $isa here"; continue; fi
        "$fdm" denoise -q --model "$net" --in "$net" --out "$tmp/$mode-$isa.safetensors" --isa "$isa" --threads 3 --conv "$mode"
        verdict "--conv $mode: $isa with 3 threads writes portable's bytes" same "$mode" "$mode-$isa"
    done
done

# ---- Streams and signals -----------------------------------------------------------------------------------------
if [ -e /dev/full ]; then
    "$fdm" help >/dev/full 2>"$tmp/err"
    verdict "a full disk under stdout is exit code 4" test $? = 4 -a "$(wc -l <"$tmp/err")" = 1
else
    skip "no /dev/full here"
fi
"$fdm" --version >&- 2>"$tmp/err"
verdict "a closed stdout is exit code 4" test $? = 4
(
    "$fdm" help 2>"$tmp/err"
    echo $? >"$tmp/code"
) | true
verdict "a reader that went away is 0 or 4, no signal" grep -qxE '0|4' "$tmp/code"
"$fdm" compare "$a" "$a" <&- >"$tmp/out" 2>&-
verdict "closed stdin and stderr do not matter" grep -q pass "$tmp/out"

# ---- compare -----------------------------------------------------------------------------------------------------
try 0 '1 of 1 tensors agree' compare "$a" "$tmp/same.safetensors"
try 1 '1 of 1 tensors fail' compare "$a" "$tmp/near.safetensors"
verdict "it shows the ULP" grep -qE '^FAIL +x .* 1 ' "$tmp/out"
try 0 pass compare "$a" "$tmp/near.safetensors" --ulp 1
try 0 pass compare "$a" "$tmp/near.safetensors" --rtol 2e-7
try 0 pass compare "$a" "$tmp/near.safetensors" --atol 2e-7
try 1 fail compare "$a" "$tmp/near.safetensors" --atol 1e-7
for other in nan shape dtype name more empty; do
    try 1 fail compare "$a" "$tmp/$other.safetensors" --rtol 1e300 --atol 1e300 --ulp 9223372036854775807
    try 1 fail compare "$tmp/$other.safetensors" "$a" --rtol 1e300
done
try 1 'nothing to compare' compare "$tmp/empty.safetensors" "$tmp/empty.safetensors"
try 0 pass compare "$a" "$tmp/more.safetensors" --only x
try 0 pass compare "$a" "$tmp/more.safetensors" --only 'nothing,[xz]'
try 1 'nothing to compare' compare "$a" "$a" --only y
try 3 'cut.safetensors' compare "$a" "$tmp/cut.safetensors"
try 3 'missing.safetensors' compare "$tmp/missing.safetensors" "$a"
mkdir "$tmp/folder.npz"
try 3 'folder.npz' compare "$a" "$tmp/folder.npz"
cp "$a" "$tmp/a.txt"
try 2 'a.txt' compare "$a" "$tmp/a.txt"
try 0 'RMS ratio' compare "$a" "$a" --truth "$a"
try 1 fail compare "$a" "$tmp/near.safetensors" --truth "$a"
try 0 pass compare "$tmp/near.safetensors" "$a" --truth "$a"
try 1 fail compare "$a" "$a" --truth "$tmp/nan.safetensors"
try 3 'missing' compare "$a" "$a" --truth "$tmp/missing.safetensors"
# An .npy file holds one tensor without a name.
npy() { # FILE DATA: two floats
    local header="{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    { printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header" && printf "$2"; } >"$1"
}
npy "$tmp/one.npy" "$one_two"
npy "$tmp/two.npy" "$one_two"
npy "$tmp/nan.npy" '\x00\x00\xc0\x7f\x00\x00\x00\x40'
try 0 pass compare "$tmp/one.npy" "$tmp/two.npy"
try 0 pass compare "$a" "$tmp/two.npy" --truth "$tmp/one.npy"
try 1 fail compare "$tmp/one.npy" "$tmp/nan.npy" --rtol 1

"$fdm" compare "$a" "$tmp/near.safetensors" --json >"$tmp/out" 2>/dev/null
verdict "--json: exit code of the verdict" test $? = 1
for field in '"verdict": "fail"' '"name": "x"' '"rms_ratio": null' '"max_ratio": null' '"max_ulp": 1' '"max_abs": 1.19209289'; do
    verdict "--json has $field" grep -qF "$field" "$tmp/out"
done
"$fdm" compare "$a" "$tmp/nan.safetensors" --json >"$tmp/out" 2>/dev/null
verdict "--json: a NaN gives null, not a number" grep -qF '"max_abs": null' "$tmp/out"
finish
