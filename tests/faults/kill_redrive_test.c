/* Redrives killed -9: thousands of dead letters, redriven by kill_redrive_victim, which is killed once
 * while it redrives them and once while they are delivered, and each time begins again with all that is
 * left. None is forgotten: in the end each one was handled, and no letter and no open row is left. None is
 * doubled: what was handled comes again only in a later life, and only if its ack was not committed when
 * the earlier one was killed. What was parked comes in order behind its key's letter. */
#include "lines.h"
#include "redrive_work.h"

#include <hark/hark.h>
#include <sqlite3.h>
#include <stdlib.h>

enum { BATCH = 500, KEYS = 97, DEEP = 3, LATEST_KILL_MS = 10, LIFE_MAX_MS = 600000 };

typedef struct variant {
    const char *name;
    bool park;
    int64_t rate; /* of the letters, in a second; 0 = at once */
} variant;

/* An event, by its sequence. */
typedef struct fate {
    uint32_t key, place; /* the how-manieth of its key */
    uint32_t acked_in;   /* the last life in which it was; 0 = never */
    uint32_t answers, retries;
    bool settled; /* the ledger says so */
} fate;

typedef struct campaign {
    const char *victim;
    char url[128], path[96];
    uint64_t random, letters, events;
    const variant *v;
    kit_proc p;
    fate *fates;    /* by sequence */
    uint64_t n_seq; /* of that */
    uint32_t *done; /* by key: the events of it that were acked, without a hole */
    uint64_t n_keys;
    size_t n_read; /* records */
    uint32_t life;
    uint64_t again; /* handled in two lives */
} campaign;

/* ---- before ---- */

