#!/usr/bin/env python3
"""The shop lives through kill -9 while customers order, cards fail, a consumer crashes and people
change their minds, and the figures are rebuilt; afterwards its books are audited (shop_audit.py).

    shop_kill.py SHOP [--shops N] [--seed N] [--orders N] [--kills N] [--keep DIR]
    with_server postgresql shop_kill.py SHOP --shops 2

SHOP is the program. Beside a server its store is there, in a file otherwise. Several shops share the
store, each with a port of its own, and are killed in turn. Orders are placed over HTTP with
Idempotency-Keys and repeated, with the next shop, whenever the connection breaks. A kill counts only when
GET /stats has just shown 100 open deliveries or more (of several shops: 20); every fourth takes the
supervisor too. How much: HARK_TEST_LONG and HARK_TEST_BRIEF, as in tests/faults."""
import argparse
import collections
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from shop_kit import group_alive

import shop_audit
from shop_books import open_books

HUNG = 600 if os.environ.get("HARK_TEST_BRIEF") else 240  # seconds for any one thing
CUSTOMERS = 8    # threads that place orders
PRODUCTS = ["prod1", "prod2", "prod3"]
SLOW = ["shipping", "notification", "analytics", "shipping", "loyalty", "inventory"]  # in turn
CRASHING = ["shipping", "analytics", "inventory", "loyalty"]
BROKEN = (OSError, http.client.HTTPException)


class Failure(Exception):
    """The campaign cannot go on; the text says why."""


def poll(what, fn, pause=0.01):
    """Waits until fn gives something true."""
    until, between = time.monotonic() + HUNG, threading.Event()
    while time.monotonic() < until:
        got = fn()
        if got:
            return got
        between.wait(pause)
    raise Failure(f"waited {HUNG} s in vain for {what}")


