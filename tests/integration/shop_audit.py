"""The books of the shop, read without anything of hark's (shop_books.py): do the rows, the log and what
clients were told add up? Used by shop_kill.py.

Each check is a generator of violations; `audit` runs all of them. `faults_found` plants faults in the
database, one at a time in a transaction that is rolled back, and sees that the check finds each."""
import collections
import datetime
import itertools
import json

from shop_books import share_of

ENDS = {"shipped", "cancelled"}


class Facts:
    """What the harness knows: what it asked for and was told."""

    def __init__(self, stock):
        self.stock = stock
        self.placed = {}       # order id: (key, [(product, quantity)])
        self.told = collections.defaultdict(set)  # "cancel", "pay", "ship": ids answered 200
        self.guilty = set()    # (consumer, sequence) of poisoned events


class Books:
    """The database: events by type, orders with their items."""

    def __init__(self, db, facts):
        self.db, self.facts = db, facts
        self.events = [Event(*row) for row in db.execute(db.EVENTS)]
        self.of_type = collections.defaultdict(list)
        for e in self.events:
            self.of_type[e.type].append(e)
        self.orders = {o[0]: o for o in db.execute(
            "SELECT id, user_id, total, status, holds, currency FROM orders")}
        self.items = collections.defaultdict(list)
        for order, sku, n, price in db.execute("SELECT order_id, product_id, quantity, price "
                                               "FROM order_items ORDER BY order_id, line"):
            self.items[order].append((sku, n, price))

    def with_status(self, *wanted):
        return {i for i, o in self.orders.items() if o[3] in wanted}

    def above(self, floor):
        return itertools.takewhile(lambda e: e.seq > floor, reversed(self.events))

    def subjects(self, event_type):
        return collections.Counter(e.subject for e in self.of_type[event_type])

    def column(self, sql):
        return collections.Counter(row[0] for row in self.db.execute(sql))


class Event(collections.namedtuple("Event", "seq recorded type id version subject correlation "
                                              "cause user partition data")):
    def read(self):
        return json.loads(self.data)


def same(what, left, right, left_name, right_name):
    """Two counters (or lists, or sets) must be equal; tells up to five of what is not."""
    left, right = collections.Counter(left), collections.Counter(right)
    wrong = [k for k in left.keys() | right.keys() if left[k] != right[k]]
    for k in sorted(wrong, key=str)[:5]:
        yield f"{what} {k}: {left[k]} in {left_name}, {right[k]} in {right_name}"
    if len(wrong) > 5:
        yield f"{what}: and {len(wrong) - 5} more"


# ---- the checks ----------------------------------------------------------------------------------

def sound(b):
    """The database finds nothing wrong with itself."""
    yield from b.db.sound()


def stock(b):
    """start = stock + sold, nothing is reserved, and sold is what the shipped orders have."""
    sold, restocked = collections.Counter(), collections.Counter()
    for order in b.with_status("shipped"):
        for sku, n, _ in b.items[order]:
            sold[sku] += n
    for e in b.of_type["inventory:restocked"]:
        restocked[e.subject] += e.read()["quantity"]
    for sku, start, left, reserved, gone in b.db.execute(
            "SELECT sku, start, stock, reserved, sold FROM products"):
        if reserved or left < 0 or start != left + gone:
            yield f"{sku}: start {start}, stock {left}, reserved {reserved}, sold {gone}"
        if gone != sold[sku]:
            yield f"{sku}: sold {gone}, but shipped orders have {sold[sku]}"
        if start != restocked[sku] or start < b.facts.stock:
            yield f"{sku}: start {start}, but {restocked[sku]} restocked, {b.facts.stock} of it at first"


def holds(b):
    """What is shipped or cancelled holds no stock, and what was reserved was sold or released."""
    for order, row in b.orders.items():
        if row[4]:
            yield f"{order} is {row[3]} and holds stock"
    back = set(b.subjects("inventory:reserved")) & b.with_status("cancelled")
    yield from same("stock of", b.subjects("inventory:released"), back,
                    "inventory:released", "cancelled after a reservation")
    yield from same("reservation of", b.subjects("inventory:reserved"),
                    set(b.subjects("inventory:reserved")), "inventory:reserved", "orders with one")


