#!/usr/bin/env bash
# The shop as a user's program: hark is installed into a scratch directory, the shop's folder is copied
# out of the project and built by its Makefile through pkg-config, and the HTTP test runs against it.
#
#   installed.sh ROOT BUILD
set -euo pipefail
root=$1 build=$2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}

DESTDIR=$scratch/root meson install -C "$build" --no-rebuild --quiet
pc=$(find "$scratch/root" -name hark.pc)
[ -n "$pc" ] || fail "nothing named hark.pc was installed"
lib=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$scratch/root LD_LIBRARY_PATH=$lib

cp -r "$root/examples/shop" "$scratch/shop"
make -s -C "$scratch/shop" CFLAGS="-O1 -Wall -Wextra -Werror"
ldd "$scratch/shop/shop" | grep -q "libhark.*$scratch" || fail "it is linked with another hark"
exec_in() { (cd "$scratch" && "$@"); }
exec_in python3 "$root/tests/integration/shop_http.py" "$scratch/shop/shop" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; fail "the shop that the Makefile built"; }
echo "installed, built with pkg-config, and $(grep -c . "$scratch/log") lines of shop_http are well"