def free_port(r):
    """One that is not given out to outgoing connections: a client that tries to reach a shop that is
    down could be given the shop's own, and would keep it from coming back."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = r.randrange(max(1024, lowest - 20000), lowest)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


# ---- the program ---------------------------------------------------------------------------------

class Shop:
    """The supervised shop; its console goes to a file."""

    def __init__(self, program, folder, store, port, options):
        self.command = [str(program), "--store", store, "--page", str(folder), "--quiet", *options]
        self.console = folder / f"console-{port}"
        self.port, self.parent, self.seen = port, None, 0

    def start(self):
        self.seen = self.console.stat().st_size if self.console.exists() else 0
        with open(self.console, "ab") as out:
            self.parent = subprocess.Popen(
                [*self.command, "--listen", f"127.0.0.1:{self.port}"], stdout=out, stderr=out,
                start_new_session=True)
        poll("the line that tells the address", self.said_address)

    def said_address(self):
        if self.parent.poll() is not None:
            raise Failure(f"the shop ended with {self.parent.returncode}: {self.tail()}")
        with open(self.console, "rb") as f:
            f.seek(self.seen)
            return b"shop: http://127.0.0.1:%d/" % self.port in f.read()

    def tail(self):
        return self.console.read_text(errors="replace")[-2000:]

    def child(self):
        pid = self.parent.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def kill(self, parent_too):
        child = self.child()
        if child is None:
            return False
        if parent_too:  # the child dies with it
            self.parent.kill()
            self.parent.wait()
            poll("the child's end", lambda: not group_alive(self.parent.pid))
            self.start()
        else:
            os.kill(child, signal.SIGKILL)
            poll("another child", lambda: self.child() not in (None, child))
        return True

    def stop(self):
        self.parent.send_signal(signal.SIGTERM)
        status = self.parent.wait(HUNG)
        if status:
            raise Failure(f"the shop ended with {status} on SIGTERM: {self.tail()}")

    def end(self):
        if self.parent and self.parent.poll() is None:
            self.parent.kill()
            self.parent.wait()


# ---- clients -------------------------------------------------------------------------------------

class Client:
    """One connection; asks again until there is an answer that is one."""

    def __init__(self, campaign, number=0):
        self.campaign, self.number, self.conn = campaign, number, None
        self.counts = campaign.counts

    def shop(self):
        return self.campaign.shops[self.number % len(self.campaign.shops)]

    def once(self, method, path, body=None, key=None):
        if self.conn is None:
            self.conn = http.client.HTTPConnection("127.0.0.1", self.shop().port, timeout=30)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Idempotency-Key"] = key
        try:
            self.conn.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = self.conn.getresponse()
            data = reply.read()
            self.counts["replayed"] += reply.getheader("Idempotent-Replay") == "true"
            return reply.status, json.loads(data) if data else None
        except BROKEN:
            self.conn.close()
            self.conn = None
            self.number += 1
            raise

    def ask(self, method, path, body=None, key=None, running=()):
        """The answer, and how often it was asked. What the request's first copy, still running, gets
        (statuses in `running`) is no answer."""
        tries = 0

        def attempt():
            nonlocal tries
            tries += 1
            if self.campaign.broken_off:
                raise Failure("another thread gave up")
            try:
                status, reply = self.once(method, path, body, key)
            except BROKEN:
                self.counts["broken"] += 1
                return None
            if status >= 500 or status in running:
                self.counts[f"status {status}"] += 1
                return None
            return status, reply
        status, reply = poll(f"an answer to {method} {path}", attempt)
        return status, reply, tries


class Campaign:
    def __init__(self, shops, facts, seed, orders, kills, crashes):
        self.shops, self.facts, self.seed = shops, facts, seed
        self.orders, self.kills, self.crashes = orders, kills, crashes
        self.least_open = 100 if len(shops) == 1 else 20  # deliveries, for a kill to count
        self.crashing = random.Random(seed).sample(CRASHING, len(CRASHING))  # in turn
        self.lock = threading.Lock()
        self.next_order = 0
        self.done_kills = threading.Event()   # placing may end
        self.stop = threading.Event()         # people may stop meddling
        self.broken_off = None                # why a thread gave up
        self.counts = collections.Counter()
        self.open_at_kills = []

    # -- customers

    def take_number(self):
        """The next order's number; more than were asked for while kills are still due."""
        with self.lock:
            enough = self.next_order >= self.orders and self.done_kills.is_set()
            if enough or self.next_order >= 3 * self.orders or self.broken_off:
                return None
            self.next_order += 1
            return self.next_order

    def place(self, client, number):
        r = random.Random(f"{self.seed} {number}")
        items = [(sku, r.randint(1, 3)) for sku in r.sample(PRODUCTS, r.randint(1, 3))]
        body = {"user_id": "user123",
                "items": [{"product_id": sku, "quantity": n} for sku, n in items]}
        key = f"order-{self.seed}-{number}"
        for _ in range(2 if r.random() < 0.05 else 1):  # some ask again for nothing
            status, reply, _ = client.ask("POST", "/orders", body, key, running=(409, 429))
            if status != 201:
                raise Failure(f"POST /orders {body}: {status} {reply}")
            with self.lock:
                known = self.facts.placed.setdefault(reply["id"], (key, items))
            if known != (key, items):
                raise Failure(f"{key} and {known[0]} were both told that they are {reply['id']}")

    def customer(self, number):
        client = Client(self, number)
        for number in iter(self.take_number, None):
            self.place(client, number)

    # -- people who pay, ship and cancel by hand

    def meddle(self):
        client, r = Client(self), random.Random(f"{self.seed} meddler")
        while not self.stop.wait(0.01):
            status = r.choice(["created", "reserved", "paid", "paid"])
            _, listed, _ = client.ask("GET", f"/orders?status={status}&limit=5")
            if not listed["orders"]:
                continue
            order = r.choice(listed["orders"])["id"]
            verb = r.choice({"created": ["cancel"], "reserved": ["pay", "cancel"],
                             "paid": ["ship", "cancel"]}[status])
            code, reply, _ = client.ask("PUT", f"/orders/{order}/{verb}")
            if code not in (200, 409):
                raise Failure(f"PUT /orders/{order}/{verb}: {code} {reply}")
            if code == 200:
                self.facts.told[verb].add(order)

    # -- what happens to the shop

    def open_deliveries(self, clients):
        """Of all shops; each tells its own. 0 when one of them does not answer."""
        n = 0
        for number, client in enumerate(clients):
            client.number = number
            try:
                status, reply = client.once("GET", "/stats")
            except BROKEN:
                return 0
            n += sum(c["open"] for c in reply["consumers"]) if status == 200 else 0
        return n

    def set_chaos(self, client, consumer, **switches):
        status, reply, _ = client.ask("PUT", f"/chaos/{consumer}", switches)
        if status != 200 and not (status == 409 and switches.get("crash")):  # it has crashed before it replied
            raise Failure(f"PUT /chaos/{consumer} {switches}: {status} {reply}")

    def wait_for_order(self, number):
        poll(f"order {number}", lambda: self.next_order >= number or self.broken_off)
        if self.broken_off:
            raise Failure("see above")

    def one_kill(self, client, nth):
        slow = SLOW[nth % len(SLOW)]
        self.wait_for_order(self.orders * nth // (self.kills + 1))
        self.set_chaos(client, slow, delay_ms=20)
        shop, watchers = self.shops[nth % len(self.shops)], [Client(self) for _ in self.shops]
        parent_too = nth // len(self.shops) % 4 == 3

        def kill():
            if self.broken_off:
                raise Failure("see above")
            n = self.open_deliveries(watchers)
            return n if n >= self.least_open and shop.kill(parent_too) else 0
        self.open_at_kills.append(poll(f"{self.least_open} open deliveries", kill))
        self.set_chaos(client, slow, delay_ms=0)

    def poisoned(self, client, consumer):
        _, reply, _ = client.ask("GET", "/chaos")
        return next((c["poisoned"] for c in reply["consumers"] if c["consumer"] == consumer), 0)

    def letter(self, client, consumer, sequence):
        _, reply, _ = client.ask("GET", f"/dead-letters?consumer={consumer}")
        return next((l for l in reply["dead_letters"] if l["sequence"] == sequence), None)

    def one_crash(self, client, nth):
        """An event that crashes a consumer: a dead letter, until it is healed and redriven."""
        consumer = self.crashing[len(self.facts.guilty) % len(self.crashing)]
        self.set_chaos(client, consumer, crash=True)
        sequence = poll("a poisoned event", lambda: self.poisoned(client, consumer), 0.05)
        self.facts.guilty.add((consumer, sequence))
        letter = poll("its dead letter", lambda: self.letter(client, consumer, sequence), 0.05)
        self.set_chaos(client, consumer, crash=False)
        path = f"/dead-letters/{letter['id']}/redrive"
        status, reply, _ = client.ask("POST", path, key=f"redrive-{self.seed}-{nth}", running=(409,))
        if status != 202:
            raise Failure(f"POST {path}: {status} {reply}")

    def restock(self, client):
        """Two of the products; the third is sold out in the end."""
        for sku in "prod1", "prod2":
            status, reply, _ = client.ask("PUT", f"/inventory/{sku}", {"add": 4 * self.orders})
            if status != 200:
                raise Failure(f"PUT /inventory/{sku}: {status} {reply}")

    def rebuild(self, client):
        """The next kill comes while the figures are counted again."""
        status, reply, _ = client.ask("POST", "/analytics/rebuild")
        if status != 202:
            raise Failure(f"POST /analytics/rebuild: {status} {reply}")

    def trouble(self):
        client = Client(self)
        when = {self.kills * (i + 1) // (self.crashes + 1) for i in range(self.crashes)}
        for nth in range(self.kills):
            if nth == self.kills // 2:
                self.restock(client)
            if nth in when:
                self.one_crash(client, nth)
            if nth == self.kills * 2 // 3:
                self.rebuild(client)
            self.one_kill(client, nth)
        self.done_kills.set()

    # -- all of it

    def guarded(self, fn, *args):
        def run():
            try:
                fn(*args)
            except Exception as why:  # told by the main thread, whatever it is
                self.broken_off = self.broken_off or f"{fn.__name__}: {type(why).__name__} {why}"
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def settled(self, shop):
        """Reads the live statistics, which are no request that the shop counts, until nothing is
        left to do in two of them."""
        conn = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=HUNG)
        conn.request("GET", "/stats/stream", headers={"Accept": "text/event-stream"})
        until, quiet, now = time.monotonic() + HUNG, 0, None
        for line in conn.getresponse():
            if line.startswith(b"data:"):
                now = json.loads(line[5:])
                busy = any(c["lag"] or c["open"] for c in now["consumers"])
                quiet = 0 if busy else quiet + 1
            if quiet == 2:
                return conn.close()
            if time.monotonic() > until:
                break
        raise Failure(f"not everything is settled: {json.dumps(now)}")

    def run(self):
        customers = [self.guarded(self.customer, i) for i in range(CUSTOMERS)]
        people = [self.guarded(self.meddle)]
        trouble = self.guarded(self.trouble)
        for thread in [trouble, *customers]:
            thread.join()
        self.stop.set()
        people[0].join()
        if self.broken_off:
            raise Failure(self.broken_off)
        for shop in self.shops * 2:  # what the last one did may be left for the first one
            self.settled(shop)
        for shop in self.shops:
            shop.stop()


# ---- main ----------------------------------------------------------------------------------------

def size_of_it(shops):
    """Orders, kills, poisoned events."""
    if shops > 1:
        return (10000, 24, 2) if os.environ.get("HARK_TEST_LONG") else (300, 4, 0)
    if os.environ.get("HARK_TEST_LONG"):
        return 40000, 120, 10
    if os.environ.get("HARK_TEST_BRIEF"):
        return 500, 3, 2
    return 10000, 34, 4


def judge(store, facts):
    db = open_books(store)
    wrong = shop_audit.audit(db, facts)
    planted, blind = shop_audit.faults_found(db, facts) if not wrong else (0, [])
    cancelled, refunded = db.execute(
        "SELECT (SELECT count(*) FROM orders WHERE status = 'cancelled'), "
        "(SELECT count(*) FROM payments WHERE refunded_at IS NOT NULL)").fetchone()
    events = db.execute("SELECT count(*) FROM hark_events").fetchone()[0]
    db.close()
    return wrong + blind, planted, f"{events} events, {cancelled} cancelled, {refunded} refunded"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shop", type=Path)
    parser.add_argument("--shops", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--orders", type=int)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--crashes", type=int)
    parser.add_argument("--keep", type=Path, help="copy the files there when something is wrong")
    args = parser.parse_args()
    for name, value in zip(("orders", "kills", "crashes"), size_of_it(args.shops)):
        if getattr(args, name) is None:
            setattr(args, name, value)

    folder, began = Path(tempfile.mkdtemp(prefix="shop-kill-")), time.monotonic()
    facts = shop_audit.Facts(stock=args.orders)
    store = os.environ.get("HARK_TEST_SERVER", f"sqlite:{folder}/shop.db")
    shops = [Shop(args.shop.resolve(), folder, store, free_port(random.Random()), [
        "--stock", str(facts.stock), "--workers", "4", "--payment-delay", "4",
        "--payment-fail-rate", "0.05", "--payment-timeout-rate", "0.05"]) for _ in range(args.shops)]
    campaign = Campaign(shops, facts, args.seed, args.orders, args.kills, args.crashes)
    wrong, planted, figures = [], 0, ""
    try:
        for shop in shops:
            shop.start()
        campaign.run()
        wrong, planted, figures = judge(store, facts)
    except Failure as why:
        wrong = [str(why)]
    finally:
        for shop in shops:
            shop.end()
        if wrong and args.keep:
            shutil.copytree(folder, args.keep, dirs_exist_ok=True)
        tail = "\n".join(shop.tail() for shop in shops if wrong and shop.console.exists())
        shutil.rmtree(folder, ignore_errors=True)

    least, most = min(campaign.open_at_kills, default=0), max(campaign.open_at_kills, default=0)
    counts = campaign.counts
    print(f"{len(facts.placed)} orders, {len(campaign.open_at_kills)} kills with {least} to {most} open "
          f"deliveries, {len(facts.guilty)} poisoned events redriven, {counts['broken']} requests "
          f"broken off, {counts['replayed']} replies replayed, {figures}, "
          f"{time.monotonic() - began:.1f} s; audit: "
          + (f"nothing wrong, {planted} planted faults found" if not wrong else
             f"{len(wrong)} violations, seed {args.seed}"))
    for text in wrong:
        print("  " + text)
    if tail:
        print("console, its end:\n" + tail)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
