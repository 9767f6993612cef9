#!/usr/bin/env python3
"""The example programs that the how-to pages are cut from do what the pages say.

Usage: examples.py FOLDER LIBRARY SOURCE CC..., the folder of the programs, the library, the root of the
project, and how to call the compiler. Each program runs in a fresh directory of its own; its exit
status and what it prints are looked at. (quickstart has tests of its own.) Beside a server (with_server)
those that any store will do for are run on that."""
import collections
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HUNG = 240  # seconds
SERVER = os.environ.get("HARK_TEST_SERVER")

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
# All that ann, bob, cleo and dora ordered, as it is read and as it is stored.
VERSIONS = [
    (r'billing: version 3 {"customer":"ann","total":1250,"currency":"EUR"}', 1),
    (r'billing: version 3 {"customer":"bob","total":1000,"currency":"EUR"}', 1),
    (r'billing: version 3 {"customer":"cleo","total":990,"currency":"EUR"}', 1),
    (r'billing: version 3 {"customer":"dora","total":700,"currency":"SEK"}', 1),
    (r"dead letter: upcast, order:created version 1: the upcaster from 1 to 2 failed: "
     r"a total of 9\.999 is no whole cents", 1),
    (r'report: version 2 {"customer":"(ann","total":1250|bob","total":1000|cleo","total":990)}', 3),
    (r"consumer report has not settled event \d+ within 1000 ms, .*", 1),
    (r"consumer report .* waits for a program that knows version 3 of order:created "
     r"\(this one reads 2\)", 1),
    (r'report: version 3 {"customer":"dora","total":700,"currency":"SEK"}', 1),
    (r'stored: version 1 {"customer":"ann","total":12.5}', 1),
    (r'stored: version 1 {"customer":"bob","total":9.999}', 1),
    (r'stored: version 2 {"customer":"cleo","total":990}', 1),
    (r'stored: version 3 {"customer":"dora","total":700,"currency":"SEK"}', 1),
]
TYPED = [
    (r'dead letter: rejected, invoice:sent version 1: \$\.due is "tomorrow", expected a time of .*; '
     r"\$\.items is null, expected an array of 1 to 100 elements", 1),
    (r"refused: invoice:sent version 1: \$\.items\[0\]\.quantity is 0, expected an integer from 1 to "
     r"1000; \$\.items\[0\]\.price is 4\.505, expected a number with at most 2 decimals from 0\.00 to "
     r"100000\.00; \$\.items\[0\]\.colour is not a known member", 1),
    (r"bob pays 4\.50, sealed with 0 bytes", 1), (r"ann pays 21\.99, sealed with 3 bytes", 1),
    (r'{"\$schema":"https://json-schema\.org/draft/2020-12/schema",.*}', 1),
]
TRANSACTIONS = [
    (r"ann gets tea, order \d+", 1), (r"bob gets tea, order \d+", 1),
    (r"cleo gets no tea: tea is sold out", 1), (r"cleo gets no rum: there is no rum", 1),
    (r"undone: the closure's deadline passed while it ran: WITH RECURSIVE .*", 1),
    (r"undone: COMMIT is denied .*", 1), (r"undone: DELETE FROM hark_events is denied .*", 1),
    (r"(ann|bob): 1 orders, 0 without a parcel", 2),
]
SUBJECTS = [
    (r"order-1 has 2 items and is open, version 3", 1),
    (r"order:(paid|cancelled) is its event 4", 1),
    (r"order:(paid|cancelled) is refused: subject order-1 is at version 4 and the event expects "
     r"version 3; .*", 1),
    (r"order:(paid is too late: the order is cancelled|cancelled is too late: the order is paid)", 1),
]
# What the gate must say when the upcaster that begins here is not there any more.
GATE = {"to_cents": [("order:created version 1", 2)],
        "with_currency": [("order:created version 1", 2), ("order:created version 2", 1)]}


