#!/usr/bin/env bash
# data/demo.sh in its quick form: every part runs, says what it should, and every picture that it names is there.
. "$(dirname "$0")/house/lib.sh"
if [ -n "${SANITIZE:-}" ]; then
    skip "the demo: not for a sanitizer build"
    exit 0
fi
bash data/demo.sh "$build" "$tmp/demo" quick >"$tmp/out" 2>"$tmp/err"
code=$?
verdict "data/demo.sh" bash -c "tail -n 3 $tmp/out $tmp/err; [ $code = 0 ]"
says() { verdict "it says: $1" grep -qE -- "$1" "$tmp/out"; }
says 'this is tf32, not a bug'
says 'pass: 2 of 2'
says '^   loss: [0-9.e+-]+ '
says '^The pictures, after [0-9]+ seconds'
named=$(grep -oE "$tmp/demo/[a-z]+\.(png|html)" "$tmp/out" | sort -u)
verdict "it names three pictures and a page" test "$(wc -l <<<"$named")" = 4
for file in $named; do
    case $file in
    *.png) verdict "${file##*/}" cmp -n 8 "$file" data/samples.png ;; # the signature
    *) verdict "${file##*/}" grep -q '</html>' "$file" ;;
    esac
done
finish