def placed(b):
    """What was answered 201 is there once, as it was asked for, and nothing else is; a key is one
    order."""
    facts = b.facts.placed
    yield from same("order", set(b.orders), set(facts), "the table", "replies")
    yield from same("key", [key for key, _ in facts.values()], {key for key, _ in facts.values()},
                    "replies", "keys")
    for order, (_, items) in facts.items():
        if [i[:2] for i in b.items[order]] != items:
            yield f"{order}: asked for {items}, has {b.items[order]}"


def created(b):
    """One order:created an order, with its content; one deadline, waiting or over."""
    yield from same("order:created of", b.subjects("order:created"), set(b.orders), "the log", "the table")
    for e in b.of_type["order:created"]:
        data, row = e.read(), b.orders.get(e.subject)
        items = [(i["product_id"], i["quantity"], i["price"]) for i in data["items"]]
        total = sum(n * price for _, n, price in items)
        if row and (items != b.items[e.subject] or not data["total"] == row[2] == total):
            yield f"{e.subject}: event {data}, row {row} {b.items[e.subject]}"
    due = [e.id for e in b.of_type["payment:due"]]
    due += b.column("SELECT event_id FROM hark_schedules").elements()
    yield from same("deadline", due, [f"due-{i}" for i in b.orders], "schedules and log", "orders")


def ended(b):
    """Every order is shipped or cancelled, once, as its events and rows say, and clients were told."""
    for order, row in b.orders.items():
        if row[3] not in ENDS:
            yield f"{order} is still {row[3]}"
    shipped, cancelled = b.with_status("shipped"), b.with_status("cancelled")
    yield from same("order", b.subjects("order:shipped"), shipped, "order:shipped", "status")
    yield from same("order", b.column("SELECT order_id FROM shipments"), shipped, "shipments", "status")
    yield from same("order", b.subjects("order:cancelled"), cancelled, "order:cancelled", "status")
    paid = set(b.column("SELECT order_id FROM payments"))
    for verb, done in ("cancel", cancelled), ("ship", shipped), ("pay", paid):
        for order in b.facts.told[verb] - done:
            yield f"PUT /orders/{order}/{verb} was answered 200, and is not done"


def money(b):
    """Who paid has the goods or the money back, once: never both, never neither."""
    rows = {o: (amount, back) for o, amount, back in b.db.execute(
        "SELECT order_id, amount, refunded_at IS NOT NULL FROM payments")}
    yield from same("payment of", b.subjects("order:paid"), set(rows), "order:paid", "payments")
    refunded = {o for o, (_, back) in rows.items() if back}
    yield from same("refund of", b.subjects("payment:refunded"), refunded, "payment:refunded", "payments")
    for order, (amount, back) in rows.items():
        row = b.orders.get(order)
        if not row or amount != row[2] or (row[3] == "cancelled") != bool(back):
            yield f"{order}: paid {amount}, refunded {back}, order {row}"
    for order in b.with_status("shipped") - set(rows):
        yield f"{order} is shipped and not paid"
    for e in b.of_type["payment:refunded"]:
        if e.read()["total"] != rows.get(e.subject, (None,))[0]:
            yield f"{e.subject}: refunded {e.read()['total']}, paid {rows.get(e.subject)}"


