#!/usr/bin/env python3
"""What a shop makes of the events of its ancestors: orders of all three versions, of which its own
tables know nothing; one that no upcaster can read; one of a version yet to come.

Usage: shop_versions.py SHOP SEED SAMPLES, two programs and the folder of the samples"""
import json
import resource
import subprocess
import sys
from pathlib import Path

from shop_kit import HUNG, Shop, Wrong, check, run

BROKEN = {"id": "ord-broken", "user_id": "user123", "total": -1,
          "items": [{"product_id": "prod1", "quantity": 1, "price": 1}]}


def seed(program, directory, *pairs):
    """Versions and files, into a log that is not there yet."""
    words = [str(word) for pair in pairs for word in pair]
    subprocess.run([Path(program).resolve(), "sqlite:shop.db", *words], cwd=directory, check=True, timeout=HUNG)


def sample(samples, version):
    return version, Path(samples).resolve() / f"order_created_v{version}.json"


def all_three_versions_count(program, seeder, samples, directory):
    seed(seeder, directory, *(sample(samples, v) for v in (1, 2, 3)))
    with Shop(program, directory) as shop:
        shop.settled()
        audit = shop.rows("SELECT seq, type, subject FROM audit ORDER BY seq LIMIT 3")
        check([(seq, kind) for seq, kind, _ in audit] == [(n, "order:created") for n in (1, 2, 3)], audit)
        check(audit[0][2] == "ord-20240301-101502", audit)
        stats = shop.get("/stats")
        expected = {"created": 3, "paid": 0, "shipped": 0, "cancelled": 0, "revenue": 0, "units": 12}
        check(stats["orders"] == expected, stats["orders"])
        products = {p["sku"]: p["ordered"] for p in stats["products"]}
        check(products == {"prod1": 3, "prod2": 6, "prod3": 3}, products)
        days = shop.rows("SELECT status, n, total FROM analytics_days")
        check(days == [("created", 3, 2285 + 2839 + 900)], days)
        harmless(shop)
        order = shop.place(prod1=1)  # and today's orders go on
        shop.wait_for(order, "shipped")


def harmless(shop):
    """An order that is not in the table holds no stock, is not charged, mailed about, or cancelled."""
    for sku in ("prod1", "prod2", "prod3"):
        check(shop.stock(sku) == (1000, 0, 0), sku, shop.stock(sku))
    for table in ("orders", "payments", "mails", "points"):
        check(shop.rows(f"SELECT count(*) FROM {table}") == [(0,)], "rows in", table)
    others = shop.rows("SELECT DISTINCT type FROM audit WHERE type NOT IN "
                       "('order:created', 'user:created', 'inventory:restocked', 'request:completed')")
    check(others == [], "events that should not be:", others)
    check(shop.get("/dead-letters")["dead_letters"] == [], shop.get("/dead-letters"))


def one_that_cannot_be_read_is_a_dead_letter_of_those_who_read_it(program, seeder, samples, directory):
    (directory / "broken.json").write_text(json.dumps(BROKEN, separators=(",", ":")))
    seed(seeder, directory, (1, directory / "broken.json"), sample(samples, 1))
    with Shop(program, directory) as shop:
        shop.settled()
        letters = {(d["consumer"], d["reason"], d["subject"]) for d in shop.get("/dead-letters")["dead_letters"]}
        check(letters == {(c, "upcast", "ord-broken") for c in ("inventory", "analytics")}, letters)
        check("$.total" in shop.get("/dead-letters")["dead_letters"][0]["error"], shop.get("/dead-letters"))
        trail = shop.rows("SELECT type, count(*) FROM audit WHERE type <> 'request:completed' GROUP BY type "
                          "ORDER BY type")
        check(trail == [("dead_letter", 2), ("inventory:restocked", 3), ("order:created", 2), ("user:created", 1)], trail)
        check(shop.get("/stats")["orders"]["created"] == 1, shop.get("/stats")["orders"])


def a_version_that_it_does_not_know_it_does_not_start_on(program, seeder, samples, directory):
    seed(seeder, directory, (4, sample(samples, 3)[1]))
    try:
        with Shop(program, directory):
            check(False, "it started")
    except Wrong as wrong:
        check("ended with status 1" in str(wrong) and "order:created version 4" in str(wrong), wrong)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run([all_three_versions_count, one_that_cannot_be_read_is_a_dead_letter_of_those_who_read_it,
         a_version_that_it_does_not_know_it_does_not_start_on], *sys.argv[1:])
