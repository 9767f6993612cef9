#!/bin/sh
# Runs the browser tests. What npm installs goes into the build directory, once for each lock file.
#
# Usage: run.sh SOURCE BUILD SHOP [PART]: this folder, a folder for what is made, the shop's program, and
# which tests (default: all).
set -eu
source=$1 build=$2 shop=$3

for tool in /usr/bin/chromium node npm; do
    if ! command -v "$tool" >/dev/null; then
        echo "no $tool: script/setup installs it"
        exit 77
    fi
done

mkdir -p "$build"
if ! cmp -s "$source/package-lock.json" "$build/installed.json"; then
    cp "$source/package.json" "$source/package-lock.json" "$build/"
    if ! (cd "$build" && npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1); then
        cat "$build/npm.log"
        echo "npm ci in $build failed: does npm reach its registry?"
        exit 1
    fi
    cp "$source/package-lock.json" "$build/installed.json"
fi
rm -rf "$build/failed"
exec node "$source/shop.test.mjs" "$shop" "$build" "$build/failed" "${4:-}"
