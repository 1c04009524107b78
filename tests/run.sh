#!/usr/bin/env bash
# Runs the tests of a build and says, on the last line, "N passed, N failed, N skipped".
#   tests/run.sh BUILD [NAME...]     NAME: test_unet, cli, symbols; default: everything, but for those in FDM_TESTS_LEFT_OUT
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
# The leak checker of clang 14 crashes now and then ("Tracer caught signal 11") when it scans the thread-local storage of
# an OpenMP thread that is only starting: a bug of the sanitizer, mended in later versions.
export LSAN_OPTIONS=${LSAN_OPTIONS:-print_suppressions=0:use_tls=0:suppressions=$PWD/tests/lsan.supp}
limit=${FDM_TEST_LIMIT:-1200} # seconds for one program: hangs end, slow machines do not
passed=0 failed=0 skipped=0
bad=()
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

wanted() {
    local name=$1 o
    if [ ${#only[@]} = 0 ]; then
        [[ " ${FDM_TESTS_LEFT_OUT:-} " != *" ${name#test_} "* ]]
        return
    fi
    for o in "${only[@]}"; do
        [ "$o" = "$name" ] || [ "test_$o" = "$name" ] && return 0
    done
    return 1
}

# Programs run beside each other, one for each core; what one prints appears when it is done.
jobs=${FDM_TEST_JOBS:-$(nproc)}
declare -A running=() # process -> name
slow=" test_train test_gradient test_e2e test_hostile test_network test_backward " # first, so that none is left alone

start() { # NAME COMMAND...
    local name=$1
    shift
    while [ "${#running[@]}" -ge "$jobs" ]; do finish; done
    {
        SECONDS=0
        timeout -k 10 "$limit" "$@"
        code=$?
        [ "$code" = 124 ] && echo "$name: still running after $limit s, ended"
        echo "$code $SECONDS" >"$tmp/$name.code"
    } >"$tmp/$name.log" 2>&1 &
    running[$!]=$name
}

finish() { # waits for one program, prints and counts it
    local process name code seconds p f s
    wait -n -p process "${!running[@]}"
    name=${running[$process]}
    unset "running[$process]"
    read -r code seconds <"$tmp/$name.code"
    echo "== $name"
    if [ -n "${V:-}" ]; then cat "$tmp/$name.log"; else grep -v '^ok ' "$tmp/$name.log"; fi
    echo "   ($seconds s)"
    if [ -f "tests/$name.c" ]; then
        # A check that printed SKIP ran to its end, so Check counts it as passed: move it to the skipped.
        read -r p f s < <(awk '
            match($0, /[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/) {
                split(substr($0, RSTART, RLENGTH), n, /[^0-9]+/); checks += n[2]; bad += n[3] + n[4] }
            /^SKIP: / { skips++ }
            END { good = checks - bad; s = skips < good ? skips : good; print good - s, bad + 0, s + 0 }' "$tmp/$name.log")
    else
        p=$(grep -c '^ok ' "$tmp/$name.log") f=$(grep -c '^FAIL ' "$tmp/$name.log") s=$(grep -c '^SKIP: ' "$tmp/$name.log")
    fi
    count "$p" "$f" "$s" "$code" "$name"
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

[ -z "${FDM_TESTS_LEFT_OUT:-}" ] || [ ${#only[@]} -gt 0 ] || echo "remark: left out: $FDM_TESTS_LEFT_OUT"
for turn in slow rest; do
    for program in "$build"/tests/test_* tests/test_*.sh tests/house/test_*.sh; do
        name=${program##*/}
        name=${name%.sh}
        case $name in *.o | *.d | 'test_*') continue ;; esac
        [[ $slow == *" $name "* ]] && first=slow || first=rest
        [ "$first" = "$turn" ] && wanted "$name" || continue
        case $program in
        *.sh) start "$name" bash "$program" ;;
        *) [ ! -f "tests/$name.c" ] || start "$name" "$program" ;; # else a program whose source is gone
        esac
    done
done
while [ ${#running[@]} -gt 0 ]; do finish; done

echo
[ ${#bad[@]} = 0 ] || echo "failed: ${bad[*]}"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
