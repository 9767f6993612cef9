#!/usr/bin/env python3
"""The stories that the shop promises: orders that ship, and all the ways in which one may not.

Usage: shop_story.py SHOP [TEST...]"""
import os
import resource
import sqlite3
import sys
import threading

from shop_kit import Shop, Wrong, at_once, check, run, until


def an_order_is_paid_and_shipped(program, directory):
    with Shop(program, directory) as shop:
        status, order = shop.ask("POST", "/orders")  # the guide's: 2 x prod1
        check(status == 201 and order["total"] == 21.98 and order["status"] == "created", status, order)
        shop.wait_for(order["id"], "shipped")
        shop.settled()
        check(shop.stock("prod1") == (998, 0, 2), "stock", shop.stock("prod1"))
        check(shop.get("/users/user123")["points"] == 21, shop.get("/users/user123"))
        stats = shop.get("/stats")
        expected = {"created": 1, "paid": 1, "shipped": 1, "cancelled": 0, "revenue": 21.98, "units": 2}
        check(stats["orders"] == expected, stats["orders"])
        check(stats["products"] == [{"sku": "prod1", "ordered": 2, "gross": 21.98}], stats["products"])
        types = {t["type"]: t["count"] for t in stats["events"]["by_type"]}
        check(types["order:created"] == 1 and types["order:shipped"] == 1, types)
        for line in (rf"order {order['id']}: placed by user123, 2 x prod1, 21\.98 EUR",
                     rf"order {order['id']}: stock reserved", rf"order {order['id']}: paid 21\.98 EUR",
                     rf"order {order['id']}: shipped, parcel \S+",
                     rf"mail to john@example\.com: your order {order['id']} has been shipped"):
            until(f"the line {line}", lambda line=line: shop.told(line))
        audit = shop.rows("SELECT count(*), count(DISTINCT type) FROM audit WHERE subject = ?", order["id"])
        check(audit == [(4, 4)], "created, reserved, paid and shipped in the audit trail:", audit)


def what_is_sold_out_is_cancelled(program, directory):
    with Shop(program, directory, "--stock", "3") as shop:
        first, second = shop.place(prod1=2), shop.place(prod2=1, prod1=2)
        shop.wait_for(first, "shipped")
        lost = shop.wait_for(second, "cancelled")
        check("sold out" in lost["reason"], lost)
        shop.settled()
        check(shop.stock("prod1") == (1, 0, 2) and shop.stock("prod2") == (3, 0, 0),
              shop.stock("prod1"), shop.stock("prod2"))
        until("the story", lambda: shop.told(rf"order {second}: cancelled: .* is sold out.*"))


def a_declined_card_gives_the_stock_back(program, directory):
    with Shop(program, directory, "--payment-fail-rate", "1") as shop:
        order = shop.place(prod3=4)
        lost = shop.wait_for(order, "cancelled")
        check("declined" in lost["reason"], lost)
        shop.settled()
        check(shop.stock("prod3") == (1000, 0, 0), shop.stock("prod3"))
        kinds = shop.rows("SELECT kind FROM mails WHERE order_id = ? ORDER BY kind", order)
        check(kinds == [("cancelled",), ("created",), ("payment-failed",)], kinds)
        check(shop.rows("SELECT 1 FROM payments") == [], "it was paid")


def a_provider_without_an_answer_is_asked_again(program, directory):
    with Shop(program, directory, "--payment-timeout-rate", "1", "--payment-delay", "1") as shop:
        order = shop.place(prod1=1)
        shop.wait_for(order, "shipped")
        until("the story", lambda: shop.told(rf"order {order}: the payment provider does not answer.*"))
        check(shop.rows("SELECT count(*) FROM payments") == [(1,)], "not paid once")


