#!/usr/bin/env bash
# make install into an empty folder; a small program finds headers and library there through pkg-config.
. "$(dirname "$0")/lib.sh"
if [ -n "${SANITIZE:-}" ]; then
    skip "install: not for a sanitizer build"
    exit 0
fi
make=${MAKE:-make} cc=${CC:-gcc}
quiet_make() { "$make" --no-print-directory FDM_QUIET_CONFIG=1 BUILD="$build" CC="$cc" "$@"; }

verdict "make install PREFIX" quiet_make install PREFIX="$tmp/usr"
verdict "make install DESTDIR" quiet_make install PREFIX=/opt/fdm DESTDIR="$tmp/staged"
mkdir -p "$tmp/usr" "$tmp/staged/opt/fdm"
(cd "$tmp/usr" && find . | sort) >"$tmp/list1"
(cd "$tmp/staged/opt/fdm" && find . | sort) >"$tmp/list2"
verdict "both hold the same files" bash -c "diff $tmp/list1 $tmp/list2 && grep -q libfdm.so $tmp/list1"
verdict "the staged fdm.pc names the final place" grep -q '^prefix=/opt/fdm$' "$tmp/staged/opt/fdm/lib/pkgconfig/fdm.pc"
verdict "every public header is installed" diff <(cd include && find . -name '*.h' | sort) \
    <(cd "$tmp/usr/include" && find . -name '*.h' | sort)

cat >"$tmp/user.c" <<'C'
#include <fdm.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    fdm_tensors set = {0};
    fdm_error err = {0};
    const int64_t shape[] = {2, 3};
    fdm_tensor *t;
    if (strcmp(fdm_version(), FDM_VERSION) != 0) return 1;
    if (fdm_tensors_add(&set, "x", FDM_F32, 2, shape, &t, &err) != FDM_OK) return 2;
    printf("%s holds %d numbers\n", t->name, (int)fdm_tensor_numel(t));
    fdm_tensors_free(&set);
    return 0;
}
C
export PKG_CONFIG_PATH=$tmp/usr/lib/pkgconfig
verdict "pkg-config knows the version" test "$(pkg-config --modversion fdm)" = "$("$fdm" --version | sed -n '1s/fdm //p')"
read -ra cflags < <(pkg-config --cflags fdm)
read -ra libs < <(pkg-config --libs fdm)
read -ra static_libs < <(pkg-config --libs --static fdm)
verdict "a program builds against libfdm.so" "$cc" -std=c11 -Wall -Werror "${cflags[@]}" -o "$tmp/shared" "$tmp/user.c" \
    "${libs[@]}"
verdict "and runs" test "$(LD_LIBRARY_PATH=$tmp/usr/lib "$tmp/shared")" = "x holds 6 numbers"
verdict "and needs libfdm.so by its soname" bash -c "readelf -d $tmp/shared | grep -q 'NEEDED.*libfdm\.so\.[0-9]'"
verdict "a program builds against libfdm.a" "$cc" -std=c11 -Wall -Werror "${cflags[@]}" -o "$tmp/static" "$tmp/user.c" \
    "${static_libs[@]/#-lfdm/-l:libfdm.a}"
verdict "and runs without libfdm.so" test "$("$tmp/static")" = "x holds 6 numbers"
# The example of fdm.h is a program.
{
    printf '#include <fdm.h>\n#include <stdio.h>\nint main(void) {\n'
    sed -n 's/^ \*     / /p' include/fdm.h
    printf 'return (int)status;\n}\n'
} >"$tmp/example.c"
verdict "the example of fdm.h compiles" "$cc" -std=c11 -Wall -Wextra -Werror "${cflags[@]}" -o "$tmp/example" "$tmp/example.c" \
    "${libs[@]}"
verdict "and runs" bash -c "LD_LIBRARY_PATH=$tmp/usr/lib $tmp/example | grep -q '^D(0; 1.5) = '"
verdict "the installed command runs" "$tmp/usr/bin/fdm" --version
verdict "make uninstall" quiet_make uninstall PREFIX="$tmp/usr"
verdict "leaves no file behind" test -z "$(find "$tmp/usr" ! -type d)"
finish