def points(b):
    """A row for each paid order."""
    rows = {(o, u, p) for o, u, p in b.db.execute("SELECT order_id, user_id, points FROM points")}
    due = {(e.subject, b.orders[e.subject][1], max(1, b.orders[e.subject][2] // 100))
           for e in b.of_type["order:paid"] if e.subject in b.orders}
    yield from same("points", rows, due, "the table", "paid orders")


MAILS = {"order:created": "created", "order:paid": "paid", "order:shipped": "shipped",
         "order:cancelled": "cancelled", "payment:failed": "payment-failed"}


def mails(b):
    """One mail for each thing that a customer is told."""
    sent = [tuple(r) for r in b.db.execute("SELECT order_id, kind FROM mails")]
    due = {(e.subject, kind) for t, kind in MAILS.items() for e in b.of_type[t]}
    yield from same("mail", sent, due, "the table", "the log")


def trail(b):
    """The audit trail is the log."""
    rows = [tuple(r) for r in b.db.execute(
        "SELECT seq, type, subject, userid, correlationid, causationid, recorded_at FROM audit")]
    log = [(e.seq, e.type, e.subject, e.user, e.correlation, e.cause, e.recorded) for e in b.events
           if not e.type.startswith("hark:")]
    yield from same("event", rows, log, "audit", "the log")


def log(b):
    """Sequences without a hole, sources and ids once, subjects' versions from 1."""
    for place, e in enumerate(b.events, 1):
        if e.seq != place:
            yield f"event {place} of the log has sequence {e.seq}"
            break
    yield from same("id", [e.id for e in b.events], {e.id for e in b.events}, "the log", "ids")
    yield from (f"subject {s} has {n} events up to version {last}" for s, n, last in b.db.execute(
        "SELECT subject, count(*), max(subject_version) FROM hark_events "
        "WHERE subject IS NOT NULL GROUP BY subject HAVING count(*) <> max(subject_version)"))
    yield from (f"gap {r}" for r in b.db.execute("SELECT * FROM hark_gaps"))


def numbers(blob):
    value = shift = 0
    for byte in blob or b"":
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            yield value
            value = shift = 0


def settled_above(floor, blob):
    """The settled sequences above a floor, as a set."""
    out, at, pair = set(), floor, list(numbers(blob))
    for skip, more in zip(pair[::2], pair[1::2]):
        first = at + skip + 1
        at = first + more
        out.update(range(first, at + 1))
    return out


def matches(pattern, kind):
    """The patterns of hark/event.h, once more."""
    def segments(text):
        return text.replace(".", ":").replace("/", ":").split(":")

    def one(part):
        have, want = segments(kind), segments(part)
        if have[0] in ("hark", "dead_letter") and want[0] != have[0]:
            return False
        rest = want[-1] == "**"
        want = want[:-1] if rest else want
        if len(have) < len(want) or (len(have) > len(want) and not rest):
            return False
        return all(w in ("*", h) for w, h in zip(want, have))
    return any(one(part) for part in pattern.split("|"))


def consumers(b):
    """Every consumer has settled every event that it listens to; nothing is open."""
    head = b.events[-1].seq if b.events else 0
    settled_rows = {tuple(r) for r in b.db.execute(
        "SELECT consumer_id, seq FROM hark_deliveries WHERE state = 6")}
    for cid, name, pattern, share, shares, floor, blob, paused in b.db.consumers():
        done = settled_above(floor, blob)
        owed = [e.seq for e in b.above(floor) if e.seq not in done and (cid, e.seq) not in settled_rows and
                matches(pattern, e.type) and share_of(e, shares) == share]
        if owed or paused or floor > head:
            yield (f"{name}, share {share} of {shares}: floor {floor}, head {head}, paused {paused}, "
                   f"{len(owed)} not settled: {owed[:5]}")
    for row in b.db.execute("SELECT name, seq, state, attempts, crashes, interruptions, error FROM "
                            "hark_deliveries d JOIN hark_consumers c ON c.id = d.consumer_id "
                            "WHERE state <> 6 LIMIT 5"):
        yield f"open delivery {row}"


def letters(b):
    """Dead letters were the poisoned events and no others, and none is left."""
    announced = [(e.read()["consumer"], e.read()["sequence"]) for e in b.of_type["dead_letter"]]
    yield from same("dead letter", announced, b.facts.guilty, "the log", "poisoned events")
    for row in b.db.execute("SELECT name, seq, reason, error, state FROM hark_dead_letters l "
                            "JOIN hark_consumers c ON c.id = l.consumer_id LIMIT 5"):
        yield f"a dead letter is left: {row}"


def analytics(b):
    """The figures are those of the log, counted again."""
    totals, products, days = collections.Counter(), collections.Counter(), collections.Counter()
    for kind in "created", "paid", "shipped", "cancelled":
        for e in b.of_type["order:" + kind]:
            order = e.read()
            day = datetime.datetime.fromtimestamp(e.recorded // 10**9, datetime.timezone.utc)
            days[f"{day:%Y-%m-%d}", kind, "n"] += 1
            days[f"{day:%Y-%m-%d}", kind, "total"] += order["total"]
            totals["orders:" + kind] += 1
            for i in order["items"]:
                if kind == "created":
                    products[i["product_id"], "ordered"] += i["quantity"]
                    totals["units"] += i["quantity"]
                elif kind == "paid":
                    products[i["product_id"], "gross"] += i["quantity"] * i["price"]
            totals["revenue"] += order["total"] if kind == "paid" else 0
    for e in b.of_type["payment:refunded"]:
        totals["revenue"] -= e.read()["total"]
    table = {n: v for n, v in b.db.execute("SELECT name, n FROM analytics_totals")}
    yield from same("figure", table, totals, "analytics_totals", "the log")
    table = {k: v for sku, n, r in b.db.execute("SELECT sku, ordered, gross FROM analytics_products")
             for k, v in (((sku, "ordered"), n), ((sku, "gross"), r))}
    yield from same("figure", table, products, "analytics_products", "the log")
    table = {k: v for day, status, n, t in b.db.execute("SELECT * FROM analytics_days")
             for k, v in (((day, status, "n"), n), ((day, status, "total"), t))}
    yield from same("figure", table, days, "analytics_days", "the log")
    counted = [e.seq for e in b.events if matches("order:*|payment:refunded", e.type)]
    yield from same("event", b.column("SELECT seq FROM analytics_seen"), counted, "analytics_seen", "the log")


CHECKS = [sound, stock, holds, placed, created, ended, money, points, mails, trail, log, consumers,
          letters, analytics]


def audit(db, facts):
    books = Books(db, facts)
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check(books)]


# ---- does the audit see anything? ----------------------------------------------------------------

SHIPPED = "(SELECT id FROM orders WHERE status = 'shipped' LIMIT 1)"
REFUNDED = "(SELECT order_id FROM payments WHERE refunded_at IS NOT NULL LIMIT 1)"

# A check, and SQL that it must not overlook, or the name of such SQL in shop_books.py and what it is done to.
FAULTS = [
    (stock, "UPDATE products SET sold = sold + 1, stock = stock - 1 WHERE sku = 'prod1'"),
    (stock, "UPDATE products SET start = start + 1, stock = stock + 1 WHERE sku = 'prod2'"),
    (stock, "UPDATE products SET reserved = 1, stock = stock - 1 WHERE sku = 'prod2'"),
    (holds, f"UPDATE orders SET holds = 1 WHERE id = {SHIPPED}"),
    (placed, f"DELETE FROM orders WHERE id = {SHIPPED}"),
    (placed, "INSERT INTO orders SELECT id || 'x', user_id, total, currency, status, reason, "
             "created_at, holds FROM orders LIMIT 1"),
    (placed, f"UPDATE order_items SET quantity = quantity + 1 WHERE order_id = {SHIPPED}"),
    (created, ("again", "order:created")),
    (created, "DELETE FROM hark_schedules WHERE id = (SELECT min(id) FROM hark_schedules)"),
    (ended, f"UPDATE orders SET status = 'paid' WHERE id = {SHIPPED}"),
    (ended, ("again", "order:shipped")),
    (money, ("again", "order:paid")),
    (money, f"UPDATE payments SET refunded_at = 1 WHERE order_id = {SHIPPED}"),
    (money, f"UPDATE payments SET refunded_at = NULL WHERE order_id = {REFUNDED}"),
    (points, f"DELETE FROM points WHERE order_id = {SHIPPED}"),
    (mails, f"DELETE FROM mails WHERE order_id = {SHIPPED} AND kind = 'paid'"),
    (trail, "DELETE FROM audit WHERE seq = (SELECT max(seq) / 2 FROM audit)"),
    (log, ("gone", "order:paid")),
    (consumers, ("unsettle", "shipping")),
    (consumers, ("open", "loyalty")),
    (letters, ("again", "dead_letter")),
    (analytics, "UPDATE analytics_totals SET n = n + 1 WHERE name = 'revenue'"),
    (analytics, "DELETE FROM analytics_seen WHERE seq = (SELECT max(seq) FROM analytics_seen)"),
    (analytics, "UPDATE analytics_products SET ordered = ordered - 1 WHERE sku = 'prod3'"),
]


def faults_found(db, facts):
    """How many planted faults were found, and what is wrong with the audit itself."""
    wrong = []
    db.lift_constraints()
    planted = [f for f in FAULTS if facts.guilty or f[0] is not letters]  # it is a dead letter once more
    for check, fault in planted:
        sql = fault if isinstance(fault, str) else db.FAULTS[fault[0]] % fault[1]
        db.execute("BEGIN")
        try:
            changed = db.execute(sql).rowcount
            if changed < 1:
                wrong.append(f"the planted fault '{sql}' changed nothing")
            elif not list(check(Books(db, facts))):
                wrong.append(f"{check.__name__} does not see: {sql}")
        finally:
            db.execute("ROLLBACK")
    return len(planted), wrong
