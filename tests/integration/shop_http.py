#!/usr/bin/env python3
"""The shop over HTTP: every route of its orders, users, inventory and dead letters, what it refuses and how it
says so, what a kill leaves behind, and its command line.

Usage: shop_http.py SHOP, the program. Each group of checks has a shop of its own, in a fresh directory."""
import collections
import contextlib
import http.client
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HUNG = 120  # seconds
Reply = collections.namedtuple("Reply", "status headers body")
bad = 0


def check(what, good, got=""):
    global bad
    bad += not good
    print(f"{what}: {'ok' if good else f'WRONG: {got}'}", flush=True)


class Shop:
    """A shop that runs, with what it prints; ask() sends it requests."""

    def __init__(self, program, cwd, *options):
        args = [program, "--store", "sqlite:shop.db", "--listen", "127.0.0.1:0", *options]
        if "--page" not in options:
            (cwd / "page").mkdir(exist_ok=True)
            args += ["--page", "page"]
        self.process = subprocess.Popen(args, cwd=cwd, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.lines, self.changed, self.ended = [], threading.Condition(), False
        threading.Thread(target=self.read, daemon=True).start()
        self.port = int(self.line(r"shop: http://127\.0\.0\.1:(\d+)/")[1])

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def find(self, pattern):
        return next((m for m in (re.fullmatch(pattern, line) for line in self.lines) if m), None)

    def line(self, pattern):
        """The first line like this; waits for it."""
        with self.changed:
            self.changed.wait_for(lambda: self.find(pattern) or self.ended, HUNG)
            return self.find(pattern) or sys.exit(f"no line {pattern!r} in: {self.lines}")

    def ask(self, method, path, body=None, **headers):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            text = reply.read().decode()
            json_type = "json" in (reply.headers["Content-Type"] or "")
            return Reply(reply.status, reply.headers, json.loads(text) if json_type else text)
        finally:
            connection.close()

    def order(self, user="user123", product="prod1", quantity=2, **headers):
        return self.ask("POST", "/orders", {"user_id": user, "items": [
            {"product_id": product, "quantity": quantity}]}, **headers)

    def reserved(self, placed):
        """The order when the inventory has seen it."""
        return self.ask("GET", f"/orders/{placed.body['id']}",
                        Hark_Wait=f"consumer=inventory; seq={placed.headers['Hark-Seq']}; max=5s")

    def until(self, path, good):
        """Asks until the reply is good; consumers take their time."""
        pause, end = threading.Event(), time.monotonic() + HUNG
        while not good(reply := self.ask("GET", path)) and time.monotonic() < end:
            pause.wait(0.05)
        return reply

    def shows(self, order_id, status):
        return self.until(f"/orders/{order_id}", lambda r: r.body.get("status") == status)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(HUNG)


@contextlib.contextmanager
def shop(program, cwd, *options):
    running = Shop(program, cwd, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def problem(reply, status, *texts):
    """A problem document with this status, in whose detail the texts are."""
    return (reply.status == status and reply.headers["Content-Type"] == "application/problem+json" and
            reply.body["status"] == status and all(t in reply.body.get("detail", "") for t in texts))


# ---- users ----


def users(s):
    john = s.ask("POST", "/users")
    check("POST /users without a body makes John Doe", john.status == 201 and
          {"name": "John Doe", "email": "john@example.com"}.items() <= john.body.items() and
          set(john.body) == {"id", "name", "email", "created_at"}, john)
    check("its Location leads to it", s.ask("GET", john.headers["Location"]).body ==
          {**john.body, "points": 0, "orders": 0}, john.headers)
    ann = s.ask("POST", "/users", {"name": "Ann", "email": "ann@example.com"})
    check("POST /users", ann.status == 201 and ann.body["name"] == "Ann", ann)
    check("user123 is there from the start", s.ask("GET", "/users/user123").body["name"] == "John Doe")
    check("no such user", problem(s.ask("GET", "/users/eve"), 404, "there is no user eve"))
    for body, path in (({"name": "Ann"}, "$.email"), ({"name": "", "email": "a@b"}, "$.name"),
                       ({"name": "Ann", "email": "ann.example"}, "$.email"),
                       ({"name": "Ann", "email": "x@" + "y" * 300}, "$.email")):
        r = s.ask("POST", "/users", body)
        check(f"POST /users {json.dumps(body)[:40]} blames {path}",
              r.status == 422 and [e["path"] for e in r.body["errors"]] == [path], r)


# ---- placing ----

TEAPOT = {"product_id": "prod1", "quantity": 2}
FAULTS = [  # what is changed of a good order, the status, the paths that are blamed
    ({"user_id": "eve"}, 422, ["$.user_id"]), ({"user_id": ""}, 422, ["$.user_id"]),
    ({"user_id": None}, 422, ["$.user_id"]), ({"items": []}, 422, ["$.items"]),
    ({"items": [TEAPOT] * 51}, 422, ["$.items"]),
    ({"items": [{**TEAPOT, "quantity": 0}]}, 422, ["$.items[0].quantity"]),
    ({"items": [{**TEAPOT, "quantity": -1}]}, 422, ["$.items[0].quantity"]),
    ({"items": [TEAPOT, {**TEAPOT, "quantity": 1001}]}, 422, ["$.items[1].quantity"]),
    ({"items": [{**TEAPOT, "quantity": 1.5}]}, 422, ["$.items[0].quantity"]),
    ({"items": [TEAPOT, {"product_id": "prod9", "quantity": 1}]}, 422, ["$.items[1].product_id"]),
    ({"items": [{**TEAPOT, "price": 10.98}]}, 422, ["$.items[0].price"]),
    ({"items": [{**TEAPOT, "price": 0}]}, 422, ["$.items[0].price"]),
    ({"items": [{**TEAPOT, "price": 10.999}]}, 422, ["$.items[0].price"]),
    ({"total": 21.97}, 422, ["$.total"]), ({"total": -1}, 422, ["$.total"]),
    ({"user_id": 7, "items": [{"quantity": "2"}]}, 422,
     ["$.user_id", "$.items[0].quantity", "$.items[0].product_id"]),
]


def placing(s):
    plain = s.ask("POST", "/orders")
    check("POST /orders without a body is the guide's order", plain.status == 201 and
          {"user_id": "user123", "items": [{"product_id": "prod1", "quantity": 2, "price": 10.99}],
           "total": 21.98, "currency": "EUR", "status": "created"}.items() <= plain.body.items() and
          plain.body["id"].startswith("ord-") and set(plain.body) ==
          {"id", "user_id", "items", "total", "currency", "status", "created_at"}, plain)
    check("its Location", plain.headers["Location"] == f"/orders/{plain.body['id']}", plain.headers)
    full = s.ask("POST", "/orders", {"user_id": "user123", "total": 33.73, "status": "shipped", "id": "o456", "items": [
        {"product_id": "prod1", "quantity": 2, "price": 10.99}, {"product_id": "prod2", "quantity": 1},
        {"product_id": "prod3", "quantity": 1, "price": 7.25}]})
    check("prices and total that are ours are taken, id and status are not", full.status == 201 and
          full.body["total"] == 33.73 and full.body["status"] == "created" and full.body["id"] != "o456" and
          [i["price"] for i in full.body["items"]] == [10.99, 4.5, 7.25], full)
    before = s.ask("GET", "/orders?limit=1").body["orders"][0]["id"]
    for change, status, paths in FAULTS:
        r = s.ask("POST", "/orders", {"user_id": "user123", "items": [TEAPOT], **change})
        check(f"POST /orders {json.dumps(change)[:60]} is {status}", problem(r, status, paths[0]) and
              sorted(e["path"] for e in r.body["errors"]) == sorted(paths) and
              all(e["pointer"].startswith("#/") and e["detail"] for e in r.body["errors"]), r)
    check("a body that is no JSON", problem(s.ask("POST", "/orders", "{"), 400))
    check("a body of another type", problem(s.ask("POST", "/orders", "x", Content_Type="text/plain"), 415,
                                            "application/json"))
    check("nothing was placed by those", s.ask("GET", "/orders?limit=1").body["orders"][0]["id"] == before)


# ---- from one state to the next ----


def states(s):
    placed = s.order()
    path = f"/orders/{placed.body['id']}"
    check("stock is reserved", s.reserved(placed).body["status"] == "reserved")
    check("it cannot be shipped before", problem(s.ask("PUT", path + "/ship"), 409, "reserved", "paid first"))
    paid = s.ask("PUT", path + "/pay", {"reference": "tx-1"})
    check("PUT pay", paid.status == 200 and paid.body == {**placed.body, "status": "paid"}, paid)
    check("only once", problem(s.ask("PUT", path + "/pay"), 409, "is paid already"))
    shipped = s.ask("PUT", path + "/ship")
    check("PUT ship", shipped.status == 200 and shipped.body["status"] == "shipped", shipped)
    check("only once, too", problem(s.ask("PUT", path + "/ship"), 409, "is shipped already"))
    check("nor paid again", problem(s.ask("PUT", path + "/pay"), 409, "is shipped: it can't be paid"))
    check("nor cancelled", problem(s.ask("PUT", path + "/cancel"), 409, "is shipped: it can't be cancelled"))
    check("GET shows it", s.ask("GET", path).body == shipped.body)
    for what in ("pay", "ship", "cancel"):
        check(f"PUT {what} of no order", problem(s.ask("PUT", f"/orders/ord-x/{what}"), 404, "no order ord-x"))
    check("GET of no order", problem(s.ask("GET", "/orders/ord-x"), 404, "no order ord-x"))
    check("a reference that is too long", s.ask("PUT", path + "/pay", {"reference": "x" * 41}).status == 422)
    check("another method", s.ask("DELETE", path).status == 405)


def cancelling(s):
    def stock():
        return next(i for i in s.ask("GET", "/inventory").body["items"] if i["sku"] == "prod2")
    before, placed = stock(), s.order(product="prod2", quantity=7)
    path = f"/orders/{placed.body['id']}"
    s.reserved(placed)
    held = stock()
    check("what is reserved is not in stock", (held["stock"], held["reserved"]) ==
          (before["stock"] - 7, before["reserved"] + 7), held)
    gone = s.ask("PUT", path + "/cancel", {"reason": "too much tea"})
    check("PUT cancel", gone.status == 200 and
          gone.body == {**placed.body, "status": "cancelled", "reason": "too much tea"}, gone)
    check("only once", problem(s.ask("PUT", path + "/cancel"), 409, "is cancelled already"))
    check("nor paid", problem(s.ask("PUT", path + "/pay"), 409, "is cancelled: too much tea"))
    s.reserved(gone)
    check("its stock is back", stock() == before, stock())
    twice = s.ask("POST", "/orders", {"user_id": "user123", "items": [
        {"product_id": "prod2", "quantity": n} for n in (2, 3)]})
    s.reserved(twice)
    check("two lines may name one product", stock()["reserved"] == before["reserved"] + 5, stock())
    s.reserved(s.ask("PUT", f"/orders/{twice.body['id']}/cancel"))
    check("both are given back", stock() == before, stock())
    sold_out = s.order(product="prod2", quantity=1000)
    r = s.shows(sold_out.body["id"], "cancelled")
    check("what is sold out is cancelled", "Cup is sold out: 1000 wanted" in r.body["reason"], r)
    check("and takes no stock", stock() == before, stock())


def waiting_for_stock(s):
    s.ask("PUT", "/chaos/inventory", {"fail_rate": 1})
    placed = s.order()
    early = s.ask("PUT", f"/orders/{placed.body['id']}/pay")
    check("an order whose stock is not reserved yet is to be paid in a moment", problem(
        early, 409, "is created", "try again in a moment") and early.headers["Retry-After"] == "1", early)
    wait = f"consumer=inventory; seq={placed.headers['Hark-Seq']}; max=20ms"
    late = s.ask("GET", f"/orders/{placed.body['id']}", Hark_Wait=wait)
    check("Hark-Wait says who lags", late.status == 409 and late.body["consumer"] == "inventory", late)
    s.ask("PUT", "/chaos/inventory", {"fail_rate": 0})
    s.shows(placed.body["id"], "reserved")
    check("and later it can be", s.ask("PUT", f"/orders/{placed.body['id']}/pay").status == 200)


# ---- lists ----


def paging(s):
    user = s.ask("POST", "/users").body["id"]
    ids = [s.order(user).body["id"] for _ in range(7)][::-1]
    path, pages = f"/orders?user_id={user}&limit=3", []
    r = s.ask("GET", path)
    while True:
        pages.append([o["id"] for o in r.body["orders"]])
        if "next" not in r.body:
            break
        r = s.ask("GET", f"{path}&after={r.body['next']}")
    check("pages, newest first", pages == [ids[:3], ids[3:6], ids[6:]], pages)
    check("all of them", [o["id"] for o in s.ask("GET", f"/orders?user_id={user}").body["orders"]] == ids)
    check("a page that is just full is the last", "next" not in s.ask("GET", f"/orders?user_id={user}&limit=7").body)
    s.ask("PUT", f"/orders/{ids[2]}/cancel")
    few = s.ask("GET", f"/orders?user_id={user}&status=cancelled").body
    check("by status", [o["id"] for o in few["orders"]] == [ids[2]], few)
    check("of no user", s.ask("GET", "/orders?user_id=eve").body == {"orders": []})
    for _ in range(20 - len(ids)):
        s.order()
    check("the default is 20", len(s.ask("GET", "/orders").body["orders"]) == 20)
    check("the user's orders are counted", s.ask("GET", f"/users/{user}").body["orders"] == 7)
    for query, text in (("limit=0", "from 1 to 100"), ("limit=101", "from 1 to 100"), ("limit=x", '"x"'),
                        ("limit=", "limit"), ("status=lost", "expected created"), ("after=ord-x", "no order ord-x")):
        check(f"GET /orders?{query}", problem(s.ask("GET", f"/orders?{query}"), 400, text))
    cursor = s.ask("GET", "/orders").headers["Hark-Seq"]
    check("a list says where the log is", re.fullmatch(r"[0-9a-f]{8}\.\d+-\d+", cursor), cursor)


def inventory(s):
    items = {i["sku"]: i for i in s.ask("GET", "/inventory").body["items"]}
    check("GET /inventory", list(items) == ["prod1", "prod2", "prod3"] and items["prod1"]["price"] == 10.99 and
          set(items["prod1"]) == {"sku", "name", "price", "stock", "reserved", "sold"}, items)
    check("nothing is lost", all(i["stock"] + i["reserved"] + i["sold"] == 100 for i in items.values()), items)
    more = s.ask("PUT", "/inventory/prod3", {"add": 5})
    check("PUT /inventory/:sku", more.status == 200 and
          more.body == {**items["prod3"], "stock": items["prod3"]["stock"] + 5}, more)
    check("no such product", problem(s.ask("PUT", "/inventory/prod9", {"add": 5}), 404, "no product prod9"))
    for body in ({"add": 0}, {"add": -1}, {"add": 1000001}, {}, {"add": "5"}):
        r = s.ask("PUT", "/inventory/prod3", body)
        check(f"PUT /inventory/prod3 {body}", problem(r, 422, "$.add"), r)
    check("and no body", problem(s.ask("PUT", "/inventory/prod3"), 400, "body is empty"))


# ---- live ----


@contextlib.contextmanager
def stream(s, path, **headers):
    """Messages of a live reply, one after the other: their fields."""
    connection = http.client.HTTPConnection("127.0.0.1", s.port, timeout=HUNG)

    def messages(reply):
        message = {}
        for line in reply:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name:
                message[name] = value
            elif "data" in message:
                yield {**message, "data": json.loads(message["data"])}
            if not name:
                message = {}
    try:
        connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        yield reply, messages(reply)
    finally:
        connection.close()


def live(s):
    user = s.ask("POST", "/users").body["id"]
    before = s.ask("GET", f"/orders?user_id={user}").headers["Hark-Seq"]
    with stream(s, f"/orders/stream?user_id={user}") as (reply, messages):
        check("GET /orders/stream", reply.status == 200 and
              reply.headers["Content-Type"].startswith("text/event-stream"), reply.headers)
        s.order()
        mine = s.order(user).body
        got = [next(messages) for _ in range(4)]
        check("it shows the user's orders and no others", [m["data"] for m in got] == [
            {"id": mine["id"], "user_id": user, "status": status, "total": 21.98}
            for status in ("created", "reserved", "paid", "shipped")], got)
    with stream(s, f"/orders/stream?user_id={user}", Last_Event_ID=got[0]["id"]) as (_, messages):
        check("who comes back misses nothing", next(messages) == got[1])
    with stream(s, f"/orders/stream?user_id={user}&lastEventId={before}") as (_, messages):
        check("nor who goes on from a list", [next(messages) for _ in range(4)] == got)
    cancelled = s.order(user, quantity=1000).body["id"]
    with stream(s, f"/orders/stream?user_id={user}", Last_Event_ID=got[3]["id"]) as (_, messages):
        end = [next(messages)["data"] for _ in range(2)][1]
        check("it says why", end["id"] == cancelled and end["status"] == "cancelled" and
              "sold out" in end["reason"], end)
    check("a cursor that is none", s.ask("GET", "/orders/stream?lastEventId=x").status == 400)


# ---- repeats ----


def same_reply(first, again):
    return (first[::2] == again[::2] and again.headers["Idempotent-Replay"] == "true" and
            first.headers["Location"] == again.headers["Location"])


def repeats(s):
    key = {"Idempotency_Key": "7f3a"}
    user = s.ask("POST", "/users").body["id"]
    first, again = s.order(user, **key), s.order(user, **key)
    check("a repeat gets the same order", first.status == 201 and same_reply(first, again), again)
    check("there is one", s.ask("GET", f"/users/{user}").body["orders"] == 1)
    check("another body under the key", problem(s.order(user, quantity=3, **key), 422, "key was used"))
    wrong = [s.order("eve", Idempotency_Key="b") for _ in range(2)]
    check("a refusal is repeated, errors and all", same_reply(*wrong) and wrong[1].body["errors"], wrong[1])
    made = [s.ask("POST", "/users", Idempotency_Key="c") for _ in range(2)]
    check("users, too", same_reply(*made), made)
    return user, first


def after_a_kill(program, cwd, user, first):
    with shop(program, cwd, "--payment", "manual", "--quiet") as s:
        check("after a kill the order is there", s.ask("GET", first.headers["Location"]).body["id"] == first.body["id"])
        check("its key is known", same_reply(first, s.order(user, Idempotency_Key="7f3a")))
        check("the first stock is not put there again", sum(
            i[k] for i in s.ask("GET", "/inventory").body["items"] for k in ("stock", "reserved", "sold")) == 100300)
        check("SIGTERM ends it in order", s.stop() == 0, s.lines)


def by_hand(program, cwd):
    with shop(program, cwd, "--payment", "manual", "--shipping", "manual", "--stock", "100", "--no-supervise",
              "--quiet") as s:
        users(s)
        states(s)
        cancelling(s)
        waiting_for_stock(s)
        s.ask("PUT", "/inventory/prod1", {"add": 100000})
        placing(s)
        paging(s)
        kept = repeats(s)
        s.stop(signal.SIGKILL)
    after_a_kill(program, cwd, *kept)


# ---- by itself ----


def by_itself(program, cwd):
    with shop(program, cwd, "--stock", "100") as s:
        placed = s.order()
        done = s.shows(placed.body["id"], "shipped")
        check("an order is paid and shipped", done.body == {**placed.body, "status": "shipped"}, done)
        user = s.until("/users/user123", lambda r: r.body["points"] > 0)
        check("a point for each whole euro", user.body["points"] == 21, user)
        for what in ("placed by user123, 2 x prod1, 21.98 EUR", "stock reserved", r"paid 21\.98 EUR", "shipped.*"):
            check(f"the console tells it: {what}", s.line(f"order {placed.body['id']}: {what}"))
        inventory(s)
        live(s)
        letters(s)
        check("Ctrl-C ends it", s.stop(signal.SIGINT) in (0, 130), s.lines)


def pages_of_letters(s, first):
    """A second dead letter, of loyalty; the first one is there already."""
    s.ask("PUT", "/chaos/loyalty", {"crash": True})
    s.order()
    s.line("shop: started again after a crash; crashes so far: 6")
    both = s.until("/dead-letters", lambda r: len(r.body["dead_letters"]) == 2).body
    second = both["dead_letters"][1]
    check("all dead letters are one page", both["dead_letters"][0] == first and "next" not in both, both)
    page = s.ask("GET", "/dead-letters?limit=1").body
    check("a page of them, the oldest first", page == {"dead_letters": [first], "next": first["id"]}, page)
    page = s.ask("GET", f"/dead-letters?limit=1&after={page['next']}").body
    check("the next page is the last one", page == {"dead_letters": [second]}, page)
    page = s.ask("GET", "/dead-letters?limit=1&consumer=inventory").body
    check("pages of one consumer", page == {"dead_letters": [first]}, page)
    for query in "limit=0", "limit=1001", "limit=x", "after=-1", "after=x":
        check(f"GET /dead-letters?{query}", problem(s.ask("GET", f"/dead-letters?{query}"), 400, query[:5]))
    s.ask("PUT", "/chaos/loyalty", {"crash": False})
    check("redrive it", s.ask("POST", f"/dead-letters/{second['id']}/redrive").status == 202)


def letters(s):
    """An order crashes the inventory, which is mended then."""
    check("no dead letters", s.ask("GET", "/dead-letters").body == {"dead_letters": []})
    s.ask("PUT", "/chaos/inventory", {"crash": True})
    port, placed = s.port, s.order()
    s.line("shop: started again after a crash; crashes so far: 3")
    got = s.until("/dead-letters?consumer=inventory", lambda r: r.body["dead_letters"])
    letter = got.body["dead_letters"][0]
    check("an event that crashes the shop becomes a dead letter", len(got.body["dead_letters"]) == 1 and {
        "consumer": "inventory", "type": "order:created", "subject": placed.body["id"], "reason": "crash",
        "crashes": 3, "redriven": False}.items() <= letter.items(), got)
    check("the port stays", s.ask("GET", "/inventory").status == 200 and s.port == port)
    check("of no consumer", problem(s.ask("GET", "/dead-letters?consumer=x"), 404, "x"))
    check("nor of another", s.ask("GET", "/dead-letters?consumer=loyalty").body == {"dead_letters": []})
    pages_of_letters(s, letter)
    s.ask("PUT", "/chaos/inventory", {"crash": False})
    r = s.ask("POST", f"/dead-letters/{letter['id']}/redrive")
    check("redrive", r.status == 202 and r.body == {"id": letter["id"], "state": "redriven"}, r)
    check("mended, the order goes on", s.shows(placed.body["id"], "shipped").body["status"] == "shipped")
    check("the letter is gone", s.until("/dead-letters", lambda r: not r.body["dead_letters"]))
    for which in ("77", "x", "-1", "99999999999999999999999"):
        check(f"redrive of {which}", problem(s.ask("POST", f"/dead-letters/{which}/redrive"), 404))


def in_time(program, cwd):
    with shop(program, cwd, "--payment", "manual", "--payment-due", "0.2", "--quiet") as s:
        r = s.shows(s.order().body["id"], "cancelled")
        check("what is not paid in time is cancelled", r.body.get("reason") == "not paid in time", r)


def demo(program, cwd):
    with shop(program, cwd, "--demo=200", "--quiet") as s:
        r = s.until("/orders?limit=100&status=shipped", lambda r: len(r.body["orders"]) == 100)
        check("--demo has customers", len({o["user_id"] for o in r.body["orders"]}) > 1, r)
        check("and ends", s.stop() == 0, s.lines)


def page(program, cwd):
    (cwd / "web").mkdir()
    (cwd / "web/index.html").write_text("<title>Tea</title>")
    with shop(program, cwd, "--page", "web", "--quiet") as s:
        r = s.ask("GET", "/")
        check("the page", r.status == 200 and r.body == "<title>Tea</title>" and
              r.headers["Content-Type"].startswith("text/html"), r)
        check("no such page", problem(s.ask("GET", "/none.html"), 404))


def command_line(program, cwd):
    def run(*args):
        done = subprocess.run([program, *args], cwd=cwd, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=HUNG)
        return done.returncode, done.stdout
    status, out = run("--help")
    check("--help", status == 0 and "--payment-due SECONDS" in out and "--demo[=N]" in out, out)
    for args, text in ((["--none"], "--help"), (["x"], "x"), (["--stock", "-1"], "from 0 to"),
                       (["--payment", "never"], "auto or manual"), (["--payment-fail-rate", "1.1"], "from 0 to 1"),
                       (["--workers", "0"], "from 1 to 256"), (["--demo=x"], "from 1 to"),
                       (["--payment-due", "soon"], "a number")):
        status, out = run(*args)
        check(f"shop {' '.join(args)}", status == 2 and text in out, (status, out))
    for args, text in ((["--page", "nowhere"], "nowhere"), (["--listen", "here"], "here"), (["--store", "x:y"], "x:y")):
        status, out = run("--listen", "127.0.0.1:0", "--page", ".", *args)
        check(f"shop {' '.join(args)}", status == 1 and text in out, (status, out))
    with shop(program, cwd, "--quiet") as s:
        status, out = run("--listen", f"127.0.0.1:{s.port}", "--store", "sqlite:b.db", "--page", ".")
        check("a port that is in use", status == 1 and str(s.port) in out, (status, out))


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} SHOP")
    program = Path(sys.argv[1]).resolve()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it crashes on purpose
    for group in (by_hand, by_itself, in_time, demo, page, command_line):
        with tempfile.TemporaryDirectory() as cwd:
            group(program, Path(cwd))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
