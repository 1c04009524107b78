#!/usr/bin/env bash
# Hostile and broken files, absurd configurations and options, outputs that cannot be written, signals: each ends in
# one line on stderr that names what is wrong, with the right exit code, and leaves nothing half-written behind.
. "$(dirname "$0")/house/lib.sh"
golden=${FDM_TEST_GOLDEN_DIR:-tests/golden}_extra
model=$golden/net_channels4_12.safetensors # 8x8, labels; it is also its own input file
gray=$golden/net_gray.safetensors

denoise() { try "$1" "$2" denoise --model "$3" --in "$4" --out "$work/d.safetensors" "${@:5}"; }
sample() { try "$1" "$2" sample --model "$model" --outdir "$work" --steps 3 --seeds 0-1 "${@:3}"; }
latents() { try "$1" "$2" sample --model "$model" --grid "$work/g.png" --steps 3 --latents "${@:3}"; }

# ---- Making files --------------------------------------------------------------------------------------------------
bytes_le() { # NUMBER COUNT: little-endian bytes
    local n=$1 i
    for ((i = 0; i < $2; i++)); do
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((n & 255)))"
        n=$((n >> 8))
    done
}
header_length() { od -An -tu4 -N4 "$1" | tr -d ' '; }
header() { dd if="$1" bs=1 skip=8 count="$(header_length "$1")" 2>/dev/null; }
# rewrite OUT IN SED...: the header edited, the data as it is
rewrite() {
    local out=$1 in=$2 text
    shift 2
    text=$(header "$in" | sed "$@")
    { bytes_le ${#text} 8 && printf %s "$text" && tail -c +$((9 + $(header_length "$in"))) "$in"; } >"$out"
}
# safetensors OUT HEADER DATA-BYTES: zeros as data
safetensors() { { bytes_le ${#2} 8 && printf %s "$2" && head -c "$3" /dev/zero; } >"$1"; }
# poke FILE TENSOR ELEMENT BYTES: overwrites a 4-byte element
poke() {
    local begin
    begin=$(header "$1" | grep -o "\"$2\": *{[^}]*}" | sed 's/.*data_offsets": *\[\([0-9]*\).*/\1/')
    # shellcheck disable=SC2059
    printf "$4" | dd of="$1" bs=1 seek=$((8 + $(header_length "$1") + begin + 4 * $3)) conv=notrunc 2>/dev/null
}
nan='\x00\x00\xc0\x7f' inf='\x00\x00\x80\x7f' one='\x00\x00\x80\x3f' minus='\x00\x00\x80\xbf' zero='\x00\x00\x00\x00'
LC_ALL=C # ${#text} counts bytes

# ---- Broken containers, under every command ------------------------------------------------------------------------
broken=$tmp/broken
mkdir "$broken"
size=$(wc -c <"$model")
b() { echo "$broken/$1.safetensors"; }
: >"$(b empty)"
head -c 5 "$model" >"$(b cut_length)"
head -c 1000 "$model" >"$(b cut_header)"
head -c $((size - 1)) "$model" >"$(b cut_data)"
{ cat "$model" && printf x; } >"$(b oversized)"
{ bytes_le 1000000000000 8 && tail -c +9 "$model"; } >"$(b header_1e12)"
{ bytes_le -1 8 && tail -c +9 "$model"; } >"$(b header_2_64)"
{ bytes_le 60 8 && tail -c +9 "$model"; } >"$(b header_short)"
rewrite "$(b not_json)" "$model" 's/^./[/'
rewrite "$(b not_utf8)" "$model" $'s/map_layer0.weight"/map_\xff\xfe.weight"/'
rewrite "$(b control)" "$model" $'s/map_layer0.weight"/map_\x01.weight"/'
rewrite "$(b duplicate)" "$model" 's/model.map_layer1.bias"/model.map_layer0.bias"/'
rewrite "$(b dtype)" "$model" 's/"dtype": *"F32"/"dtype":"F33"/'
f32() { echo "\"$1\":{\"dtype\":\"F32\",\"shape\":$2,\"data_offsets\":[$3]}"; }
safetensors "$(b overlapping)" "{$(f32 x [4] 0,16),$(f32 sigma [4] 8,24)}" 24
safetensors "$(b gap)" "{$(f32 x [4] 0,16),$(f32 sigma [4] 20,36)}" 36
safetensors "$(b reversed)" "{$(f32 x [4] 16,0)}" 16
safetensors "$(b misaligned)" "{$(f32 x [4] 0,15)}" 15
safetensors "$(b negative)" "{$(f32 x [-4] 0,16)}" 16
safetensors "$(b overflow)" "{$(f32 x [4294967296,4294967296,4294967296] 0,16)}" 16
safetensors "$(b huge)" "{$(f32 x [1000000000000000000] 0,4000000000000000000)}" 16
safetensors "$(b fraction)" "{$(f32 x [4.5] 0,16)}" 16
safetensors "$(b entry_empty)" '{"x":{}}' 0
safetensors "$(b entry_list)" '{"x":[[[[[[1]]]]]]}' 0
safetensors "$(b metadata)" '{"__metadata__":{"config":5}}' 0
safetensors "$(b deep)" "$(head -c 100000 /dev/zero | tr '\0' '[')" 0
mkdir "$(b directory)"
mkfifo "$(b fifo)"
ln -s nowhere "$(b dangling)"
for file in "$broken"/*; do
    name=${file##*/}
    try 3 "$name: " info "$file"
    try 3 "$name: " compare "$model" "$file"
    denoise 3 "$name: " "$file" "$model"
    denoise 3 "$name: " "$model" "$file"
    latents 3 "$name: " "$file"
done

# npz and npy: made by the program, then broken
"$fdm" denoise --model "$model" --in "$model" --out "$tmp/good.npz" -q
npz=$(wc -c <"$tmp/good.npz")
mkdir "$tmp/npz"
z=$tmp/npz
: >"$z/empty.npz"
head -c 3 "$tmp/good.npz" >"$z/cut3.npz"
head -c $((npz / 2)) "$tmp/good.npz" >"$z/cut_half.npz"
head -c $((npz - 1)) "$tmp/good.npz" >"$z/cut1.npz"
{ cat "$tmp/good.npz" && head -c 70000 /dev/zero; } >"$z/oversized.npz"
cp "$tmp/good.npz" "$z/flipped.npz" && printf '\xff' | dd of="$z/flipped.npz" bs=1 seek=1000 conv=notrunc 2>/dev/null
cp "$model" "$z/safetensors.npz"
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }" >"$z/short.npy"
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" >"$z/object.npy"
printf '\x93NUMPY\x09\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }" >"$z/version9.npy"
for file in "$z"/*; do
    name=${file##*/}
    try 3 "$name: " info "$file"
    denoise 3 "$name: " "$model" "$file"
done

# ---- Models that do not fit ----------------------------------------------------------------------------------------
m=$tmp/m.safetensors
bad_model() { # PATTERN: $m fails as a model of both commands, by name
    denoise 3 "m.safetensors: .*$1" "$m" "$model"
    try 3 "m.safetensors: .*$1" sample --model "$m" --outdir "$work/new" --seeds 0
}
config() { # PATTERN SED: the config edited
    rewrite "$m" "$model" "$2"
    denoise 3 "m.safetensors: .*$1" "$m" "$model"
    try 3 "m.safetensors: .*$1" info "$m"
}
key() { config "$1" "s/\\\\\"$1\\\\\": *[^,}]*/\\\\\"$1\\\\\": $2/"; } # KEY VALUE
rewrite "$m" "$model" 's/model.map_layer0.weight"/model.map_layerX.weight"/'
bad_model 'model.map_layer0.weight is missing'
rewrite "$m" "$model" 's/model.map_layer0.weight"/X"/; s/model.enc.8x8_conv.bias"/Y"/'
bad_model 'model.map_layer0.weight is missing, model.enc.8x8_conv.bias is missing'
rewrite "$m" "$model" 's/\("model.map_layer0.bias": *{"dtype": *"\)F32/\1I32/'
bad_model 'model.map_layer0.bias is I32'
rewrite "$m" "$model" 's/\("model.map_layer0.bias": *{"dtype": *"F32", *"shape": *\[\)/\11,/'
bad_model 'model.map_layer0.bias is F32\[1,8\] instead of F32\[8\]'
for value in "$nan" "$inf"; do
    cp "$model" "$m"
    poke "$m" model.map_layer0.bias 3 "$value"
    bad_model 'model.map_layer0.bias holds 1 values'
done
rewrite "$m" "$model" 's/"config"/"confug"/'
denoise 3 'm.safetensors: not a model file' "$m" "$model"
config 'class_name' 's/\\"class_name\\"/\\"klass_name\\"/'
config 'NonsensePrecond' 's/FDM_VPPrecond/NonsensePrecond/'
config 'not valid JSON' 's/{\\"class_name/{{\\"class_name/'
for value in 0 -4 1000000000 1e30 4.5 NaN null,null '\\"4\\"' '[4]' 3 '{}'; do
    name='model_channels|config is not valid JSON'
    config "$name" "s/\\\\\"model_channels\\\\\": *4/\\\\\"model_channels\\\\\": $value/"
done
key img_resolution 9
key img_resolution 0
key img_resolution 1000000000
key img_channels 0
key label_dim -1
key channel_mult_emb 0
key num_blocks 0
key num_blocks 100000
config 'not valid JSON' 's/\(\\"fdm_multiplier\\": *\)[0-9.]*/\11e999/'
key fdm_multiplier '\\"2\\"'
config channel_mult 's/\(\\"channel_mult\\": *\)\[[^]]*\]/\1[]/'
config channel_mult 's/\(\\"channel_mult\\": *\)\[[^]]*\]/\1[1,0]/'
config 'not divisible' 's/\(\\"channel_mult\\": *\)\[[^]]*\]/\1[1,1,1,1,1]/'
config 'model_channels|channels' 's/\(\\"channel_mult\\": *\)\[[^]]*\]/\1[60000,60000]/'
config resample_filter 's/\\"dropout/\\"resample_filter\\":[1,-1],\\"dropout/'
config encoder_type 's/\\"dropout/\\"encoder_type\\":\\"skippy\\",\\"dropout/'
config dropout 's/\(\\"dropout\\": *\)[0-9.]*/\12/'
cp "$model" "$m"
poke "$m" model.map_layer0.bias 0 '\xff\xff\x7f\x7f'
poke "$m" model.map_layer1.bias 0 '\xff\xff\x7f\x7f'
try 3 'm.safetensors: the output at sigma 80 is' sample --model "$m" --outdir "$work" --seeds 0-3

# ---- Inputs --------------------------------------------------------------------------------------------------------
i=$tmp/i.safetensors
for value in "$nan" "$inf"; do
    for tensor in x sigma class_labels; do
        cp "$model" "$i"
        poke "$i" $tensor 1 "$value"
        denoise 3 "i.safetensors: tensor \"$tensor\": element 1 is" "$model" "$i"
    done
done
for value in "$zero" "$minus"; do
    cp "$model" "$i"
    poke "$i" sigma 0 "$value"
    denoise 3 'i.safetensors: tensor "sigma": element 0 is .* positive' "$model" "$i"
done
for tensor in x sigma; do
    rewrite "$i" "$model" "s/\"$tensor\":/\"other\":/"
    denoise 3 "i.safetensors: tensor \"$tensor\" is missing" "$model" "$i"
done
rewrite "$i" "$model" 's/\("x": *{"dtype": *"F32", *"shape": *\[\)2, *3/\13,2/'
denoise 3 'i.safetensors: tensor "x" has shape \[3,2,8,8\]; it must be \[N,3,8,8\]' "$model" "$i"
rewrite "$i" "$model" 's/\("sigma": *{"dtype": *"F32", *"shape": *\[\)2/\11,2/'
denoise 3 'i.safetensors: tensor "sigma" has shape \[1,2\]' "$model" "$i"
safetensors "$i" "{$(f32 x [0,3,8,8] 0,0),$(f32 sigma [1] 0,4)}" 4
denoise 3 'tensor "x" has shape \[0,3,8,8\]' "$model" "$i"
safetensors "$i" "{\"x\":{\"dtype\":\"F16\",\"shape\":[1,3,8,8],\"data_offsets\":[0,384]},$(f32 sigma [1] 384,388)}" 388
denoise 3 'tensor "x" is F16' "$model" "$i"
denoise 3 'tensor "x" has shape' "$model" "$gray"
for shape in [1] [] [1,1,1,1]; do # all of these are one noise level for every sample
    safetensors "$i" "{$(f32 x [3,3,8,8] 0,2304),$(f32 sigma "$shape" 2304,2308)}" 2308
    poke "$i" sigma 0 "$one"
    denoise 0 '' "$model" "$i"
done

l=$tmp/l.safetensors
header="{$(f32 latents [2,3,8,8] 0,1536),$(f32 noise [3,2,3,8,8] 1536,6144),$(f32 class_labels [2,3] 6144,6168)}"
safetensors "$l" "$header" 6168
latents 0 '' "$l" --S_churn 5
for tensor in latents noise class_labels; do
    safetensors "$l" "$header" 6168
    poke "$l" $tensor 4 "$nan"
    latents 3 "l.safetensors: tensor \"$tensor\": element 4 is" "$l"
done
safetensors "$l" "${header/noise/noize}" 6168
latents 0 '' "$l"
latents 3 'tensor "noise" is missing; it must be \[3,2,3,8,8\]' "$l" --S_churn 5
safetensors "$l" "$header" 6168
try 3 'tensor "noise" has shape \[3,2,3,8,8\]; it must be \[4,' sample --model "$model" --latents "$l" --steps 4 --grid "$work/g.png"
latents 3 'tensor "latents" is missing' "$model"
latents 2 'exclude each other' "$l" --seeds 0-3

# ---- Options -------------------------------------------------------------------------------------------------------
for option in '--steps 1' '--steps 0' '--steps -5' '--steps 99999999999' '--steps 1.5' '--steps x' '--seeds 5-3' \
    '--seeds -1' '--seeds 1,,2' '--seeds 0-99999999999' '--seeds x' '--batch 0' '--batch -1' '--rho 0' '--rho nan' '--rho -7' \
    '--sigma_min 0' '--sigma_min -1' '--sigma_max nan' '--sigma-max 0.001' '--S_churn -1' '--S_churn inf' '--S_noise x' \
    '--class -1' '--class 3' '--class 99999999' '--solver rk4' '--solver' '--rng mt' '--threads 0' '--isa mmx' \
    '--backend cuda' '--stepz 5' '--grid' 'argument'; do
    [[ $option == --s?e* || $option == --batch* ]] || option="$option --batch 2"
    # shellcheck disable=SC2086
    try 2 "${option%% *}|too many|sigma_max" sample --model "$model" --outdir "$work" $option
done
try 2 '--subdirs takes no value' sample --model "$model" --outdir "$work" --subdirs=1
try 2 '--S_noise x: wants a number' sample --model "$model" --outdir "$work" --S-noise x # either spelling
try 2 '--model is required' sample --outdir "$work"
try 2 'nothing to write' sample --model "$model"
try 2 'several tensors do not fit one .npy' sample --model "$model" --save-tensors "$work/x.npy"
try 2 'several tensors do not fit one .npy' denoise --model "$model" --in "$model" --out "$work/x.npy"
try 2 'd.txt: unknown kind' denoise --model "$model" --in "$model" --out "$work/d.txt"
try 2 '--in and --out are required' denoise --model "$model"
try 2 '--class 0: the model has 0 classes' sample --model "$gray" --outdir "$work" --class 0

# ---- Outputs -------------------------------------------------------------------------------------------------------
for path in "$tmp/nowhere/x.npz" /proc/x.npz "$(b directory)"; do
    try 4 "${path##*/}: cannot write" denoise --model "$model" --in "$model" --out "$path"
done
sample 4 'nowhere/g.png: cannot write' --grid "$tmp/nowhere/g.png"
sample 4 'nowhere/x.npz: cannot write' --save-tensors "$tmp/nowhere/x.npz"
try 4 'i.safetensors: cannot make the folder' sample --model "$model" --outdir "$i" --seeds 0
try 4 '/proc/x: cannot make the folder' sample --model "$model" --outdir /proc/x --seeds 0
ln -s /dev/full "$tmp/full.npz"
try 4 'full.npz: cannot write' denoise --model "$model" --in "$model" --out "$tmp/full.npz"
try 4 'full.npz: cannot write' sample --model "$model" --save-tensors "$tmp/full.npz"
if [ -e /dev/full ]; then
    "$fdm" info "$model" >/dev/full 2>"$tmp/err"
    verdict "info on a full disk is exit code 4" test $? = 4 -a "$(wc -l <"$tmp/err")" = 1
fi
chmod 555 "$work"
if touch "$work/probe" 2>/dev/null; then
    rm -f "$work/probe"
    skip "this user may write to read-only folders"
else
    sample 4 'cannot write here'
fi
chmod 755 "$work"
program=$fdm
limited() ( # a full disk, so to speak; a program that does not expect it is killed
    ulimit -f 8
    exec "$program" "$@"
)
fdm=limited
try 4 't.safetensors: cannot' denoise --model "$model" --in "$model" --out "$work/t.safetensors" --trace
fdm=$program
try 0 '' sample --model "$model" --outdir "$work/a/b//c" --seeds 0 --steps 2 # made with all folders above it

# ---- Signals -------------------------------------------------------------------------------------------------------
stop() { # SIGNAL ARGUMENT...: asked to stop while at work
    local signal=$1 code seconds
    shift
    for seconds in 0.5 3 10; do # on a starved machine the program may not have come to listen yet: later, then
        timeout --preserve-status -k 60 -s "$signal" "$seconds" "$fdm" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
        code=$?
        [ -s "$tmp/err" ] && break
    done
    verdict "SIG$signal ends fdm $1 with 130" test "$code" = 130
    verdict "in one line" grep -qx "fdm $1: interrupted" "$tmp/err"
    verdict "and leaves nothing half-written" test -z "$(find "$work" ! -type d)"
}
# Far more than half a second of work: the first picture would come after hours.
stop INT sample --model "$model" --outdir "$work/out" --seeds 0-63 --steps 300000 --grid "$work/g.png"
stop TERM sample --model "$model" --outdir "$work/out" --seeds 0-63 --steps 300000 -q --solver dpm
safetensors "$i" "{$(f32 x [20000,3,8,8] 0,15360000),$(f32 sigma [1] 15360000,15360004)}" 15360004
poke "$i" sigma 0 "$one"
# Inside one network call, of more than ten seconds on one thread.
stop INT denoise --model "$model" --in "$i" --out "$work/d.safetensors" --backend reference --threads 1
finish
