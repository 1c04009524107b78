#!/usr/bin/env bash
# `fdm dataset`: every kind of source, tiny ones made here in the published formats; bad sources; what it leaves behind.
. "$(dirname "$0")/house/lib.sh"
LC_ALL=C # ${#text} counts bytes

# good NAME PATTERN ARGUMENT...: exit code 0, the last line of stdout matches
good() {
    local pattern=$1 shown
    shift
    shown=${*//$tmp\//}
    if ! "$fdm" dataset "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; then
        fail "fdm dataset $shown: $(head -c 300 "$tmp/err")"
    elif ! grep -qE -- "$pattern" "$tmp/out"; then
        fail "fdm dataset $shown: stdout does not match $pattern: $(head -c 300 "$tmp/out")"
    else
        ok "fdm dataset $shown"
    fi
}
bad() { try "$1" "$2" dataset "${@:3}"; }
same() { verdict "$1" cmp "$2" "$3"; }
holds() { verdict "${1##*/} holds $2" grep -qaF -- "$2" "$1"; }
lacks() { verdict "${1##*/} does not hold $2" bash -c '! grep -qaF -- "$2" "$1"' _ "$1" "$2"; }

# ---- CIFAR-10: the same ten images as binary and as Python version -------------------------------------------------
byte() { printf "\\x$(printf %02x "$1")"; }
# planes SEED: 3072 bytes
planes() {
    local i out=
    for ((i = 0; i < 64; i++)); do out+=$(printf '\\x%02x' $((($1 * 41 + i * i) % 256))); done
    for ((i = 0; i < 48; i++)); do printf "$out"; done
}
le32() { byte $(($1 & 255)) && byte $(($1 >> 8 & 255)) && byte $(($1 >> 16 & 255)) && byte $(($1 >> 24 & 255)); }
# pickle DATA-FILE N LABEL...: as Python 2 writes a batch
pickle() {
    local data=$1 n=$2 label
    printf '\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05('
    for label in "${@:3}"; do printf K && byte "$label"; done
    printf 'eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K'
    byte "$n"
    printf 'M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'
    le32 $((n * 3072))
    cat "$data"
    printf 'tbU\x09filenamesq\x0c]q\x0d(U\x05x.pngq\x0eh\x0eeu.'
}
bins=$tmp/cifar-10-batches-bin py=$tmp/cifar-10-batches-py
mkdir "$bins" "$py"
for n in 1 2 3 4 5; do
    a=$((n * 3 % 10)) b=$((n * 7 % 10))
    planes "$n" >"$tmp/a"
    planes $((n + 50)) >"$tmp/b"
    cat "$tmp/a" "$tmp/b" >"$tmp/ab"
    { byte $a && cat "$tmp/a" && byte $b && cat "$tmp/b"; } >"$bins/data_batch_$n.bin"
    pickle "$tmp/ab" 2 $a $b >"$py/data_batch_$n"
done
echo readme >"$bins/readme.html"
tar -C "$tmp" -czf "$tmp/cifar-10-binary.tar.gz" cifar-10-batches-bin
tar -C "$tmp" -czf "$tmp/cifar-10-python.tar.gz" cifar-10-batches-py
good '^.*/bin.zip: 10 images, 32 x 32, RGB, 10 classes$' "$tmp/cifar-10-binary.tar.gz" "$tmp/bin.zip"
good '10 images, 32 x 32, RGB, 10 classes$' "$tmp/cifar-10-python.tar.gz" "$tmp/py.zip"
good '10 images' "$bins" "$tmp/folder.zip"
good '10 images' "$py" "$tmp/pyfolder.zip"
same "binary and Python version" "$tmp/bin.zip" "$tmp/py.zip"
same "archive and folder" "$tmp/bin.zip" "$tmp/folder.zip"
same "archive and folder, Python version" "$tmp/bin.zip" "$tmp/pyfolder.zip"
holds "$tmp/bin.zip" '["00000/img00000000.png", 3]'
holds "$tmp/bin.zip" '["00000/img00000009.png", 5]'
holds "$tmp/bin.zip" '"classes": ["airplane", "automobile", "bird"'
good '2 images' "$bins/data_batch_4.bin" "$tmp/one.zip"
holds "$tmp/one.zip" '["00000/img00000000.png", 2]'
good '10 images' "$tmp/bin.zip" "$tmp/again.zip"
lacks "$tmp/again.zip" airplane
good '10 images' "$tmp/again.zip" "$tmp/again2.zip"
same "a data set of a data set" "$tmp/again.zip" "$tmp/again2.zip"
cp "$tmp/again.zip" "$tmp/itself.zip"
good '10 images' "$tmp/itself.zip" "$tmp/itself.zip"
same "a data set onto itself" "$tmp/again.zip" "$tmp/itself.zip"

{ cat "$bins/data_batch_1.bin" && printf x; } >"$tmp/odd.bin"
bad 3 'odd.bin: 6147 bytes are no whole number of CIFAR-10 records' "$tmp/odd.bin" "$work/x.zip"
{ byte 10 && planes 1; } >"$tmp/class10.bin"
bad 3 'class10.bin: class 10 of image 0; CIFAR-10 has classes 0 to 9' "$tmp/class10.bin" "$work/x.zip"
: >"$tmp/empty.bin"
bad 3 'empty.bin: 0 bytes' "$tmp/empty.bin" "$work/x.zip"
rm "$py/data_batch_3"
bad 3 'no data_batch_3' "$py" "$work/x.zip"
tar -C "$tmp" -czf "$tmp/four.tar.gz" cifar-10-batches-py
bad 3 'four.tar.gz: no data_batch_3 in it' "$tmp/four.tar.gz" "$work/x.zip"
printf '\x80\x02cos\nsystem\nU\x10touch '"$work"'/pwned\x85R.' >"$py/data_batch_3"
bad 3 'data_batch_3: ' "$py" "$work/x.zip"
pickle "$tmp/ab" 2 3 11 >"$py/data_batch_3"
bad 3 'data_batch_3: label of image 1' "$py" "$work/x.zip"
pickle "$tmp/ab" 2 3 >"$py/data_batch_3"
bad 3 'data_batch_3: no "labels" for its 2 images' "$py" "$work/x.zip"
pickle "$tmp/a" 2 3 4 >"$py/data_batch_3"
bad 3 'data_batch_3: ' "$py" "$work/x.zip"
head -c 300 "$tmp/cifar-10-python.tar.gz" >"$tmp/cut.tar.gz"
bad 3 'cut.tar.gz: damaged or truncated gzip data' "$tmp/cut.tar.gz" "$work/x.zip"
head -c 5000 /dev/zero | tr '\0' x | gzip >"$tmp/notar.tar.gz"
bad 3 'notar.tar.gz: no tar header' "$tmp/notar.tar.gz" "$work/x.zip"
head -c 600000000 /dev/zero | gzip -1 >"$tmp/bomb.tar.gz"
bad 3 'bomb.tar.gz: unpacks to more than' "$tmp/bomb.tar.gz" "$work/x.zip"

# ---- MNIST ---------------------------------------------------------------------------------------------------------
mnist=$tmp/mnist
mkdir "$mnist"
{ printf '\0\0\x08\x03\0\0\0\x03\0\0\0\x1c\0\0\0\x1c' && planes 9 | head -c 2352; } >"$mnist/train-images-idx3-ubyte"
printf '\0\0\x08\x01\0\0\0\x03\x07\x00\x09' >"$mnist/train-labels-idx1-ubyte"
good '3 images, 32 x 32, gray, 10 classes$' "$mnist/train-images-idx3-ubyte" "$tmp/mnist.zip"
good '3 images, 28 x 28, gray' "$mnist/train-images-idx3-ubyte" "$tmp/mnist28.zip" --resolution 28x28
good '3 images, 32 x 32, gray' "$mnist/train-images-idx3-ubyte" "$tmp/mnist32.zip" --resolution 32x32
good '3 images, 32 x 32, RGB' "$mnist/train-images-idx3-ubyte" "$tmp/mnistrgb.zip" --channels 3
same "MNIST becomes 32x32" "$tmp/mnist.zip" "$tmp/mnist32.zip"
holds "$tmp/mnist.zip" '["00000/img00000002.png", 9]'
gzip -k "$mnist"/*
good '3 images' "$mnist/train-images-idx3-ubyte.gz" "$tmp/mnistgz.zip"
same "MNIST, gzip" "$tmp/mnist.zip" "$tmp/mnistgz.zip"
good '1 images, 32 x 32, gray, 1 classes' "$mnist/train-images-idx3-ubyte" "$tmp/nine.zip" --classes 9
printf '\0\0\x08\x01\0\0\0\x03\x07\x00' >"$mnist/train-labels-idx1-ubyte"
bad 3 '3 images, but 2 labels' "$mnist/train-images-idx3-ubyte" "$work/x.zip"
printf '\0\0\x08\x01\0\0\0\x03\x07\x00\x0a' >"$mnist/train-labels-idx1-ubyte"
bad 3 'label 10 of image 2' "$mnist/train-images-idx3-ubyte" "$work/x.zip"
rm "$mnist/train-labels-idx1-ubyte"
bad 3 'train-labels-idx1-ubyte: cannot open' "$mnist/train-images-idx3-ubyte" "$work/x.zip"

# ---- Folders: classes, sizes, channels -----------------------------------------------------------------------------
f=$tmp/photos
mkdir -p "$f/cats" "$f/dogs/deep"
cp tests/corpus/jpeg/baseline.jpg "$f/cats/1.jpg"
cp tests/corpus/jpeg/progressive.jpg "$f/dogs/2.JPEG"
cp tests/corpus/jpeg/restart.jpg "$f/dogs/deep/3.jpg"
bad 3 'photos: entry "dogs/deep/3.jpg": 32 x 32 pixels, but .*"cats/1.jpg" has 16 x 16; give --resolution' "$f" "$work/x.zip"
good '3 images, 24 x 24, RGB, 2 classes' "$f" "$tmp/f.zip" --resolution 24x24
holds "$tmp/f.zip" '["00000/img00000000.png", 0]'
holds "$tmp/f.zip" '["00000/img00000002.png", 1]'
holds "$tmp/f.zip" '"classes": ["cats", "dogs"]'
good '2 images, 16 x 16, RGB, 2 classes' "$f" "$tmp/f2.zip" --max-images 2
good '2 images, 8 x 8, RGB, 1 classes' "$f" "$tmp/f1.zip" --classes 1 --resolution 8x8
holds "$tmp/f1.zip" '["00000/img00000000.png", 0]'
holds "$tmp/f1.zip" '"classes": ["dogs"]'
good '3 images, 8 x 8' "$f" "$tmp/swapped.zip" --classes 1,0 --resolution 8x8
holds "$tmp/swapped.zip" '"classes": ["dogs", "cats"]'
holds "$tmp/swapped.zip" '["00000/img00000000.png", 1]'
bad 2 '--classes: 2, but .* has classes 0 to 1' "$f" "$work/x.zip" --classes 2
bad 2 '--classes: 1 occurs twice' "$f" "$work/x.zip" --classes 1,1
cp tests/corpus/jpeg/odd.jpg "$f/top.jpg"
good '4 images, 16 x 16, RGB, no labels' "$f" "$tmp/none.zip" --resolution 16x16 --transform center-crop
holds "$tmp/none.zip" '{"labels": null}'
bad 3 'has no classes to choose from' "$f" "$work/x.zip" --resolution 16x16 --classes 0
cp tests/corpus/jpeg/gray.jpg "$f/zebra.jpg"
bad 3 'entry "zebra.jpg": is gray, but .* is coloured; give --channels 3' "$f" "$work/x.zip" --resolution 16x16
good '5 images, 16 x 16, RGB' "$f" "$tmp/rgb.zip" --resolution 16x16 --channels 3
good '5 images, 16 x 16, gray' "$f" "$tmp/gray.zip" --resolution 16x16 --channels 1
good '5 images, 16 x 16' "$f" "$tmp/wide.zip" --resolution 16x8 --transform center-crop-wide --channels 3
bad 2 'networks take squares' "$f" "$work/x.zip" --resolution 16x8
bad 2 'WIDTH >= HEIGHT' "$f" "$work/x.zip" --resolution 8x16 --transform center-crop-wide
bad 2 'needs --resolution' "$f" "$work/x.zip" --transform center-crop
bad 2 '--channels 2' "$f" "$work/x.zip" --channels 2
bad 2 'name it \*.zip' "$f" "$work/x.tar"
bad 2 'wants SRC DST.zip' "$f"
echo '{"labels": [["cats/1.jpg", 4]]}' >"$f/dataset.json"
bad 3 'photos: dataset.json: no label for "dogs/2.JPEG"' "$f" "$work/x.zip"
echo '{"labels": null}' >"$f/dataset.json"
rm "$f/zebra.jpg" "$f/top.jpg"
good '3 images, 9 x 9, RGB, no labels' "$f" "$tmp/null.zip" --resolution 9x9
echo '{"labels": [["cats/1.jpg", [0.5, 1]], ["dogs/2.JPEG", [1e-3, 2]], ["dogs/deep/3.jpg", [3, 4]]]}' >"$f/dataset.json"
good 'labels of 2 numbers' "$f" "$tmp/vectors.zip" --resolution 8x8
holds "$tmp/vectors.zip" '["00000/img00000001.png", [0.00100000005, 2]]'
rm "$f/dataset.json"
head -c 400 "$f/cats/1.jpg" >"$f/dogs/cut.jpg"
bad 3 'entry "dogs/cut.jpg": .*truncated' "$f" "$work/x.zip" --resolution 8x8
echo hello >"$f/dogs/cut.jpg"
bad 3 'entry "dogs/cut.jpg": no PNG signature' "$f" "$work/x.zip" --resolution 8x8
rm "$f/dogs/cut.jpg"
ln -s .. "$f/dogs/up"
bad 3 'entry "dogs/up": a link to a folder' "$f" "$work/x.zip" --resolution 8x8
rm "$f/dogs/up"
mkdir "$tmp/nothing"
bad 3 'nothing: holds no images' "$tmp/nothing" "$work/x.zip"
bad 3 'nowhere.zip: cannot open' "$tmp/nowhere.zip" "$work/x.zip"
bad 4 'x.zip: cannot write: No such file or directory; create its directory first' "$f" "$work/new/x.zip" --resolution 8x8
transparent=$tmp/transparent
mkdir "$transparent"
cp tests/corpus/png/rgba8.png "$transparent"
good '1 images, 8 x 8, RGB, no labels' "$transparent" "$tmp/transparent.zip" --resolution 8x8

# ---- Bytes and resolution of the shipped set -----------------------------------------------------------------------
good '99 images, 16 x 16, RGB, 1 classes' data/emoji32.zip "$tmp/faces.zip" --resolution 16x16 --classes 0
good '99 images' data/emoji32.zip "$tmp/faces2.zip" --resolution 16x16 --classes 0 --threads 1
same "the same bytes every time" "$tmp/faces.zip" "$tmp/faces2.zip"
verdict "data/emoji32.zip is what data/README.md says" grep -q "$(sha256sum data/emoji32.zip | cut -d' ' -f1)" data/README.md
verdict "data/emoji32.zip is below 5 MB" test "$(wc -c <data/emoji32.zip)" -lt 5000000

# Interrupted: exit code 130, nothing left.
"$fdm" dataset data/emoji32.zip "$work/x.zip" --resolution 1024x1024 >/dev/null 2>"$tmp/err" &
pid=$!
sleep 0.3
kill -TERM $pid 2>/dev/null
wait $pid
code=$?
if [ "$code" = 130 ] && [ -z "$(find "$work" ! -type d)" ]; then ok "an interrupted run leaves nothing (130)"; else
    fail "an interrupted run: exit code $code, left $(find "$work" ! -type d)"
fi
finish
