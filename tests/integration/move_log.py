#!/usr/bin/env python3
"""move_log carries a log from SQLite to PostgreSQL, from there to Redis, and back to SQLite, killed on the way
each time. What comes back is compared with what went away, row by row, with Python's sqlite3 and nothing of
hark's; and services go on in between where they were.

Usage: with_server postgresql with_server redis move_log.py EXAMPLES {}, where EXAMPLES is the folder of the
built programs; {} becomes the first server's URL, the second one's is in HARK_TEST_SERVER.
HARK_TEST_SEED repeats the moments of the kills."""
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from quickstart_stores import Quickstart
from shop_kit import HUNG, Shop, check, run, until

POSTGRES, REDIS = sys.argv[2], os.environ["HARK_TEST_SERVER"]
SEED = int(os.environ.get("HARK_TEST_SEED") or int.from_bytes(os.urandom(4), "little"))
ORDERS, KILLS = (20000, 30) if os.environ.get("HARK_TEST_LONG") else (1500, 6)
MOVED = re.compile(r"moved: (\d+) events, the same in both logs, digest ([0-9a-f]{16}); (\d+) consumers; (\d+) schedules")


def named(url, log):
    return f"{url}?log={log}"


def move(examples, *args):
    done = subprocess.run([examples / "move_log", *args], text=True, timeout=HUNG, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr


def moved(examples, *args):
    """Events, digest, consumers, schedules."""
    status, out, err = move(examples, *args)
    found = MOVED.search(out)
    check(status == 0 and found and not err, args, "is status", status, out, err)
    return found.groups()


def refused(examples, text, *args):
    status, out, err = move(examples, *args)
    check(status == 1 and err.startswith("move_log: ") and len(err.splitlines()) == 1, args, status, out, err)
    check(re.search(text, err), f"{text!r} is not in", err)


def killed(examples, r, *args):
    """Runs it again and again, and kills it after times chosen at random, ever longer ones until it is through
    before; then lets it end. So many must have been killed."""
    began, kills, runs, longest = time.monotonic(), 0, 0, 0.1
    while kills < KILLS and runs < 20 * KILLS:
        process = subprocess.Popen([examples / "move_log", *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threading.Event().wait(r.random() * longest)
        process.kill()
        said = process.communicate()[1]
        was_killed = process.returncode == -signal.SIGKILL
        check(was_killed or process.returncode == 0, args, "ended with", process.returncode, said)
        longest = longest * 1.3 if was_killed else longest / 2
        kills, runs = kills + was_killed, runs + 1
    print(f"    {kills} of {runs} runs were killed, {time.monotonic() - began:.1f} s", flush=True)
    check(kills >= KILLS, "only", kills, "were killed on the way")
    return moved(examples, *args)


# ---- a log with all that there is ----

def fill(examples, directory):
    """The shop leaves events with extensions and causes, consumers of many policies, and deadlines."""
    with Shop(examples / "shop" / "shop", directory, "--quiet", "--no-supervise", "--stock", "100000",
              "--payment-fail-rate", "0.1") as shop:
        threads = [threading.Thread(target=lambda: [shop.place(prod1=1 + i % 3, prod3=1) for i in range(ORDERS // 20)])
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shop.settled()
    return directory / "shop.db"


EVENTS = ("SELECT s.name, e.id, t.name, m.name, time, dataversion, subject, subject_version, partitionkey, "
          "correlationid, causationid, attrs, data FROM hark_events e JOIN hark_types t ON t.id = type_id "
          "JOIN hark_sources s ON s.id = source_id LEFT JOIN hark_mediatypes m ON m.id = mediatype_id ORDER BY seq")
SCHEDULES = ("SELECT source, event_id, due, by_delay, json_remove(envelope, '$.time'), data FROM hark_schedules "
             "ORDER BY source, event_id")
CONSUMERS = "SELECT name, pattern, policy, paused FROM hark_consumers ORDER BY name"


def content(path):
    with sqlite3.connect(path) as db:
        return {sql: db.execute(sql).fetchall() for sql in (EVENTS, SCHEDULES, CONSUMERS)}


def there_and_back(examples, directory):
    r = random.Random(SEED)
    first, last = fill(examples, directory), directory / "back.db"
    before = content(first)
    check(len(before[EVENTS]) > ORDERS and before[SCHEDULES] and len(before[CONSUMERS]) == 8, "a poor log")
    stations = [f"sqlite:{first}", named(POSTGRES, "moving"), named(REDIS, "moving"), f"sqlite:{last}"]
    figures = [killed(examples, r, *pair) for pair in zip(stations, stations[1:])]
    check(len(set(figures)) == 1, "figures differ:", figures)
    after = content(last)
    for sql, rows in before.items():
        wrong = [(a, b) for a, b in zip(rows, after[sql]) if a != b]
        check(len(rows) == len(after[sql]) and not wrong, sql, len(rows), len(after[sql]), wrong[:1])
    check(content(first) == before, "FROM was changed")
    with sqlite3.connect(last) as db:
        behind = db.execute("SELECT name, floor FROM hark_consumers WHERE floor < "
                            "(SELECT max(seq) FROM hark_events)").fetchall()
    print(f"    {figures[0][0]} events, {figures[0][3]} schedules, {len(behind)} consumers not at the end")


# ---- services go on ----

def services_go_on(examples, directory):
    """One is killed while its consumers are at it: in the next store they hear what they have yet to hear."""
    placed, told, program = [], [], str(examples / "quickstart")
    stores = [f"sqlite:{directory}/first.db", named(POSTGRES, "services"), named(REDIS, "services"),
              f"sqlite:{directory}/last.db"]
    for here, there in zip(stores, [*stores[1:], None]):
        for how in (signal.SIGTERM, signal.SIGKILL):
            with Quickstart(program, url=here) as q:
                threads = [threading.Thread(target=lambda: placed.extend(q.post("/orders") for _ in range(50)))
                           for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                if how == signal.SIGTERM:
                    until("all of them", lambda: set(placed) <= set(told + q.orders()))
                q.kill(how)
                told += q.orders()
        if there:
            moved(examples, here, there)
    with Quickstart(program, url=stores[-1]) as q:
        until("the rest", lambda: set(placed) <= set(told + q.orders()))


def nothing_is_told_twice(examples, directory):
    """When it has ended in order. And a log that is used already is no place to move to."""
    program, log = str(examples / "quickstart"), f"sqlite:{directory}/x.db"
    for there in named(POSTGRES, "twice"), named(REDIS, "twice"):
        with Quickstart(program, url=log) as q:
            for _ in range(20):
                q.post("/orders")
            until("its orders", lambda: len(q.orders()) == 20)
            check(q.kill(signal.SIGTERM) == 0, "a bad end")
        moved(examples, log, there)
        with Quickstart(program, url=there) as q:
            order = q.post("/orders")
            until("a new order", lambda: order in q.orders())
            check(q.orders() == [order], "told again:", q.orders())
            check(q.kill(signal.SIGTERM) == 0, "a bad end")
        refused(examples, "TO has|gone on in TO", log, there)
        log = there


# ---- what is refused ----

def what_cannot_be_moved(examples, directory):
    def example(name):
        subprocess.run([examples / name], cwd=directory, stdout=subprocess.DEVNULL, timeout=HUNG, check=True)
        return f"sqlite:{directory}/{name}.db"
    dead, subjects, versions = example("typed"), example("subjects"), example("versions")
    fresh = f"sqlite:{directory}/fresh.db"
    refused(examples, r"consumer printer has dead letters \(1\).*redrive or discard", dead, fresh)
    refused(examples, "no-such.db", f"sqlite:{directory}/no-such.db", fresh)
    refused(examples, "already|same log|in use|open", subjects, subjects)
    refused(examples, "same log", named(REDIS, "one"), named(REDIS, "one")) if moved(
        examples, subjects, named(REDIS, "one")) else None
    refused(examples, "TO has .* it is another log", versions, named(REDIS, "one"))
    refused(examples, "nothing is kept|live|not support|ENOTSUP|does not", subjects, REDIS.replace("redis:", "redis+pubsub:"))
    check(move(examples, subjects)[0] == 64, "no usage")


def main():
    examples = Path(sys.argv[1]).resolve()
    print(f"seed {SEED}")
    run([there_and_back, services_go_on, nothing_is_told_twice, what_cannot_be_moved], examples)


if __name__ == "__main__":
    main()