def an_order_that_is_not_paid_in_time_is_cancelled(program, directory):
    with Shop(program, directory, "--payment", "manual", "--payment-due", "1") as shop:
        late, paid = shop.place(prod1=1), shop.place(prod1=1)
        shop.wait_for(paid, "reserved")
        shop.put(f"/orders/{paid}/pay")
        lost = shop.wait_for(late, "cancelled")
        check(lost["reason"] == "not paid in time", lost)
        until("both deadlines", lambda: len(shop.rows("SELECT 1 FROM audit WHERE type = 'payment:due'")) == 2)
        shop.settled()
        shop.wait_for(paid, "shipped")
        check(shop.stock("prod1") == (999, 0, 1), shop.stock("prod1"))


def what_was_paid_and_is_cancelled_is_refunded_once(program, directory):
    with Shop(program, directory, "--shipping", "manual") as shop:
        order = shop.place(prod2=5)
        shop.wait_for(order, "paid")
        shop.put(f"/orders/{order}/cancel", {"reason": "changed my mind"})
        shop.put(f"/orders/{order}/cancel", expected=409)
        shop.put(f"/orders/{order}/ship", expected=409)
        shop.settled()
        check(shop.get(f"/orders/{order}")["reason"] == "changed my mind", shop.get(f"/orders/{order}"))
        check(shop.stock("prod2") == (1000, 0, 0), shop.stock("prod2"))
        events = shop.rows("SELECT type, count(*) FROM audit WHERE subject = ? AND type IN "
                           "('payment:refunded', 'inventory:released', 'order:cancelled') "
                           "GROUP BY type ORDER BY type", order)
        check(events == [("inventory:released", 1), ("order:cancelled", 1), ("payment:refunded", 1)], events)
        refunds = shop.rows("SELECT amount, refunded_at IS NOT NULL FROM payments")
        check(refunds == [(2250, 1)], refunds)


def a_charge_that_comes_too_late_is_taken_back(program, directory):
    with Shop(program, directory, "--payment-delay", "3000") as shop:
        by_hand, given_up = shop.place(prod1=1), shop.place(prod1=1)
        shop.wait_for(by_hand, "reserved")
        shop.put(f"/orders/{by_hand}/pay", {"reference": "cash"})
        shop.wait_for(given_up, "reserved")
        shop.put(f"/orders/{given_up}/cancel")
        for order in (by_hand, given_up):
            line = rf"order {order}: .* charge of 10\.99 EUR is taken back"
            until("the story", lambda line=line: shop.told(line))
        shop.settled()
        paid = shop.rows("SELECT order_id, reference, refunded_at FROM payments")
        check(paid == [(by_hand, "cash", None)], paid)
        check(shop.stock("prod1") == (999, 0, 1), shop.stock("prod1"))


def orders_go_on_while_notification_is_down(program, directory):
    with Shop(program, directory) as shop:
        shop.put("/chaos/notification", {"fail_rate": 1})
        orders = [shop.place(prod1=1) for _ in range(5)]
        for order in orders:
            shop.wait_for(order, "shipped")
        down = until("a lag that is told", lambda: next(
            (c for c in [shop.consumer("notification")] if c["retrying"] and "is down" in c["why"]), None))
        check(down["lag"] > 0 and down["why_code"] == "lane-waiting", down)
        check(shop.rows("SELECT count(*) FROM mails") == [(0,)], "a mail was sent")
        check(all(c["dead_letters"] == 0 for c in shop.get("/stats")["consumers"]), "dead letters")
        shop.put("/chaos/notification", {"fail_rate": 0})
        shop.settled()
        mails = shop.rows("SELECT kind, count(*) FROM mails GROUP BY kind ORDER BY kind")
        check(mails == [("created", 5), ("paid", 5), ("shipped", 5)], mails)


