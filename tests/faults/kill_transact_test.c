/* kill_transact_victim, killed -9 again and again on one log, and crashing by itself inside closures. After
 * each death rows and ledger are looked at beside the library: no effect twice, what is settled has its
 * effect, and what has its effect is settled. In the end each item has exactly one row and one event that
 * was published, or scheduled, with it; only those died that were to. Then items that crash always: each
 * becomes a dead letter, and nobody else does, though closures run on whatever thread writes the log. */
#include "crash_kit.h"
#include "kit.h"
#include "transact_work.h"

#include <hark/hark.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PER_RUN = 256, POISONED = 64 };

typedef struct campaign {
    const char *victim, *path;
    char url[160];
    uint64_t random, run;
    size_t kills, crashes;
} campaign;

/* ---- lives ------------------------------------------------------------------------------------- */

static void died_well(campaign *c, int status, bool killed)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && killed)
        c->kills++;
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
        c->crashes++;
    else
        kit_fail("run %llu: wait status %#x: %s", (unsigned long long)c->run, (unsigned)status,
                 kit_slurp(kit_path("stderr"), NULL));
}

static void live_and_kill(campaign *c)
{
    char first[24], count[24];
    uint64_t r = kit_random(&c->random);
    (void)snprintf(first, sizeof first, "%llu", (unsigned long long)(c->run * PER_RUN));
    (void)snprintf(count, sizeof count, "%u",
                   kit_long() ? 4 + (unsigned)(r % 20) : 10 + (unsigned)(r % 50));
    const char *argv[] = {c->victim, c->url, first, count, NULL};
    int ms = (int)(r / 50 % 8 == 0 ? r / 400 % 20 : 20 + r / 400 % (kit_long() ? 40 : 120));
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    struct pollfd out = {.fd = p.out, .events = POLLIN};
    c->run++;
    (void)poll(&out, 1, ms); /* it says nothing: its end */
    kill(p.pid, SIGKILL);
    died_well(c, kit_wait(&p, KIT_HUNG_MS), true);
}

/* Started again after each crash, until it has settled all up to `last`. */
static void live_to_the_end(campaign *c, const char *how, uint64_t last)
{
    char number[24];
    int status;
    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)last);
    const char *argv[] = {c->victim, c->url, how, number, NULL};
    do {
        kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
        status = kit_wait(&p, KIT_HUNG_MS);
        if (!kit_exited(status, 0))
            died_well(c, status, false);
    } while (!kit_exited(status, 0));
}

/* ---- the file, read beside the library ----------------------------------------------------------- */

