#!/usr/bin/env python3
"""The example programs that the how-to pages are cut from do what the pages say.

Usage: examples.py FOLDER, where the programs are. Each runs in a fresh directory of its own; its exit
status and what it prints are looked at. (quickstart has tests of its own.)"""
import http.client
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HUNG = 240  # seconds

# What each must print: a pattern a line, and how often.
DELIVERY = [
    (r"parcel:sent: cleo", 1), (r"dead_letter: shipping", 2),
    (r"consumer shipping has nothing else to do: 2 keys parked behind dead letters, .*"
     r"redrive or discard its dead letter; 1 event behind them", 1),
    (r"dead letter: rejected, nobody ships to [57] \w+ island", 3), (r"  attempt 1: reject", 1),
    (r"redriven: 1 and 1", 1), (r"parcel:sent: ann", 2), (r"parcel:sent: bob", 1),
    (r"consumer shipping is paused, until hark_consumer_resume; .*", 1),
    (r"parcel:sent: eve", 1), (r"parcel:sent: fay", 1), (r"replayed 6 of 6", 1),
    (r"a reset delivers 6 again", 1), (r"shipping: acked \d+, lag 0, waited at most \d+ ms", 1),
]
GUARD = [(r"packed: ann", None),  # its ack may be lost with the crash: at least once
         (r"dead letter: crash, SIGABRT, 3 crashes, 0 attempts", 1), (r"restarts: 3", 1)]


def run(program, cwd):
    done = subprocess.run([program], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=HUNG)
    return done.returncode, done.stdout


def judge(status, out, expected, logs):
    """What is wrong: the status, a line too often or not often enough, a line that nobody expects."""
    wrong = [] if status == 0 else [f"exit status {status}, expected 0"]
    lines = [line for line in out.splitlines() if not re.match(logs, line)]
    for pattern, times in expected:
        n = sum(1 for line in lines if re.fullmatch(pattern, line))
        if n == 0 or (times and n != times):
            wrong.append(f"{n} lines {pattern!r}, expected {times or 'some'}")
    wrong += [f"unexpected: {line}" for line in lines
              if not any(re.fullmatch(pattern, line) for pattern, _ in expected)]
    return wrong + ([f"it printed:\n{out}"] if wrong else [])


def delivery(folder, cwd):
    """Twice on one log: it leaves nothing behind that would stop the second run."""
    status, out = run(folder / "delivery", cwd)
    wrong = judge(status, out, DELIVERY, r"$")
    status, out = run(folder / "delivery", cwd)
    again = [(re.sub(r"\b6\b", "12", p), n) for p, n in DELIVERY]
    return wrong or judge(status, out, again, r"$")


def guard(folder, cwd):
    return judge(*run(folder / "guard", cwd), GUARD, r"\S+ ERROR supervise: child \d+ was ended by SIGABRT")


def ask(port, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG)
    try:
        connection.request("GET", "/my/name",
                           headers={k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.getheader("X-Served-By"), reply.read().decode()
    finally:
        connection.close()


def middleware(folder, cwd):
    key = {"X_Api_Key": "open sesame"}
    with subprocess.Popen([folder / "middleware", "127.0.0.1:0"], cwd=cwd, text=True,
                          stdout=subprocess.PIPE) as program:
        try:
            port = int(re.fullmatch(r"listening on port (\d+)\n", program.stdout.readline())[1])
            got = [ask(port, **key, Authorization="ann", X_Tenant="tea"), ask(port)[:2],
                   ask(port, **key, Authorization="eve")[:2],
                   ask(port, **key, Authorization="ann")[:2]]
            program.send_signal(signal.SIGTERM)
            got += [program.wait(HUNG), re.sub(r"\d+ us", "N us", program.stdout.read())]
        finally:
            program.kill()
    expected = [(200, "shop-1", "ann"), (401, "shop-1"), (401, "shop-1"), (400, "shop-1"), 0,
                "".join(f"/my/name {status} N us\n" for status in (200, 401, 401, 400))]
    return [f"expected {e!r}, got {g!r}" for g, e in zip(got, expected) if g != e]


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    folder, bad = Path(sys.argv[1]).resolve(), 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one of them crashes on purpose
    for example in (delivery, guard, middleware):
        with tempfile.TemporaryDirectory() as cwd:
            wrong = example(folder, cwd)
        bad += bool(wrong)
        print(f"{example.__name__}: {'; '.join(wrong) or 'ok'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