def a_poison_order_crashes_inventory_and_no_other_order(program, directory):
    with Shop(program, directory) as shop:
        shop.put("/chaos/inventory", {"crash": True})
        poison = shop.place(key="poison", prod1=1)
        others = [shop.place(key=f"other-{i}", prod2=1) for i in range(5)]
        letter = until("a dead letter", lambda: shop.get("/dead-letters")["dead_letters"])[0]
        expected = {"consumer": "inventory", "reason": "crash", "crashes": 3, "subject": poison}
        check(expected.items() <= letter.items(), letter)
        for order in others:
            shop.wait_for(order, "shipped")
        check(shop.get(f"/orders/{poison}")["status"] == "created", shop.get(f"/orders/{poison}"))
        check(shop.stderr().count("was ended by SIGABRT") == 3, "crashes:", shop.stderr())
        check(shop.ask("GET", "/chaos")[1]["consumers"][0]["poisoned"] == letter["sequence"], shop.get("/chaos"))
        healed = shop.put("/chaos/inventory", {"crash": False})
        check(healed["poisoned"] == 0, healed)
        status, reply = shop.ask("POST", f"/dead-letters/{letter['id']}/redrive")
        check(status == 202, status, reply)
        shop.wait_for(poison, "shipped")
        shop.settled()
        check(shop.get("/dead-letters")["dead_letters"] == [], shop.get("/dead-letters"))
        check(shop.stock("prod1") == (999, 0, 1) and shop.stock("prod2") == (995, 0, 5),
              shop.stock("prod1"), shop.stock("prod2"))


def an_unpaid_order_is_cancelled_however_long_checkout_was_down(program, directory):
    with Shop(program, directory, "--payment", "manual", "--payment-due", "1") as shop:
        shop.put("/chaos/checkout", {"fail_rate": 1})
        orders = [shop.place(prod1=1) for _ in range(3)]

        def tried():
            check(not shop.get("/dead-letters")["dead_letters"], "given up:", shop.get("/dead-letters"))
            return shop.rows("SELECT 1 FROM hark_deliveries d JOIN hark_consumers c ON c.id = consumer_id "
                             "WHERE c.name = 'checkout' AND attempts > 10")
        until("more than ten attempts", tried)
        shop.put("/chaos/checkout", {"fail_rate": 0})
        for order in orders:
            check(shop.wait_for(order, "cancelled")["reason"] == "not paid in time", order)
        shop.settled()
        check(shop.stock("prod1") == (1000, 0, 0), shop.stock("prod1"))


def a_console_that_nobody_reads_does_not_stop_the_shop(program, directory):
    with Shop(program, directory, "--stock", "10000") as shop:
        shop.reads.clear()
        at_once(*[lambda: [shop.place(prod1=1) for _ in range(250)]] * 8)
        shop.settled()
        states = shop.rows("SELECT status, count(*) FROM orders GROUP BY status")
        check(states == [("shipped", 2000)], states)
        check(shop.stock("prod1") == (8000, 0, 2000), shop.stock("prod1"))


def a_payment_that_dawdles_does_not_hold_up_the_end(program, directory):
    with Shop(program, directory, "--payment-delay", "30000") as shop:
        orders = [shop.place(prod1=1) for _ in range(6)]
        for order in orders:
            shop.wait_for(order, "reserved")
        until("charges that are under way", lambda: shop.consumer("payment")["running"])
        check(shop.stop(within=5 if not os.environ.get("HARK_TEST_BRIEF") else 30) == 0, shop.stderr())
    with Shop(program, directory) as shop:
        for order in orders:
            shop.wait_for(order, "shipped")
        shop.settled()
        check(shop.rows("SELECT count(*), sum(refunded_at IS NULL) FROM payments") == [(6, 6)], "payments")
        check(shop.stock("prod1") == (994, 0, 6), shop.stock("prod1"))


def switches_that_are_set_at_once_are_all_set(program, directory):
    with Shop(program, directory) as shop:
        names = [c["consumer"] for c in shop.get("/chaos")["consumers"] if c["consumer"] != "audit"]
        for n in 1, 2, 3, 4:
            fields = [(name, change) for name in names for change in ({"delay_ms": n}, {"fail_rate": n / 8})]
            at_once(*[lambda name=name, change=change: shop.put(f"/chaos/{name}", change)
                      for name, change in fields])
            now = {c["consumer"]: (c["delay_ms"], c["fail_rate"]) for c in shop.get("/chaos")["consumers"]}
            check(all(now[name] == (n, n / 8) for name in names), f"round {n}:", now)