static sqlite3 *open_file(const campaign *c)
{
    sqlite3 *db = NULL;
    KIT_CHECK(sqlite3_open_v2(c->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK,
              "cannot open %s", c->path);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

static sqlite3_stmt *ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    KIT_CHECK(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK, "%s: %s", sql,
              sqlite3_errmsg(db));
    return st;
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = ask(db, sql);
    KIT_CHECK(sqlite3_step(st) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static void none(const campaign *c, sqlite3 *db, const char *what, const char *sql)
{
    int64_t n = number(db, sql);
    if (n)
        kit_fail("run %llu: %lld %s", (unsigned long long)c->run, (long long)n, what);
}

#define OF_TYPE(type) "type_id = (SELECT id FROM hark_types WHERE name = '" type "') "
#define ITEMS         "SELECT seq FROM hark_events WHERE " OF_TYPE(TRANSACT_ITEM)
#define OF(type)                                                                                   \
    "(SELECT CAST(CAST(data AS TEXT) AS INTEGER) AS item FROM hark_events WHERE " OF_TYPE(type) ")"

static void look(const campaign *c)
{
    if (access(c->path, F_OK) != 0)
        return;
    sqlite3 *db = open_file(c);
    if (number(db,
               "SELECT count(*) FROM sqlite_master WHERE name IN ('effects', 'hark_consumers')") ==
        2) {
        none(c, db, "effects are doubled", "SELECT count(*) - count(DISTINCT seq) FROM effects");
        none(c, db, "effects have no event or schedule, or these no effect",
             "SELECT abs((SELECT count(*) FROM effects) - (SELECT count(*) FROM hark_schedules) - "
             "(SELECT count(*) FROM " OF(TRANSACT_DONE) "))");
        none(c, db, "events came, and still wait to come",
             "SELECT count(*) FROM hark_schedules WHERE CAST(CAST(data AS TEXT) AS INTEGER) IN "
             "(SELECT item FROM " OF(TRANSACT_DONE) ")");
        /* 6: settled by a transaction */
        none(c, db, "effects are open in the ledger",
             "SELECT count(*) FROM effects e JOIN hark_deliveries d ON d.seq = e.seq WHERE d.state "
             "<> 6");
        none(c, db, "settled items have no effect",
             "SELECT count(*) FROM (" ITEMS ") i WHERE seq <= (SELECT floor FROM hark_consumers) "
             "AND NOT EXISTS (SELECT 1 FROM effects e WHERE e.seq = i.seq) AND NOT EXISTS (SELECT "
             "1 FROM hark_deliveries d WHERE d.seq = i.seq) AND NOT EXISTS (SELECT 1 FROM "
             "hark_dead_letters l WHERE l.seq = i.seq)");
        none(c, db, "items are settled by a row without an effect",
             "SELECT count(*) FROM hark_deliveries d WHERE state = 6 AND NOT EXISTS (SELECT 1 FROM "
             "effects e WHERE e.seq = d.seq)");
    }
    sqlite3_close(db);
}

/* In a key the effects are in order, but for those that died in between. */
static void look_at_order(sqlite3 *db)
{
    int64_t last[TRANSACT_KEYS] = {0};
    sqlite3_stmt *st = ask(db, "SELECT seq, n, key FROM effects ORDER BY rowid");
    while (sqlite3_step(st) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(st, 0), key = sqlite3_column_int64(st, 2);
        if (transact_fate_of((uint64_t)sqlite3_column_int64(st, 1), false) == TRANSACT_DIES)
            continue;
        KIT_CHECK(seq > last[key], "%lld came after %lld, out of order", (long long)seq,
                  (long long)last[key]);
        last[key] = seq;
    }
    sqlite3_finalize(st);
}

static size_t look_at_the_dead(sqlite3 *db)
{
    size_t n = 0;
    sqlite3_stmt *st =
        ask(db, "SELECT CAST(CAST(i.data AS TEXT) AS INTEGER), i.seq FROM hark_events l JOIN "
                "hark_events i ON i.seq = json_extract(CAST(l.data AS TEXT), '$.sequence') WHERE l."
                "type_id = (SELECT id FROM hark_types WHERE name = 'dead_letter')");
    for (; sqlite3_step(st) == SQLITE_ROW; n++)
        KIT_CHECK(transact_fate_of((uint64_t)sqlite3_column_int64(st, 0), false) == TRANSACT_DIES,
                  "item %lld at %lld died, and was not to", (long long)sqlite3_column_int64(st, 0),
                  (long long)sqlite3_column_int64(st, 1));
    sqlite3_finalize(st);
    return n;
}

static void look_at_notes(sqlite3 *db)
{
    int64_t n_seq = number(db, "SELECT max(seq) + 1 FROM hark_events");
    unsigned char *notes = calloc((size_t)n_seq, 1); /* of each item */
    KIT_CHECK(notes, "out of memory");
    sqlite3_stmt *st = ask(db, "SELECT item FROM " OF(TRANSACT_NOTE));
    while (sqlite3_step(st) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(st, 0);
        KIT_CHECK(seq > 0 && seq < n_seq && !notes[seq], "a second note of %lld", (long long)seq);
        notes[seq]++;
    }
    sqlite3_finalize(st);
    st = ask(db, "SELECT seq, CAST(CAST(data AS TEXT) AS INTEGER) FROM hark_events WHERE " OF_TYPE(
                     TRANSACT_ITEM));
    while (sqlite3_step(st) == SQLITE_ROW) {
        uint64_t n = (uint64_t)sqlite3_column_int64(st, 1);
        bool planned = transact_fate_of(n, false) == TRANSACT_NOTES;
        KIT_CHECK(notes[sqlite3_column_int64(st, 0)] == planned, "item %llu has %s note",
                  (unsigned long long)n, planned ? "no" : "a");
    }
    sqlite3_finalize(st);
    free(notes);
}

static void audit(const campaign *c)
{
    sqlite3 *db = open_file(c);
    none(c, db, "items have not exactly one effect",
         "SELECT count(*) FROM (" ITEMS ") i WHERE (SELECT count(*) FROM effects e WHERE e.seq = "
         "i.seq) <> 1");
    none(c, db, "effects are of no item",
         "SELECT count(*) FROM effects WHERE seq NOT IN (" ITEMS ")");
    none(c, db, "derived events are doubled",
         "SELECT count(*) - count(DISTINCT item) FROM " OF(TRANSACT_DONE));
    none(c, db, "items have no derived event",
         "SELECT count(*) FROM (" ITEMS
         ") i WHERE seq NOT IN (SELECT item FROM " OF(TRANSACT_DONE) ")");
    none(c, db, "schedules are left", "SELECT count(*) FROM hark_schedules");
    none(c, db, "rows are left in the ledger", "SELECT count(*) FROM hark_deliveries");
    none(c, db, "dead letters are left", "SELECT count(*) FROM hark_dead_letters");
    look_at_order(db);
    look_at_notes(db);
    printf("%lld items, each with its effect and its event; %zu died and were redriven\n",
           (long long)number(db, "SELECT count(*) FROM effects"), look_at_the_dead(db));
    sqlite3_close(db);
}

static uint64_t last_of(const campaign *c)
{
    sqlite3 *db = open_file(c);
    int64_t last = number(db, "SELECT ifnull(max(seq), 0) FROM (" ITEMS ")");
    sqlite3_close(db);
    return (uint64_t)last;
}

/* ---- poison -------------------------------------------------------------------------------------- */

static void publish_poisoned(const campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    for (unsigned n = 0; n < POISONED; n++) {
        char json[24], key[16];
        (void)snprintf(json, sizeof json, "%u", n);
        (void)snprintf(key, sizeof key, "k%u", n);
        if (hark_publish_ei(
                bus, HARK_OPTS(hark_event_spec, .type = TRANSACT_ITEM, .json = json, .key = key),
                NULL, &ei))
            kit_fail("hark_publish: %s", ei.text);
    }
    hark_bus_unref(bus);
}

static void audit_poisoned(const campaign *c)
{
    sqlite3 *db = open_file(c);
    int64_t dead = 0;
    sqlite3_stmt *st =
        ask(db, "SELECT CAST(CAST(i.data AS TEXT) AS INTEGER), l.reason, l.crashes, (SELECT "
                "count(*) FROM effects e WHERE e.seq = i.seq) FROM hark_events i LEFT JOIN "
                "hark_dead_letters l ON l.seq = i.seq WHERE i." OF_TYPE(TRANSACT_ITEM));
    while (sqlite3_step(st) == SQLITE_ROW) {
        uint64_t n = (uint64_t)sqlite3_column_int64(st, 0);
        const char *reason = (const char *)sqlite3_column_text(st, 1);
        bool poison = transact_fate_of(n, true) != TRANSACT_PLAIN;
        dead += reason != NULL;
        KIT_CHECK((reason != NULL) == poison, "item %llu %s", (unsigned long long)n,
                  poison ? "crashes always and is no dead letter" : "died for a neighbour's crash");
        KIT_CHECK(!poison || (strcmp(reason, "crash") == 0 &&
                              sqlite3_column_int64(st, 2) == TRANSACT_CRASHES),
                  "item %llu died of %s after %lld crashes", (unsigned long long)n, reason,
                  (long long)sqlite3_column_int64(st, 2));
        KIT_CHECK(sqlite3_column_int64(st, 3) == !poison, "item %llu has %lld effects",
                  (unsigned long long)n, (long long)sqlite3_column_int64(st, 3));
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    KIT_CHECK(c->crashes <= (size_t)dead * TRANSACT_CRASHES,
              "%zu crashes: some counted for a neighbour, or for nobody", c->crashes);
    printf("%lld items that crash inside their closures are dead letters, after %zu crashes\n",
           (long long)dead, c->crashes);
}

static void use_file(campaign *c, const char *name)
{
    c->path = kit_path(name);
    (void)snprintf(c->url, sizeof c->url, "sqlite:%s", c->path);
    c->kills = c->crashes = 0;
}

static void kill_often(campaign *c)
{
    size_t runs = kit_long() ? 10000 : 200;
    int64_t begin = kit_ms();
    use_file(c, "x.db");
    for (size_t i = 0; c->kills < runs; i++) {
        live_and_kill(c);
        if (!kit_long() || i % 20 == 0)
            look(c);
    }
    live_to_the_end(c, "--settle", last_of(c));
    look(c);
    printf("%zu kills and %zu crashes in %lld ms\n", c->kills, c->crashes,
           (long long)(kit_ms() - begin));
    audit(c);
}

static void poison(campaign *c)
{
    use_file(c, "poison.db");
    publish_poisoned(c);
    live_to_the_end(c, "--poison", last_of(c));
    audit_poisoned(c);
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_transact_test VICTIM");
    crash_environment(0);
    kit_guard();
    campaign c = {.victim = kit_program(argv[1]), .random = kit_seed()};
    poison(&c);
    kill_often(&c);
    return 0;
}
