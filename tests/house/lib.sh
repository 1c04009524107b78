# lib.sh - for the shell tests: sourced, not run.  Each check prints one line that tests/run.sh counts.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${FDM_BUILD:-build}
fdm=$build/fdm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
work=$tmp/work # where the outputs of failing commands would be: must stay empty
mkdir "$work"
failures=0

ok() { echo "ok $*"; }
fail() {
    echo "FAIL $*"
    failures=$((failures + 1))
}
skip() { echo "SKIP: $*"; }
# verdict NAME COMMAND...: ok if the command succeeds; its output shows only if it fails
verdict() {
    local name=$1
    shift
    if "$@" >"$tmp/verdict.log" 2>&1; then ok "$name"; else
        head -n 20 "$tmp/verdict.log"
        fail "$name"
    fi
}
# safetensors FILE HEADER DATA: writes one; DATA as \x escapes
safetensors() {
    local n
    n=$(printf '%s' "$2" | wc -c)
    {
        printf "$(printf '\\x%02x\\x%02x' $((n % 256)) $((n / 256)))"'\0\0\0\0\0\0'
        printf '%s' "$2"
        printf "$3"
    } >"$1"
}
# try CODE PATTERN ARGUMENT...: runs fdm; exit code; for a failure one line on stderr that matches (an extended regular
# expression; plain text where try_grep=-F), and nothing left in the folder $work
try_grep=-E
try() {
    local want=$1 pattern=$2 code shown
    shift 2
    shown=${*//$tmp\//}
    "$fdm" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    if [ "$code" != "$want" ]; then
        fail "fdm $shown: exit code $code instead of $want: $(head -c 300 "$tmp/err")"
    elif [ "$want" = 0 ]; then
        ok "fdm $shown (0)"
        rm -rf "$work" && mkdir "$work"
    elif ! grep -q "$try_grep" -- "$pattern" "$tmp/err"; then
        fail "fdm $shown: stderr does not match $pattern: $(head -c 300 "$tmp/err")"
    elif [ "$(wc -l <"$tmp/err")" != 1 ]; then
        fail "fdm $shown: not one line on stderr: $(head -c 300 "$tmp/err")"
    elif [ -n "$(find "$work" ! -type d)" ]; then
        fail "fdm $shown: left $(find "$work" ! -type d)"
        rm -rf "$work" && mkdir "$work"
    else
        ok "fdm $shown ($want)"
    fi
}
finish() { [ "$failures" = 0 ]; }
