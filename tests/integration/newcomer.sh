#!/usr/bin/env bash
# What a newcomer does, on a clean clone: script/run, which builds and starts the shop, an order, the console
# lines, Ctrl-C; the same with the quickstart; and what the README shows. Slow, since it builds
# everything: only with HARK_TEST_LONG=1.
#
#   newcomer.sh ROOT
set -euo pipefail

if [ "${HARK_TEST_LONG:-0}" = 0 ]; then
    echo "skipped: it builds a clean clone; HARK_TEST_LONG=1 runs it"
    exit 77
fi
root=$1
if ! git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
    echo "skipped: $root is no git checkout"
    exit 77
fi

scratch=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*"
    cat "$scratch/stderr" 2>/dev/null || true
    exit 1
}

await_line() { # prints the first line of the console that matches
    local line
    while IFS= read -r -t 900 line <&3; do
        if [[ $line == $1 ]]; then
            echo "$line"
            return 0
        fi
    done
    return 1
}

try() { # PROGRAM, the line that tells the port, the path to POST to, the line that follows
    local arguments=("$1" --listen 127.0.0.1:0)
    [ "$1" != shop ] || arguments=(--listen 127.0.0.1:0) # the one that is meant when none is named
    (cd "$scratch" && exec "$scratch/hark/script/run" "${arguments[@]}") \
        >"$scratch/console" 2>"$scratch/stderr" &
    pid=$!
    exec 3<"$scratch/console"
    line=$(await_line "$2") || fail "$1 does not start"
    port=$(sed -n 's/^[^0-9]*\(127.0.0.1:\)\{0,1\}\([0-9]*\).*/\2/p' <<<"$line")
    status=$(curl -s -o "$scratch/answer" -w '%{http_code}' -X POST "http://127.0.0.1:$port$3")
    [ "$status" = 201 ] || fail "POST $3: $status $(cat "$scratch/answer")"
    await_line "$4" >/dev/null || fail "no console line"
    kill -INT "$pid" 2>/dev/null || fail "it is gone"
    wait "$pid" || fail "exit status $? after SIGINT"
    pid=
    exec 3<&-
}

git clone -q "$root" "$scratch/hark"
mkfifo "$scratch/console"
set -m # so that SIGINT reaches a job in the background
try shop 'shop: http://*' /orders 'order ord-*: shipped*'
try quickstart 'listening on port *' /users 'User created: John Doe'
try quickstart 'listening on port *' /users 'User created: John Doe'
[ -e "$scratch/quickstart.db" ] && [ -e "$scratch/shop.db" ] || fail "no database in the working directory"
python3 "$scratch/hark/tests/integration/consoles.py" "$scratch/hark/build/examples" "$scratch/hark" README.md ||
    fail "the README"
[ -z "$(git -C "$scratch/hark" status --porcelain)" ] || fail "the clone is not clean any more"
echo "a clean clone runs, and does what the README shows"
