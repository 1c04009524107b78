# lib.sh - for the shell tests: sourced, not run.  Each check prints one line that tests/run.sh counts.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${FDM_BUILD:-build}
fdm=$build/fdm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
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
finish() { [ "$failures" = 0 ]; }
