#!/usr/bin/env bash
# Every public header compiles alone, as C11 and as C++, and the umbrella includes them all.
. "$(dirname "$0")/lib.sh"
cc=${CC:-gcc}
cxx=g++
case $cc in *clang*) cxx=${cc/clang/clang++} ;; esac
command -v "$cxx" >/dev/null || cxx=

for header in include/fdm.h include/fdm/*.h; do
    name=${header#include/}
    echo "#include <$name>" >"$tmp/alone.c"
    verdict "$name as C11" "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$tmp/alone.c"
    if [ -n "$cxx" ]; then
        verdict "$name as C++" "$cxx" -x c++ -std=c++11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$tmp/alone.c"
    fi
    [ "$name" != fdm.h ] || continue
    verdict "fdm.h includes $name" grep -qxF "#include \"$name\"" include/fdm.h
    verdict "$name is usable from C++" grep -q 'extern "C"' "$header"
done
[ -n "$cxx" ] || skip "headers as C++: no C++ compiler here"

# The check can fail: a header that needs another one first.
echo 'fdm_status fdm_needs_another_header(void);' >"$tmp/needy.h"
echo '#include "needy.h"' >"$tmp/alone.c"
if "$cc" -std=c11 -Iinclude -fsyntax-only "$tmp/alone.c" 2>/dev/null; then fail "a planted needy header"; else
    ok "a planted needy header is caught"
fi
finish
