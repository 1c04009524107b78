#!/usr/bin/env bash
# What the README files promise is there: linked files and pictures, of modest size, and the options of the commands shown.
. "$(dirname "$0")/lib.sh"
pages=$(find . -path ./.git -prune -o -name '*.md' -print | grep -v '^./build' | sort)

# local_links PAGE: targets of [text](target) and ![text](target) outside of the web, without #anchors
local_links() { grep -oE '\]\([^) ]+\)' "$1" | sed -E 's/^\]\(//; s/\)$//; s/#.*//' | grep -vE '^(https?:|mailto:|$)'; }
# missing_links PAGE
missing_links() {
    local target
    local_links "$1" | while read -r target; do
        [ -e "$(dirname "$1")/$target" ] || echo "$1: $target is not there"
    done
}
# shown_commands PAGE: "command options..." of the indented fdm lines, continued lines joined, comments and strings away
shown_commands() {
    sed -e ':a' -e '/\\$/N; s/\\\n */ /; ta' "$1" | grep -E '^    fdm ' | sed -E "s/ #.*//; s/'[^']*'//g; s/&& fdm /\n    fdm /g" |
        sed -nE 's/^ *fdm ([a-z]+)(.*)/\1\2/p'
}
# unknown_options PAGE
unknown_options() {
    local command rest option
    shown_commands "$1" | while read -r command rest; do
        [ "$command" != help ] || continue
        [ -e "$tmp/help.$command" ] || "$fdm" help "$command" 2>"$tmp/err" | tr _ - >"$tmp/help.$command"
        [ -s "$tmp/help.$command" ] || echo "$1: there is no fdm $command"
        for option in $(grep -oE -- '--[A-Za-z][A-Za-z_-]*' <<<"$rest" | tr _ -); do
            grep -qE -- "$option( |\$)" "$tmp/help.$command" || echo "$1: fdm $command has no $option"
        done
    done
}

for page in $pages; do
    missing_links "$page"
    unknown_options "$page"
done >"$tmp/wrong"
verdict "linked files and shown options exist" bash -c "cat $tmp/wrong; ! grep -q . $tmp/wrong"
find data -name '*.png' -size +150k >"$tmp/large"
verdict "pictures have at most 150 kB" bash -c "cat $tmp/large; ! grep -q . $tmp/large"
if [ "$(shown_commands README.md | wc -l)" -ge 20 ] && [ "$(local_links README.md | wc -l)" -ge 5 ]; then ok "the README was read"; else
    fail "hardly a command or link found in README.md"
fi

# The check can fail.
printf '![picture](none.png)\n    fdm sample --model M --no_such 1 && fdm compare a b --rtol 1\n    fdm smaple\n' >"$tmp/planted.md"
{ missing_links "$tmp/planted.md" && unknown_options "$tmp/planted.md"; } >"$tmp/found"
if [ "$(grep -cE 'none.png|has no --no-such|no fdm smaple' "$tmp/found")" = 3 ] && [ "$(wc -l <"$tmp/found")" = 3 ]; then
    ok "a planted broken link, option and command are caught"
else
    cat "$tmp/found"
    fail "a planted broken link, option or command went unseen"
fi
finish