def run(program, cwd, *args):
    if SERVER and not args:
        args = [f"{SERVER}?log={program.name}"]
    done = subprocess.run([program, *args], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
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


def twice(name, first, second):
    """On one log: a run leaves nothing behind that would stop the next one."""
    def example(folder, cwd):
        wrong = judge(*run(folder / name, cwd), first, r"$")
        return wrong or judge(*run(folder / name, cwd), second, r"$")
    example.__name__ = name
    return example


typed = twice("typed", TYPED, TYPED)
transactions = twice("transactions", TRANSACTIONS,
                     [(p.replace(": 1 orders", ": 2 orders"), n) for p, n in TRANSACTIONS])
subjects = twice("subjects", SUBJECTS, [(p.replace("order-1", "order-2"), n) for p, n in SUBJECTS])


def gate_without(fn, tools, cwd):
    """The gate of a program that has lost the upcaster `fn`."""
    library, source, compiler = tools
    header = (source / "examples/order_versions.h").read_text()
    less, times = re.subn(rf"HARK_OPTS\(hark_upcaster,[^)]*\.fn = {fn}\),", "", header)
    if times != 1:
        raise ValueError(f"order_versions.h adds {fn} {times} times")
    (cwd / "order_versions.h").write_text(less)
    (cwd / "version_gate.c").write_text((source / "examples/version_gate.c").read_text())
    program = cwd / f"gate-without-{fn}"
    subprocess.run([*compiler, "-std=c11", "-D_GNU_SOURCE", f"-I{source / 'include'}", "version_gate.c",
                    "-o", program, library, f"-Wl,-rpath,{library.parent}"], cwd=cwd, check=True,
                   timeout=HUNG)
    return program


def judge_gate(status, out, lost):
    """Exit status 1, and each version that is lost with its count."""
    wrong = [] if status == 1 else [f"exit status {status}, expected 1"]
    for version, events in lost:
        if not re.search(rf"^{version}: {events} events, .* NOT READABLE: no upcaster leads ", out, re.M):
            wrong.append(f"no line about {version} and its {events} events")
    if out.count("NOT READABLE") != len(lost):
        wrong.append(f"{out.count('NOT READABLE')} versions not readable, expected {len(lost)}")
    if f"version_gate: {lost[0][0]}" not in out:
        wrong.append(f"no error that names {lost[0][0]}")
    return wrong + ([f"it printed:\n{out}"] if wrong else [])


def versions(folder, cwd, tools):
    """All versions are there then: the gate lets them pass, but not when an upcaster is missing."""
    wrong = judge(*run(folder / "versions", cwd), VERSIONS, r"$")
    gate = folder / "version_gate"
    status, out = run(gate, cwd, "versions.db")
    if status or "NOT READABLE" in out or not all(f"order:created version {v}: " in out for v in (1, 2, 3)):
        wrong.append(f"the gate: exit status {status}, expected 0; it printed:\n{out}")
    for fn, lost in GATE.items():
        wrong += judge_gate(*run(gate_without(fn, tools, cwd), cwd, "versions.db"), lost)
    return wrong or judge(*run(folder / "versions", cwd), VERSIONS, r"$")


@contextlib.contextmanager
def server(program, cwd):
    """A program that serves HTTP: its process and its port."""
    with subprocess.Popen([program, "127.0.0.1:0"], cwd=cwd, text=True,
                          stdout=subprocess.PIPE) as process:
        try:
            yield process, int(re.fullmatch(r"listening on port (\d+)\n", process.stdout.readline())[1])
        finally:
            process.kill()


def version_gate(folder, cwd):
    """What it cannot look at is neither good nor bad."""
    wrong = []
    (cwd / "text.db").write_text("no database, but long enough to be looked at\n" * 100)
    with server(folder / "orders_http", cwd) as (program, _):
        for args, expected, text in (((), 64, "usage: "), (("none.db",), 2, "there is no none.db"),
                                     (("text.db",), 2, "text.db"), (("orders.db",), 2, str(program.pid))):
            status, out = run(folder / "version_gate", cwd, *args)
            if status != expected or text not in out:
                wrong.append(f"{args}: exit status {status}, expected {expected} and {text!r}: {out}")
    return wrong + (["it made none.db"] if (cwd / "none.db").exists() else [])


Reply = collections.namedtuple("Reply", "status headers body")


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read().decode())
    finally:
        connection.close()


def middleware(folder, cwd):
    key = {"X_Api_Key": "open sesame"}
    with server(folder / "middleware", cwd) as (program, port):
        asked = [ask(port, "GET", "/my/name", **headers) for headers in (
            {**key, "Authorization": "ann", "X_Tenant": "tea"}, {}, {**key, "Authorization": "eve"},
            {**key, "Authorization": "ann"})]
        program.send_signal(signal.SIGTERM)
        got = [(r.status, r.headers["X-Served-By"]) for r in asked] + [asked[0].body]
        got += [program.wait(HUNG), re.sub(r"\d+ us", "N us", program.stdout.read())]
    expected = [(200, "shop-1"), (401, "shop-1"), (401, "shop-1"), (400, "shop-1"), "ann", 0,
                "".join(f"/my/name {status} N us\n" for status in (200, 401, 401, 400))]
    return [f"expected {e!r}, got {g!r}" for g, e in zip(got, expected) if g != e]


