#!/usr/bin/env bash
# What the library exports and what it asks of the system.
. "$(dirname "$0")/lib.sh"
if [ -n "${SANITIZE:-}" ]; then
    skip "symbols: a sanitizer build has others"
    exit 0
fi

# Exported symbols carry the prefix.
foreign_symbols() { nm -D --defined-only "$1" | awk '$2 ~ /[A-Z]/ && $3 !~ /^fdm_/ { print $3 }'; }
foreign_symbols "$build/libfdm.so" >"$tmp/foreign"
verdict "libfdm.so exports only fdm_ symbols" bash -c "cat $tmp/foreign; ! grep -q . $tmp/foreign"
# In the static library the prefix is all that keeps names apart.
nm --defined-only "$build/libfdm.a" | awk 'NF == 3 && $2 ~ /[A-Z]/ && $3 !~ /^fdm_/ { print $3 }' >"$tmp/foreign"
verdict "libfdm.a defines only fdm_ symbols" bash -c "cat $tmp/foreign; ! grep -q . $tmp/foreign"
# Every FDM_API declaration is there, and the other way round.
cat include/fdm/*.h | tr '\n' ' ' | grep -oE 'FDM_API [^;{]*\(' | grep -oE 'fdm_[a-z0-9_]+ *\(' | tr -d ' (' |
    sort -u >"$tmp/declared"
nm -D --defined-only "$build/libfdm.so" | awk '{ print $3 }' | sort -u >"$tmp/exported"
verdict "every FDM_API function is exported, and nothing else" diff "$tmp/declared" "$tmp/exported"

# No printing, no exit: failures go back to the caller.
banned='^(_?_?exit|_Exit|quick_exit|abort|__assert_fail|printf|__printf_chk|vprintf|puts|putchar|perror|stdout|stderr|stdin|system|popen|srand|rand|gets|signal|sigaction)$'
asks_for_banned() { nm "$1" | awk '$1 == "U" { sub(/@.*/, "", $2); print $2 }' | sort -u | grep -E "$banned"; }
asks_for_banned "$build/libfdm.a" >"$tmp/banned"
verdict "libfdm.a neither prints nor exits" bash -c "cat $tmp/banned; ! grep -q . $tmp/banned"

# No writable data: a library with globals is not thread safe.
objdump -h "$build/libfdm.a" | awk '/file format/ { object = $1 }
    $2 ~ /^\.(data|bss|tbss|tdata)$/ && $3 !~ /^0+$/ { print object, $2, $3 }' >"$tmp/writable"
verdict "libfdm.a has no writable globals" bash -c "cat $tmp/writable; ! grep -q . $tmp/writable"

# The checks can fail.
cat >"$tmp/planted.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
int visible;
void not_ours(void) { printf("%d\n", visible); exit(1); }
C
"${CC:-gcc}" -fPIC -shared -o "$tmp/planted.so" "$tmp/planted.c"
"${CC:-gcc}" -fPIC -c -o "$tmp/planted.o" "$tmp/planted.c"
if [ "$(foreign_symbols "$tmp/planted.so" | grep -c -E 'not_ours|visible')" = 2 ]; then ok "a planted foreign symbol is caught"; else
    fail "a planted foreign symbol went unseen"
fi
if [ "$(asks_for_banned "$tmp/planted.o" | grep -c -E 'exit|printf')" = 2 ]; then ok "a planted exit is caught"; else
    fail "a planted exit went unseen"
fi
finish
