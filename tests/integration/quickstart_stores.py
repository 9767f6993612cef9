#!/usr/bin/env python3
"""The quickstart on a store with a server does what it does on SQLite: what was answered 201 reaches its
consumer, also when the process is killed, and two processes share the work. What a user can get wrong is
told in one line, without the password.

Usage: with_server postgresql|redis quickstart_stores.py QUICKSTART"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from shop_kit import HUNG, check, run, until

URL = os.environ["HARK_TEST_SERVER"]
SERVER = urlsplit(URL)
PASSWORD = "xyzzy-7f3a"


class Quickstart:
    """A running one, its console read along."""

    def __init__(self, program, log=None, url=None):
        self.command = [program, "--listen", "127.0.0.1:0", "--store", url or store(log)]
        self.lines = []

    def __enter__(self):
        self.process = subprocess.Popen(self.command, text=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        where = until("the line that tells the port", lambda: self.told(r"listening on port (\d+), .*")
                      or self.process.poll() is not None and [0, 0])
        check(where[1], "it did not start:", *self.lines)
        self.port = int(where[1])
        return self

    def __exit__(self, kind, *_):
        self.kill()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def kill(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(HUNG)
        self.reader.join(HUNG)
        return status

    def told(self, pattern):
        return next(filter(None, (re.fullmatch(pattern, line) for line in list(self.lines))), None)

    def orders(self):
        return [m[1] for m in (re.fullmatch(r"Order placed: (\S+)", line) for line in list(self.lines)) if m]

    def post(self, path, body=None):
        """The id of what was made; None when the connection broke."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request("POST", path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
            reply = connection.getresponse()
            text = reply.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        check(reply.status == 201, "POST", path, "is", reply.status, text)
        return json.loads(text)["id"]


def store(log):
    """A log of its own for each test."""
    return f"{URL}{'&' if '?' in URL else '?'}log={log}"


# ---- as on SQLite ----

def what_was_answered_is_told(program, _):
    with Quickstart(program, "told") as q:
        q.post("/users")
        q.post("/users", {"name": "Ann"})
        order = q.post("/orders")
        for line in "User created: John Doe", "User created: Ann", f"Order placed: {order}":
            until(line, lambda: q.told(re.escape(line)))
        status = q.kill(signal.SIGTERM)
        check(status == 0, "SIGTERM: status", status, *q.lines[-5:])
    with Quickstart(program, "told") as q:
        second = q.post("/orders")
        until("the next order", lambda: q.orders())
        check(q.orders() == [second], "after an orderly end the consumer goes on:", q.orders())


def killed_while_it_takes_orders(program, _):
    placed, told = [], []
    for _ in range(3):
        with Quickstart(program, "killed") as q:
            threads = [threading.Thread(target=lambda: [placed.append(i) for i in iter(
                lambda: q.post("/orders"), None)]) for _ in range(8)]
            have = len(placed)
            for thread in threads:
                thread.start()
            until("fifty more orders", lambda: len(placed) >= have + 50 or q.process.poll() is not None)
            q.kill()
            for thread in threads:
                thread.join()
            told += q.orders()
    with Quickstart(program, "killed") as q:
        until("all that was answered", lambda: set(placed) <= set(told + q.orders()))
    check(len(set(placed)) == len(placed), "an id came twice")


def two_share_the_work(program, _):
    with Quickstart(program, "two") as one, Quickstart(program, "two") as two:
        placed = [q.post("/orders") for _ in range(100) for q in (one, two)]
        until("all orders", lambda: len(one.orders() + two.orders()) >= len(placed))
        check(sorted(one.orders() + two.orders()) == sorted(placed), "each order is told once")
        check(one.orders() and two.orders(), "both have a part in it")
        check(one.kill(signal.SIGTERM) == 0, "one ended badly", *one.lines[-5:])
        last = [two.post("/orders") for _ in range(50)]
        until("the other one to do all of it", lambda: set(last) <= set(two.orders()))


# ---- what a user can get wrong ----

def refused(program, url, *parts):
    """Status 1 and one line that says what, where, and how to mend it."""
    done = subprocess.run([program, "--listen", "127.0.0.1:0", "--store", url], text=True, timeout=HUNG,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = done.stderr.strip().splitlines()
    print("   ", *said)
    check(done.returncode == 1 and len(said) == 1, url, "is answered with status", done.returncode, said)
    check(said[0].startswith("quickstart: "), "says not who speaks:", said)
    check(PASSWORD not in done.stderr, "tells the password:", said)
    for part in parts:
        check(re.search(part, said[0]), f"{part!r} is not in", said)


def at(port=None, user=None, path=None):
    host = f"{SERVER.hostname}:{port or SERVER.port}"
    user = user if user is not None else SERVER.username or ""
    return f"{SERVER.scheme}://{user}{'@' if user else ''}{host}{SERVER.path if path is None else path}"


def nobody_there(program, _):
    with socket.socket() as s:  # bound, and nobody listens
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        refused(program, at(port), rf"127\.0\.0\.1:{port}|port {port}", "refused")
    refused(program, f"{SERVER.scheme}://no-such-host.invalid/", r"no-such-host\.invalid")


def psql(*sql):
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", URL, *[a for s in sql for a in ("-c", s)]],
                   check=True, timeout=HUNG)


def redis(*words):
    with socket.create_connection((SERVER.hostname, SERVER.port), HUNG) as s:
        s.sendall(f"*{len(words)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        check(s.recv(100) == b"+OK\r\n", words)


def wrong_password(program, _):
    """The server learns to ask for one; who gives the right one is let in."""
    if SERVER.scheme == "redis":
        redis("CONFIG", "SET", "requirepass", PASSWORD)
        right, wrong = at(user=f":{PASSWORD}"), at(user=f":{PASSWORD}no")
        refused(program, at(), "password|NOAUTH|uthenticat")
    else:
        psql(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'", "GRANT CREATE ON DATABASE hark TO ann",
             "COPY (VALUES('host all ann 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust')) "
             f"TO '{subprocess.check_output(['psql', '-XAtc', 'SHOW hba_file', URL], text=True).strip()}'",
             "SELECT FROM pg_reload_conf()")
        right, wrong = at(user=f"ann:{PASSWORD}"), at(user=f"ann:{PASSWORD}no")
        refused(program, at(user="ann"), "password", "ann")
        refused(program, at(user="nobody"), "nobody")
    refused(program, wrong, "password|WRONGPASS|uthenticat")
    with Quickstart(program, url=f"{right}?log=own") as q:
        order = q.post("/orders")
        until("an order", lambda: q.orders() == [order])
        check(not any(PASSWORD in line for line in q.lines), "tells the password:", q.lines)


def missing_database(program, _):
    if SERVER.scheme == "redis":
        refused(program, at(path="/99"), "99")
        refused(program, at(path="/shop"), "the database is not a number")
    else:
        refused(program, at(path="/nothing_here"), 'nothing_here', "create it")


def main():
    program = str(Path(sys.argv[1]).resolve())
    run([what_was_answered_is_told, killed_while_it_takes_orders, two_share_the_work, nobody_there,
         missing_database, wrong_password], program)  # the last one asks for a password from then on


if __name__ == "__main__":
    main()