def post(port, order, **headers):
    return ask(port, "POST", "/orders", json.dumps(order), Content_Type="application/json", **headers)


def total(port, customer, seq, wait):
    return ask(port, "GET", f"/totals/{customer}", Hark_Wait=f"consumer=totals; seq={seq}; max={wait}")


def same_reply(first, again):
    """Status, headers and bytes; the repeat says that it is one."""
    own = ("Date", "Idempotent-Replay")
    kept = [[(k, v) for k, v in r.headers.items() if k not in own] for r in (first, again)]
    return (kept[0] == kept[1] and first[::2] == again[::2] and
            again.headers["Idempotent-Replay"] == "true" and "Idempotent-Replay" not in first.headers)


def keyed(port):
    """docs/how-to/idempotency.md"""
    tea, key, other = {"customer": "ann", "total": 12.5}, {"Idempotency_Key": "7f3a"}, {"Idempotency_Key": "b"}
    first, again = post(port, tea, **key), post(port, tea, **key)
    changed = post(port, {"customer": "ann", "total": 99}, **key)
    poor = [post(port, {"customer": "ann", "total": 999}, **other) for _ in range(2)]
    return [
        ("the first", first.status == 201 and first.body == '{"id":1,"customer":"ann","total":12.50}', first),
        ("the repeat", same_reply(first, again), again),
        ("another body", changed.status == 422 and "the key was used for another request" in changed.body,
         changed),
        ("a refusal", poor[0].status == 403 and "ann has no credit left" in poor[0].body, poor[0]),
        ("its repeat", same_reply(*poor), poor[1]),
    ]


def waited(port):
    """docs/how-to/read-your-writes.md; ann has an order of 12.50."""
    seq = post(port, {"customer": "ann", "total": 1}).headers["Hark-Seq"]
    shown = total(port, "ann", seq, "10s")
    ask(port, "PUT", "/paused")
    late = post(port, {"customer": "ann", "total": 2}).headers["Hark-Seq"]
    lag = total(port, "ann", late, "20ms")
    ask(port, "DELETE", "/paused")
    then = total(port, "ann", late, "10s")
    dead = total(port, "bob", post(port, {"customer": "bob", "total": 0}).headers["Hark-Seq"], "10s")
    return [
        ("waited for", shown.status == 200 and shown.body == '{"total":13.50}', shown),
        ("too late", lag.status == 409 and
         {"consumer": "totals", "lag": 1, "seq": late}.items() <= json.loads(lag.body).items(), lag),
        ("later", then.status == 200 and then.body == '{"total":15.50}', then),
        ("a dead letter", dead.status == 424 and
         {"consumer": "totals", "dead_letter": 1}.items() <= json.loads(dead.body).items(), dead),
        ("no consumer", ask(port, "GET", "/totals/ann", Hark_Wait=f"consumer=x; seq={late}").status == 404,
         "another status"),
        ("no cursor", ask(port, "GET", "/totals/ann", Hark_Wait="consumer=totals").status == 400,
         "another status"),
    ]


def orders_http(folder, cwd):
    """And once more after a kill: keys and totals are still known, nothing is there twice."""
    tea = {"customer": "ann", "total": 12.5}
    with server(folder / "orders_http", cwd) as (program, port):
        seen = keyed(port) + waited(port)
        before = post(port, tea, Idempotency_Key="7f3a")
    with server(folder / "orders_http", cwd) as (program, port):
        after = post(port, tea, Idempotency_Key="7f3a")
        sums = ask(port, "GET", "/totals/ann")
        program.send_signal(signal.SIGTERM)
        seen += [("after a kill", before.body == after.body and after.headers["Idempotent-Replay"], after),
                 ("its total", sums.body == '{"total":15.50}', sums),
                 ("its end", program.wait(HUNG) == 0, "another status")]
    return [f"{what}: {got}" for what, good, got in seen if not good]


def main():
    if len(sys.argv) < 5:
        sys.exit(f"usage: {sys.argv[0]} FOLDER LIBRARY SOURCE CC...")
    folder, library, source = (Path(arg).resolve() for arg in sys.argv[1:4])
    tools, bad = (library, source, sys.argv[4:]), 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one of them crashes on purpose
    anywhere = (delivery, typed, subjects)
    for example in anywhere if SERVER else (*anywhere, guard, middleware, versions, version_gate, transactions,
                                            orders_http):
        with tempfile.TemporaryDirectory() as cwd:
            extra = [tools] if example is versions else []
            wrong = example(folder, Path(cwd), *extra)
        bad += bool(wrong)
        print(f"{example.__name__}: {'; '.join(wrong) or 'ok'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