def stock_that_is_added_under_one_key_is_added_once(program, directory):
    def add(key, n=5):
        return shop.ask("PUT", "/inventory/prod1", {"add": n}, Idempotency_Key=key)
    with Shop(program, directory) as shop:
        replies = [add("a"), add("a"), add("a")]
        check(all(r == replies[0] and r[0] == 200 for r in replies), replies)
        check(shop.stock("prod1") == (1005, 0, 0), shop.stock("prod1"))
        check(add("a", 6)[0] == 422, "another request under the key")
        for status, reply in at_once(*[lambda: add("b")] * 8):
            check(status in (200, 409), status, reply)  # 409: the first one still runs
        check(shop.stock("prod1") == (1010, 0, 0), shop.stock("prod1"))
        check(add("c")[0] == 200 and shop.stock("prod1") == (1015, 0, 0), shop.stock("prod1"))
        shop.settled()
        restocked = shop.rows("SELECT count(*) FROM audit WHERE type = 'inventory:restocked' AND subject = 'prod1'")
        check(restocked == [(4,)], restocked)  # with that of the first start


def the_figures_are_live(program, directory):
    with Shop(program, directory) as shop:
        live = shop.messages("/stats/stream")
        check(next(live)["orders"]["created"] == 0, "an order that nobody placed")
        order = shop.place(prod1=1)
        shown = next(s for s in live if s["orders"]["shipped"] == 1)
        check(shown["orders"]["revenue"] == 10.99, shown["orders"])
        check(next(shop.messages("/stats/stream"))["orders"] == shown["orders"], "a newcomer is behind")
        live.close()
        shop.wait_for(order, "shipped")


FIGURES = ["SELECT name, n FROM analytics_totals ORDER BY name",
           "SELECT sku, ordered, gross FROM analytics_products ORDER BY sku",
           "SELECT day, status, n, total FROM analytics_days ORDER BY day, status"]


def figures(shop):
    return [shop.rows(sql) for sql in FIGURES]


def figures_of_the_tables(shop):
    """What analytics should have, counted another way: from the rows of the orders."""
    units = shop.rows("SELECT sum(quantity) FROM order_items")[0][0]
    created = shop.rows("SELECT count(*) FROM orders")[0][0]
    paid, revenue = shop.rows("SELECT count(*), coalesce(sum(amount) FILTER (WHERE refunded_at IS NULL), 0) "
                              "FROM payments")[0]
    states = dict(shop.rows("SELECT status, count(*) FROM orders GROUP BY status"))
    totals = {"orders:created": created, "orders:paid": paid, "revenue": revenue, "units": units,
              "orders:shipped": states.get("shipped", 0), "orders:cancelled": states.get("cancelled", 0)}
    return sorted((name, n) for name, n in totals.items() if n)


class Customers(threading.Thread):
    """Place orders until they are told to stop."""

    def __init__(self, shop):
        super().__init__()
        self.shop, self.orders, self.stop, self.wrong = shop, [], threading.Event(), None

    def run(self):
        try:
            while not self.stop.is_set():
                self.orders.append(self.shop.place(prod1=1 + len(self.orders) % 3, prod3=1))
        except Wrong as wrong:
            self.wrong = wrong

    def go(self):
        self.stop.set()
        self.join()
        if self.wrong:
            raise self.wrong


def rebuild(shop):
    status, reply = shop.ask("POST", "/analytics/rebuild")
    check(status == 202, status, reply)


def falsify(directory):
    """As a faulty consumer would have left its tables; nobody else may write while the shop runs."""
    with sqlite3.connect(directory / "shop.db") as db:
        for sql in ("UPDATE analytics_totals SET n = n + 7", "UPDATE analytics_products SET ordered = ordered + 7",
                    "UPDATE analytics_days SET n = n + 7"):
            check(db.execute(sql).rowcount > 0, "changed nothing:", sql)


