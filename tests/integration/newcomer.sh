#!/usr/bin/env bash
# What a newcomer does, on a clean clone: script/run quickstart, one POST, the console line, Ctrl-C,
# and all of it once more. Slow, since it builds everything: only with HARK_TEST_LONG=1.
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

one_run() {
    (cd "$scratch" && exec "$scratch/hark/script/run" quickstart --listen 127.0.0.1:0) \
        >"$scratch/console" 2>"$scratch/stderr" &
    pid=$!
    exec 3<"$scratch/console"
    line=$(await_line 'listening on port *') || fail "the quickstart does not start"
    port=${line#listening on port }
    port=${port%%,*}
    status=$(curl -s -o "$scratch/answer" -w '%{http_code}' -X POST "http://127.0.0.1:$port/users")
    [ "$status" = 201 ] || fail "POST /users: $status $(cat "$scratch/answer")"
    await_line 'User created: John Doe' >/dev/null || fail "no console line"
    kill -INT "$pid" 2>/dev/null || fail "it is gone"
    wait "$pid" || fail "exit status $? after SIGINT"
    pid=
    exec 3<&-
}

git clone -q "$root" "$scratch/hark"
mkfifo "$scratch/console"
set -m # so that SIGINT reaches a job in the background
one_run
one_run
[ -e "$scratch/quickstart.db" ] || fail "no quickstart.db in the working directory"
[ -z "$(git -C "$scratch/hark" status --porcelain)" ] || fail "the clone is not clean any more"
echo "a clean clone runs, twice"
