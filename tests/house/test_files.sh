#!/usr/bin/env bash
# Shape of the source tree: file sizes, top level, nothing of the machine it was written on, golden files unchanged.
. "$(dirname "$0")/lib.sh"

# 600 lines is the aim; more is a remark, twice as many a failure.
while read -r lines file; do
    [ "$lines" -le 600 ] || echo "remark: $file has $lines lines"
    [ "$lines" -le 1200 ] || fail "$file has $lines lines"
done < <(find src simd include tests bench \( -name '*.[ch]' -o -name '*.sh' \) -exec wc -l {} + | grep -v ' total$')
ok "file sizes looked at"

known=' src simd include tests bench data Makefile README.md LICENSE .ci .clang-format .clang-tidy .gitignore .git '
for entry in * .[!.]*; do
    case $entry in build*) continue ;; esac
    [[ $known == *" $entry "* ]] || echo "$entry" >>"$tmp/strange"
done
verdict "the top level shows the architecture and nothing else" bash -c "! cat $tmp/strange 2>/dev/null"

grep -rInE '/(work|home)/[a-z]+/|/tmp/wt' --include='*' src simd include tests bench data/recipes Makefile README.md .ci 2>/dev/null |
    grep -v '^tests/house/test_files.sh:' >"$tmp/places"
verdict "no path of one machine" bash -c "cat $tmp/places; ! grep -q . $tmp/places"

for folder in tests/golden tests/golden_extra; do
    verdict "files of $folder are those of SHA256SUMS" bash -c "cd $folder && sha256sum --quiet --strict -c SHA256SUMS"
    (cd "$folder" && find . -type f ! -name SHA256SUMS ! -name '*.md' | sed 's|^\./||' | sort) >"$tmp/there"
    awk '{ print $2 }' "$folder/SHA256SUMS" | sort >"$tmp/listed"
    verdict "every file of $folder is listed" diff "$tmp/there" "$tmp/listed"
done
awk '{ print $2 }' tests/golden/SHA256SUMS >"$tmp/listed"
while read -r file; do
    grep -qF "\`$file\`" tests/golden/MANIFEST.md || fail "tests/golden/MANIFEST.md says nothing of $file"
done <"$tmp/listed"
ok "tests/golden/MANIFEST.md read"
# The check can fail.
cp tests/golden/SHA256SUMS "$tmp/sums"
first=$(awk 'NR == 1 { print $2 }' "$tmp/sums")
mkdir -p "$tmp/$(dirname "$first")"
{ cat "tests/golden/$first"; echo; } >"$tmp/$first"
if (cd "$tmp" && head -n 1 sums | sha256sum --status -c -); then fail "a changed golden went unseen"; else
    ok "a changed golden is caught"
fi
finish