def rebuilt_analytics_equals_the_live_one(program, directory):
    with Shop(program, directory, "--payment-fail-rate", "0.2") as shop:
        customers = Customers(shop)
        customers.start()
        try:
            for n in (30, 60, 90):
                until(f"{n} orders", lambda n=n: len(customers.orders) >= n or customers.wrong)
                rebuild(shop)
        finally:
            customers.go()
        shop.settled()
        live = figures(shop)
        check(live[0] == figures_of_the_tables(shop), live[0], "expected", figures_of_the_tables(shop))
        check(dict(live[0])["orders:created"] == len(customers.orders), live[0], len(customers.orders))
    falsify(directory)
    with Shop(program, directory) as shop:
        check(all(now != before for now, before in zip(figures(shop), live)), figures(shop), "as before:", live)
        rebuild(shop)
        until("the figures to be those again", lambda: figures(shop) == live)


def a_redriven_letter_is_counted_once_after_a_rebuild(program, directory):
    with Shop(program, directory) as shop:
        shop.wait_for(shop.place(prod1=1), "shipped")
        shop.settled("analytics")
        shop.put("/chaos/analytics", {"crash": True})
        poison = shop.place(key="poison", prod2=3)
        letter = until("a dead letter", lambda: shop.get("/dead-letters?consumer=analytics")["dead_letters"])[0]
        check(letter["subject"] == poison, letter)
        shop.put("/chaos/analytics", {"crash": False})
        shop.wait_for(poison, "shipped")
        rebuild(shop)
        shop.settled("analytics")
        status, reply = shop.ask("POST", f"/dead-letters/{letter['id']}/redrive")
        check(status == 202, "redrive:", status, reply)
        until("no dead letter", lambda: not shop.get("/dead-letters")["dead_letters"])
        shop.settled("analytics")
        check(figures(shop)[0] == figures_of_the_tables(shop), figures(shop)[0], "expected",
              figures_of_the_tables(shop))


def a_rebuild_that_was_killed_is_done_at_the_next_start(program, directory):
    with Shop(program, directory) as shop:
        for order in [shop.place(prod2=1) for _ in range(3)]:
            shop.wait_for(order, "shipped")
        shop.settled()
        live = figures(shop)
    with sqlite3.connect(directory / "shop.db") as db:  # as it is when the tables are emptied already
        db.execute("DELETE FROM analytics_totals")
        db.execute("INSERT INTO analytics_totals VALUES('rebuilding', 1)")
    with Shop(program, directory) as shop:
        until("the figures to be those again", lambda: figures(shop) == live)


TESTS = [an_order_is_paid_and_shipped, what_is_sold_out_is_cancelled, a_declined_card_gives_the_stock_back,
         a_provider_without_an_answer_is_asked_again, an_order_that_is_not_paid_in_time_is_cancelled,
         what_was_paid_and_is_cancelled_is_refunded_once, a_charge_that_comes_too_late_is_taken_back,
         orders_go_on_while_notification_is_down, a_poison_order_crashes_inventory_and_no_other_order,
         an_unpaid_order_is_cancelled_however_long_checkout_was_down,
         a_console_that_nobody_reads_does_not_stop_the_shop, a_payment_that_dawdles_does_not_hold_up_the_end,
         switches_that_are_set_at_once_are_all_set, stock_that_is_added_under_one_key_is_added_once,
         the_figures_are_live, rebuilt_analytics_equals_the_live_one,
         a_redriven_letter_is_counted_once_after_a_rebuild, a_rebuild_that_was_killed_is_done_at_the_next_start]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one of them crashes on purpose
    wanted = [t for t in TESTS if len(sys.argv) == 2 or t.__name__ in sys.argv[2:]]
    run(wanted, sys.argv[1])
