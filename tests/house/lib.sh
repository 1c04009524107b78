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
finish() { [ "$failures" = 0 ]; }
