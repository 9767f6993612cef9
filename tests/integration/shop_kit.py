"""What the tests of the shop share: a shop in a fresh directory, asked over HTTP, its console read
along, its database looked at. Everything that takes time is waited for, with a deadline."""
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

HUNG = 120 if not os.environ.get("HARK_TEST_BRIEF") else 300  # seconds


class Wrong(Exception):
    """What a test found."""


def check(good, *what):
    if not good:
        raise Wrong(" ".join(str(w) for w in what))


def until(what, condition):
    """Asks again and again; gives what `condition` gave when it was true."""
    end, pause, seen = time.monotonic() + HUNG, threading.Event(), None
    while time.monotonic() < end:
        seen = condition()
        if seen:
            return seen
        pause.wait(0.02)
    raise Wrong(f"in vain waited for: {what}")


def threads_left(stat):
    """The first thread of a killed process may be gone before the others, which hold its sockets."""
    try:
        return len(list((stat.parent / "task").iterdir())) > 1
    except OSError:
        return False


def group_alive(group):
    """Is a process of the group still there? A child dies with its supervisor, but a moment later."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and (state not in ("Z", "X") or threads_left(path)):
            return True
    return False


class Shop:
    """A running shop; `with Shop(program, directory, "--stock", "5") as shop:`."""

    def __init__(self, program, directory, *options):
        self.command = [str(Path(program).resolve()), "--store", "sqlite:shop.db", "--listen",
                        "127.0.0.1:0", "--page", ".", *options]
        self.directory, self.lines = Path(directory), []
        self.reads = threading.Event()  # clear() it, and nobody reads the console any more
        self.reads.set()

    def __enter__(self):
        self.errors = open(self.directory / "stderr", "a+", encoding="utf-8")
        self.process = subprocess.Popen(self.command, cwd=self.directory, text=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.port = int(until("the address", lambda: self.told(r"shop: http://127\.0\.0\.1:(\d+)/")
                              or self.process.poll() is not None and self._died())[1])
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
        status = self.process.wait(HUNG) if kind else self.stop()
        self.reads.set()
        self.reader.join(HUNG)
        self.errors.close()
        if kind:
            sys.stdout.write("".join(f"  | {line}\n" for line in self.lines[-40:]) + self.stderr())
        else:
            check(status == 0, "the shop ended with status", status, self.stderr())

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self.reads.wait()

    def stop(self, within=HUNG):
        """Its status; as Ctrl-C or a service manager ends it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Wrong(f"the shop did not end within {within} s of SIGTERM: {self.stderr()}") from None

    def _died(self):
        raise Wrong(f"the shop ended with status {self.process.returncode}: {self.stderr()}")

    def stderr(self):
        return (self.directory / "stderr").read_text(encoding="utf-8")[-4000:]

    def told(self, pattern):
        """The first line on the console that is that."""
        return next(filter(None, (re.fullmatch(pattern, line) for line in list(self.lines))), None)

    def ask(self, method, path, body=None, **headers):
        """Status and body, read as JSON when it is that. A request that a crash cut off is repeated;
        those that change something have an Idempotency-Key for it."""
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None:
            body, fields["Content-Type"] = json.dumps(body), "application/json"
        return until(f"an answer to {method} {path}", lambda: self._ask(method, path, body, fields))

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            text = reply.read().decode()
            return reply.status, json.loads(text) if text.startswith(("{", "[")) else text
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def messages(self, path):
        """What a live reply sends: the data of each message, read as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            kind = reply.headers["Content-Type"]
            check(reply.status == 200 and kind.startswith("text/event-stream"), path, reply.status, kind)
            for line in reply:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            connection.close()

    def get(self, path):
        status, body = self.ask("GET", path)
        check(status == 200, "GET", path, "is", status, body)
        return body

    def put(self, path, body=None, expected=200):
        status, reply = self.ask("PUT", path, body)
        check(status == expected, "PUT", path, "is", status, reply)
        return reply

    def place(self, key=None, **items):
        """Places an order, place(prod1=2); gives its id."""
        wanted = [{"product_id": sku, "quantity": n} for sku, n in items.items()]
        headers = {"Idempotency_Key": key} if key else {}
        status, order = self.ask("POST", "/orders", {"user_id": "user123", "items": wanted}, **headers)
        check(status == 201, "POST /orders is", status, order)
        return order["id"]

    def wait_for(self, order, status):
        def there():
            now = self.get(f"/orders/{order}")
            return now if now["status"] == status else None
        return until(f"{order} to be {status}", there)

    def stock(self, sku):
        item = next(i for i in self.get("/inventory")["items"] if i["sku"] == sku)
        return item["stock"], item["reserved"], item["sold"]

    def consumer(self, name):
        return next(c for c in self.get("/stats")["consumers"] if c["name"] == name)

    def settled(self, *names):
        """Until these consumers, or all, have nothing left to do."""
        def idle():
            return all(c["lag"] == 0 and c["open"] == 0 for c in self.get("/stats")["consumers"]
                       if not names or c["name"] in names)
        until(f"{names or 'all'} to be idle", idle)

    def rows(self, sql, *args):
        """What is committed, read beside the shop."""
        with sqlite3.connect(f"file:{self.directory / 'shop.db'}?mode=ro", uri=True, timeout=HUNG) as db:
            return db.execute(sql, args).fetchall()


def at_once(*jobs):
    """Runs them at the same time, each on a thread; gives what they gave."""
    together, got = threading.Barrier(len(jobs)), [None] * len(jobs)

    def one(i):
        together.wait(HUNG)
        try:
            got[i] = jobs[i]()
        except Exception as why:  # told by the caller's thread
            got[i] = why
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in got:
        if isinstance(result, Exception):
            raise result
    return got


def run(tests, *args):
    """Each in a directory of its own; exits with 1 when one has failed."""
    bad = 0
    for test in tests:
        with tempfile.TemporaryDirectory() as directory:
            try:
                test(*args, Path(directory))
                result = "ok"
            except Wrong as wrong:
                bad, result = bad + 1, f"FAILED: {wrong}"
            except Exception:  # a fault of the test
                bad, result = bad + 1, f"FAILED: {traceback.format_exc()}"
        print(f"{test.__name__}: {result}", flush=True)
    sys.exit(1 if bad else 0)
