#!/bin/sh
# `make install` into an empty place: the files are there, the SONAME is right, and a program
# builds and runs against the shared and the static library. Called by `make check-install`.
set -eu
version=$1 major=$2
root=$PWD/build/install
lib=$root/usr/lib

rm -rf "$root"
"$MAKE" --no-print-directory install DESTDIR="$root" PREFIX=/usr >/dev/null

for f in usr/include/gotimer.h usr/lib/libgotimer.a usr/lib/libgotimer.so.$version usr/lib/pkgconfig/gotimer.pc; do
    [ -f "$root/$f" ] || { echo "install: $f is missing" >&2; exit 1; }
done
soname=$(objdump -p "$lib/libgotimer.so.$version" | sed -n 's/^ *SONAME *//p')
[ "$soname" = "libgotimer.so.$major" ] || {
    echo "install: SONAME is '$soname', not libgotimer.so.$major" >&2
    exit 1
}
for link in libgotimer.so libgotimer.so.$major; do
    [ "$(readlink -f "$lib/$link")" = "$(readlink -f "$lib/libgotimer.so.$version")" ] || {
        echo "install: $link does not lead to libgotimer.so.$version" >&2
        exit 1
    }
done
grep -q "^Version: $version\$" "$lib/pkgconfig/gotimer.pc" || { echo "install: wrong version in gotimer.pc" >&2; exit 1; }

$CC -I"$root/usr/include" examples/hello.c -o "$root/shared" -L"$lib" -lgotimer -Wl,-rpath,"$lib"
"$root/shared" >/dev/null
# The library's own list of what it needs is the pc file's Libs.private.
$CC -I"$root/usr/include" examples/hello.c -o "$root/static" "$lib/libgotimer.a" $STATIC_LIBS
"$root/static" >/dev/null
# As a language's FFI loads it.
$CC -pthread -I"$root/usr/include" ctests/ffi/dlopen.c -o "$root/late" -ldl
"$root/late" "$lib/libgotimer.so.$version"
echo "install: header, libgotimer.so.$version, symlinks, libgotimer.a and gotimer.pc are right; both ways of linking work"
