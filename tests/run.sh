#!/usr/bin/env bash
# Runs the tests of a build and says, on the last line, "N passed, N failed, N skipped".
#   tests/run.sh BUILD [NAME...]     NAME: test_unet, cli, symbols; default: everything
# A unit-test program (BUILD/tests/test_*) counts by Check's summary line; a shell test (tests/test_*.sh and
# tests/house/*.sh) by its lines "ok ...", "FAIL ...", "SKIP: ...".  A program that dies, or says nothing, failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
shift || true
only=("$@")
export FDM_BUILD=$build CK_DEFAULT_TIMEOUT=${CK_DEFAULT_TIMEOUT:-600}
# Idle OpenMP threads that spin take the cores from the busy ones where a machine is shared.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} KMP_BLOCKTIME=${KMP_BLOCKTIME:-1}
export LSAN_OPTIONS=${LSAN_OPTIONS:-print_suppressions=0}
limit=${FDM_TEST_LIMIT:-1200} # seconds for one program: hangs end, slow machines do not
passed=0 failed=0 skipped=0
bad=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

wanted() {
    local name=$1 o
    [ ${#only[@]} -gt 0 ] || return 0
    for o in "${only[@]}"; do
        [ "$o" = "$name" ] || [ "test_$o" = "$name" ] && return 0
    done
    return 1
}

run() { # NAME COMMAND...: output to the screen and to $log, its status returned
    local name=$1 start=$SECONDS code
    shift
    echo "== $name"
    timeout -k 10 "$limit" "$@" 2>&1 | tee "$log" | if [ -n "${V:-}" ]; then cat; else grep -v '^ok '; fi
    code=${PIPESTATUS[0]}
    [ "$code" = 124 ] && echo "$name: still running after $limit s, ended"
    echo "   ($((SECONDS - start)) s)"
    return "$code"
}

count() { # PASSED FAILED SKIPPED CODE NAME
    local p=$1 f=$2 s=$3 code=$4 name=$5
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then
        echo "$name: exit code $code"
        f=1
    elif [ $((p + f + s)) = 0 ]; then
        echo "$name: no result"
        f=1
    fi
    [ "$f" = 0 ] || bad+=("$name")
    echo "   $p passed, $f failed, $s skipped"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for program in "$build"/tests/test_*; do
    name=${program##*/}
    case $name in *.o | *.d | 'test_*') continue ;; esac
    [ -f "tests/$name.c" ] && wanted "$name" || continue # not a program whose source is gone
    run "$name" "$program"
    code=$?
    # A check that printed SKIP ran to its end, so Check counts it as passed: move it to the skipped.
    read -r p f s < <(awk '
        match($0, /[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/) {
            split(substr($0, RSTART, RLENGTH), n, /[^0-9]+/); checks += n[2]; bad += n[3] + n[4] }
        /^SKIP: / { skips++ }
        END { good = checks - bad; s = skips < good ? skips : good; print good - s, bad + 0, s + 0 }' "$log")
    count "$p" "$f" "$s" "$code" "$name"
done

for script in tests/test_*.sh tests/house/test_*.sh; do
    name=${script##*/}
    name=${name%.sh}
    [ -f "$script" ] && wanted "$name" || continue
    run "$name" bash "$script"
    code=$?
    count "$(grep -c '^ok ' "$log")" "$(grep -c '^FAIL ' "$log")" "$(grep -c '^SKIP: ' "$log")" "$code" "$name"
done

echo
[ ${#bad[@]} = 0 ] || echo "failed: ${bad[*]}"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