/* In the park variant each key has one bad event and others behind it; else all are bad. */
static void publish_batch(campaign *c, hark_bus *bus, uint64_t first)
{
    static char key[BATCH][24];
    static hark_event_spec specs[BATCH];
    static const hark_event_spec *list[BATCH];
    static hark_receipt receipts[BATCH];
    hark_errinfo ei;
    for (uint64_t i = 0; i < BATCH; i++) {
        uint64_t n = first + i;
        const char *data = n < c->letters ? "bad" : "good";
        (void)snprintf(key[i], sizeof key[i], "k%llu", (unsigned long long)(n % c->n_keys));
        specs[i] = *HARK_OPTS(hark_event_spec, .type = REDRIVE_TYPE, .key = key[i], .data = data,
                              .data_len = strlen(data));
        list[i] = &specs[i];
    }
    if (hark_publish_batch(bus, list, BATCH, receipts, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
    for (uint64_t i = 0; i < BATCH; i++) {
        uint64_t n = first + i;
        KIT_CHECK(receipts[i].sequence < c->n_seq, "a strange sequence");
        c->fates[receipts[i].sequence] =
            (fate){.key = (uint32_t)(n % c->n_keys), .place = (uint32_t)(n / c->n_keys) + 1};
    }
}

static void prepare(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    (void)snprintf(c->path, sizeof c->path, "%s", kit_path(c->v->name));
    (void)snprintf(c->url, sizeof c->url, "sqlite:%s", c->path);
    (void)unlink(kit_path(REDRIVE_RECORD));
    c->n_keys = c->v->park ? c->letters : KEYS;
    c->events = c->v->park ? c->letters * DEEP : c->letters;
    c->n_seq = c->events + 1;
    c->fates = calloc(c->n_seq, sizeof(*c->fates));
    c->done = calloc(c->n_keys, sizeof *c->done);
    c->n_read = 0;
    c->life = 0;
    c->again = 0;
    KIT_CHECK(c->fates && c->done, "out of memory");
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    for (uint64_t n = 0; n < c->events; n += BATCH)
        publish_batch(c, bus, n);
    hark_bus_unref(bus);
}

/* ---- what was handled ---- */

static void audit_order(campaign *c, fate *f, uint64_t seq, bool repeated)
{
    uint32_t *done = &c->done[f->key];
    if (!c->v->park || repeated)
        return;
    KIT_CHECK(f->place == *done + 1,
              "life %u: sequence %llu is the %uth of its key, and came after %u of them", c->life,
              (unsigned long long)seq, f->place, *done);
    *done = f->place;
}

static void audit_record(campaign *c, const redrive_record *r)
{
    KIT_CHECK(r->seq > 0 && r->seq < c->n_seq && r->life == c->life, "a strange record");
    fate *f = &c->fates[r->seq];
    unsigned long long seq = r->seq;
    KIT_CHECK(!f->settled, "life %u: %llu came again, its ack was committed", c->life, seq);
    KIT_CHECK(f->acked_in != c->life, "life %u: %llu came twice", c->life, seq);
    KIT_CHECK(r->attempt >= 1 && r->attempt <= 1 + f->retries, "life %u: %llu came as attempt %d",
              c->life, seq, r->attempt);
    f->answers++;
    f->retries += r->verdict == 'R';
    if (r->verdict != 'A')
        return;
    c->again += f->acked_in != 0;
    audit_order(c, f, r->seq, f->acked_in != 0);
    f->acked_in = c->life;
}

static void audit_records(campaign *c)
{
    size_t len, size = sizeof(redrive_record);
    char *all = kit_slurp(kit_path(REDRIVE_RECORD), &len);
    KIT_CHECK(all && len % size == 0, "the record has %zu bytes", len);
    for (; c->n_read < len / size; c->n_read++) {
        redrive_record r;
        memcpy(&r, all + c->n_read * size, size);
        audit_record(c, &r);
    }
    free(all);
}

/* ---- the ledger, read beside the library ---- */

static sqlite3_stmt *ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    KIT_CHECK(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK, "%s: %s", sql,
              sqlite3_errmsg(db));
    return st;
}

static int64_t count(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = ask(db, sql);
    KIT_CHECK(sqlite3_step(st) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static void mark_open(campaign *c, sqlite3 *db, bool *open)
{
    sqlite3_stmt *st =
        ask(db, "SELECT seq FROM hark_deliveries UNION SELECT seq FROM hark_dead_letters");
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        uint64_t seq = (uint64_t)sqlite3_column_int64(st, 0);
        KIT_CHECK(seq > 0 && seq < c->n_seq, "an invented sequence is in the ledger");
        open[seq] = true;
    }
    KIT_CHECK(rc == SQLITE_DONE, "the ledger: %s", sqlite3_errmsg(db));
    sqlite3_finalize(st);
}

/* What has no row any more is settled: it must have been handled, and is never to come again. */
static void audit_ledger(campaign *c)
{
    sqlite3 *db = NULL;
    bool *open = calloc(c->n_seq, sizeof *open);
    uint64_t settled = 0;
    KIT_CHECK(open && sqlite3_open_v2(c->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK,
              "cannot open %s", c->path);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    mark_open(c, db, open);
    KIT_CHECK(count(db, "SELECT count(*) - count(DISTINCT seq) FROM hark_dead_letters") == 0,
              "life %u: an event has two dead letters", c->life);
    for (uint64_t s = 1; s < c->n_seq; s++) {
        fate *f = &c->fates[s];
        KIT_CHECK(open[s] || f->acked_in, "life %u: %llu is forgotten: no row, never handled",
                  c->life, (unsigned long long)s);
        KIT_CHECK(!(open[s] && f->settled), "life %u: %llu was settled, and is open again", c->life,
                  (unsigned long long)s);
        f->settled = !open[s];
        settled += f->settled;
    }
    printf("  life %u: %llu of %llu settled, %lld letters, %lld rows\n", c->life,
           (unsigned long long)settled, (unsigned long long)c->events,
           (long long)count(db, "SELECT count(*) FROM hark_dead_letters"),
           (long long)count(db, "SELECT count(*) FROM hark_deliveries"));
    sqlite3_close(db);
    free(open);
}

/* ---- lives ---- */

static void expect_line(campaign *c, const char *expected)
{
    char line[LINE_MAX_BYTES];
    if (!line_next(&c->p, line, LIFE_MAX_MS))
        kit_fail("the victim ended, '%s' was expected: %s", expected,
                 kit_slurp(kit_path("stderr"), NULL));
    KIT_CHECK(strcmp(line, expected) == 0, "'%s' was expected, not '%s'", expected, line);
}

static void start(campaign *c, uint64_t a, uint64_t b, const uint64_t *hold)
{
    char n[6][24];
    uint64_t v[] = {++c->life, c->v->park, (uint64_t)c->v->rate, a, b, hold ? *hold : 0};
    for (size_t i = 0; i < 6; i++)
        (void)snprintf(n[i], sizeof n[i], "%llu", (unsigned long long)v[i]);
    const char *argv[] = {c->victim,          c->url, n[0], n[1], n[2], n[3], n[4],
                          hold ? n[5] : NULL, NULL};
    c->p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
}

static void run_and_kill(campaign *c, uint64_t mark, uint64_t stop, uint64_t hold)
{
    start(c, mark, stop, &hold);
    expect_line(c, "at");
    int64_t until = kit_ms() + (int64_t)(kit_random(&c->random) % LATEST_KILL_MS);
    struct pollfd out = {.fd = c->p.out, .events = POLLIN};
    for (int64_t left; (left = until - kit_ms()) > 0;)
        KIT_CHECK(poll(&out, 1, (int)left) == 0, "the victim does not wait to be killed: %s",
                  kit_slurp(kit_path("stderr"), NULL));
    kit_kill(&c->p);
    audit_records(c);
    audit_ledger(c);
}

static void run_to_the_end(campaign *c, uint64_t a, uint64_t b, const uint64_t *hold)
{
    start(c, a, b, hold);
    expect_line(c, "end");
    line_end(&c->p);
    audit_records(c);
    audit_ledger(c);
}

static uint64_t between(campaign *c, uint64_t from, uint64_t to) /* in hundredths of the letters */
{
    return c->letters * from / 100 + kit_random(&c->random) % (c->letters * (to - from) / 100) + 1;
}

static void redriven_and_killed(campaign *c, const variant *v)
{
    const uint64_t none = 0;
    c->v = v;
    prepare(c);
    uint64_t mark = between(c, 5, 75), mark2 = between(c, 0, 30);
    printf("%s: killed when %llu are redriven, and after %llu deliveries\n", v->name,
           (unsigned long long)mark, (unsigned long long)mark2);
    run_to_the_end(c, c->letters, c->events - c->letters, NULL); /* rejects them */
    run_and_kill(c, mark, c->letters / 2, c->letters / 10);
    run_and_kill(c, mark2, c->letters * 2 / 5, 0);
    run_to_the_end(c, 0, 0, &none);
    for (uint64_t s = 1; s < c->n_seq; s++)
        KIT_CHECK(c->fates[s].settled, "%llu is open in the end", (unsigned long long)s);
    printf("  all are settled; %llu were handled in two lives\n", (unsigned long long)c->again);
    free(c->fates);
    free(c->done);
}

int main(int argc, char **argv)
{
    static const variant variants[] = {
        {"at-once", false, 0}, {"at-a-rate", false, 300}, {"parked", true, 0}};
    KIT_CHECK(argc == 2, "usage: kill_redrive_test VICTIM");
    kit_guard();
    campaign c = {.victim = kit_program(argv[1]), .letters = kit_long() ? 10000 : 3000};
    c.random = kit_seed();
    int64_t begin = kit_ms();
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        redriven_and_killed(&c, &variants[i]);
    printf("%lld ms\n", (long long)(kit_ms() - begin));
    return 0;
}
