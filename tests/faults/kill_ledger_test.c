/* kill_ledger_victim, killed -9 again and again on one log. Between the runs the ledger is looked at
 * beside the library: no floor goes back, no event has two dead letters, each is announced once. At
 * the end everything that was said is gone through in order: in each key nothing is left out or comes
 * before its time, attempts never repeat beyond the rules, a parked key stays parked until its dead
 * letter was redriven or discarded, and no redrive is doubled or forgotten. */
#include "ledger_work.h"

#include <hark/hark.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { C = LEDGER_CONSUMERS };

/* One line: kind is its first letter; of a delivery the answer follows. */
typedef struct record {
    uint32_t run, seq;
    uint8_t consumer, attempt;
    char kind, verdict;
} record;

/* What is known of one event. */
typedef struct known {
    uint64_t n;
    int32_t place;   /* in its key */
    uint32_t before; /* the sequence before it in its key; 0 = none */
    bool ours;
    uint8_t announced[C];
    bool died[C];                 /* its dead letter was seen */
    bool mended[C], discarded[C]; /* asked for */
    bool done[C], gone[C];        /* a redrive or discard has returned; a discard */
    char last[C];                 /* end of its last attempt, 0 = there will be another */
    char answer[C];
    uint8_t attempts[C]; /* highest that was delivered */
    uint32_t run[C];     /* of the last delivery, from 1 */
} known;

typedef struct campaign {
    const char *victim, *url, *path, *mended;
    uint64_t random;
    uint32_t run;
    record *records;
    size_t n_records, cap_records;
    uint64_t *receipts; /* by number: sequence; 0 = none, 1 << 63 = asked */
    size_t cap_receipts;
    known *log; /* by sequence */
    size_t n_log;
    uint64_t floor[C], last_letter;
    uint32_t *letters; /* pairs of consumer and sequence, as announced */
    size_t n_letters, cap_letters;
    kit_lines lines;
    size_t kills, redrives, discards;
} campaign;

#define ASKED (UINT64_C(1) << 63)

/* ---- what the victim says ---- */

static void add_record(campaign *c, record r)
{
    c->records = kit_grow(c->records, c->n_records, &c->cap_records, sizeof *c->records);
    c->records[c->n_records++] = r;
}

static uint64_t *receipt_of(campaign *c, uint64_t n)
{
    c->receipts = kit_grow(c->receipts, n, &c->cap_receipts, sizeof *c->receipts);
    return &c->receipts[n];
}

static void take_line(void *ud, const char *line)
{
    campaign *c = ud;
    unsigned long long n, seq;
    unsigned consumer, attempt;
    char v;
    if (sscanf(line, "S %llu", &n) == 1) {
        *receipt_of(c, n) = ASKED;
    } else if (sscanf(line, "R %llu %llu", &n, &seq) == 2) {
        *receipt_of(c, n) = ASKED | seq;
    } else if (sscanf(line, "D %u %llu %llu %u %c", &consumer, &seq, &n, &attempt, &v) == 5) {
        KIT_CHECK(consumer < C && seq < UINT32_MAX && attempt < 256, "a strange line: %s", line);
        add_record(c, (record){.run = c->run,
                               .seq = (uint32_t)seq,
                               .consumer = (uint8_t)consumer,
                               .attempt = (uint8_t)attempt,
                               .kind = 'D',
                               .verdict = v});
    } else if (strchr("MmXx", line[0]) && sscanf(line + 1, "%u %llu", &consumer, &seq) == 2) {
        c->redrives += line[0] == 'm';
        c->discards += line[0] == 'x';
        add_record(c, (record){.run = c->run,
                               .seq = (uint32_t)seq,
                               .consumer = (uint8_t)consumer,
                               .kind = line[0]});
    } else if (strcmp(line, "A") == 0) {
        add_record(c, (record){.run = c->run, .kind = 'A'});
    } else {
        kit_fail("a strange line: %s", line);
    }
}

static bool read_lines(campaign *c, int fd)
{
    return kit_read_lines(&c->lines, fd, take_line, c);
}

/* ---- one run ---- */

/* False when it ended by itself. */
static bool let_live(campaign *c, kit_proc *p, int64_t ms)
{
    int64_t end = kit_ms() + ms;
    struct pollfd out = {.fd = p->out, .events = POLLIN};
    for (int64_t left = ms; left > 0; left = end - kit_ms())
        if (poll(&out, 1, (int)left) > 0 && !read_lines(c, p->out))
            return false;
    return true;
}

/* Only a victim that redrives everything may end by itself. */
static void run_and_kill(campaign *c, const char *const *argv, int64_t ms, bool may_end)
{
    c->run++;
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    bool killed = let_live(c, &p, ms);
    kill(p.pid, killed ? SIGKILL : 0);
    while (read_lines(c, p.out))
        continue;
    int status = kit_wait(&p, KIT_HUNG_MS);
    if (!killed && !(may_end && kit_exited(status, 0)))
        kit_fail("the victim ended by itself, wait status %d: %s", status,
                 kit_slurp(kit_path("stderr"), NULL));
    c->lines.n = 0;
    c->kills += killed;
}

static void live_and_kill(campaign *c)
{
    char first[32], count[32];
    uint64_t r = kit_random(&c->random);
    (void)snprintf(first, sizeof first, "%llu", (unsigned long long)c->run * LEDGER_PER_RUN);
    (void)snprintf(count, sizeof count, "%u", kit_long() ? 24 : 20 + (unsigned)(r % 60));
    const char *argv[] = {c->victim, c->url, c->mended, first, count, NULL};
    int64_t ms = r / 60 % 8 == 0 ? (int64_t)(r / 480 % 20) : 20 + (int64_t)(r / 480 % 200);
    run_and_kill(c, argv, ms, false);
}

static void redrive_all(campaign *c, bool to_the_end)
{
    char last[32];
    (void)snprintf(last, sizeof last, "%zu", c->n_log ? c->n_log - 1 : 0);
    const char *argv[] = {c->victim, c->url, "--settle", last, NULL};
    if (!to_the_end) {
        run_and_kill(c, argv, 10 + (int64_t)(kit_random(&c->random) % 60), true);
        return;
    }
    c->run++;
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    while (read_lines(c, p.out))
        continue;
    int status = kit_wait(&p, KIT_HUNG_MS);
    if (!kit_exited(status, 0))
        kit_fail("the last run: wait status %d: %s", status, kit_slurp(kit_path("stderr"), NULL));
}

/* ---- the ledger, read beside the library ---- */

static int consumer_of(const char *name)
{
    for (int i = 0; i < C; i++)
        if (strcmp(ledger_policies[i].name, name) == 0)
            return i;
    kit_fail("a consumer called %s", name);
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
    int rc = sqlite3_step(st);
    KIT_CHECK(rc == SQLITE_ROW || rc == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return n;
}

static void announced(campaign *c, const char *data)
{
    char name[64] = "";
    const char *consumer = strstr(data, "\"consumer\":\""), *seq = strstr(data, "\"sequence\":");
    KIT_CHECK(consumer && seq, "a strange dead_letter: %.200s", data);
    (void)sscanf(consumer + strlen("\"consumer\":\""), "%63[^\"]", name);
    c->letters = kit_grow(c->letters, 2 * c->n_letters + 1, &c->cap_letters, sizeof *c->letters);
    c->letters[2 * c->n_letters] = (uint32_t)consumer_of(name);
    c->letters[2 * c->n_letters + 1] = (uint32_t)strtoull(seq + strlen("\"sequence\":"), NULL, 10);
    c->n_letters++;
}

static bool is_announced(const campaign *c, int consumer, uint64_t seq)
{
    for (size_t i = c->n_letters; i-- > 0;)
        if (c->letters[2 * i] == (uint32_t)consumer && c->letters[2 * i + 1] == seq)
            return true;
    return false;
}

static void look_at_letters(campaign *c, sqlite3 *db)
{
    char sql[200];
    (void)snprintf(sql, sizeof sql,
                   "SELECT seq, CAST(data AS TEXT) FROM hark_events WHERE type_id = (SELECT id "
                   "FROM hark_types "
                   "WHERE name = 'dead_letter') AND seq > %llu ORDER BY seq",
                   (unsigned long long)c->last_letter);
    sqlite3_stmt *st = ask(db, sql);
    while (sqlite3_step(st) == SQLITE_ROW) {
        c->last_letter = (uint64_t)sqlite3_column_int64(st, 0);
        announced(c, (const char *)sqlite3_column_text(st, 1));
    }
    sqlite3_finalize(st);
    st = ask(db, "SELECT c.name, d.seq FROM hark_dead_letters d JOIN hark_consumers c ON c.id = "
                 "d.consumer_id");
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(st, 0);
        uint64_t seq = (uint64_t)sqlite3_column_int64(st, 1);
        KIT_CHECK(is_announced(c, consumer_of(name), seq),
                  "run %u: the dead letter of %llu for %s is not announced", c->run,
                  (unsigned long long)seq, name);
    }
    sqlite3_finalize(st);
    KIT_CHECK(
        !number(db,
                "SELECT seq FROM hark_dead_letters GROUP BY consumer_id, seq HAVING count(*) > 1"),
        "run %u: two dead letters of one event", c->run);
}

static void look_at_floors(campaign *c, sqlite3 *db)
{
    sqlite3_stmt *st = ask(db, "SELECT name, floor FROM hark_consumers");
    while (sqlite3_step(st) == SQLITE_ROW) {
        int i = consumer_of((const char *)sqlite3_column_text(st, 0));
        uint64_t at = (uint64_t)sqlite3_column_int64(st, 1);
        /* A redrive opens an event below the floor again. */
        KIT_CHECK(at >= c->floor[i] || c->redrives || c->records[c->n_records - 1].kind == 'A',
                  "run %u: the floor of %s went back from %llu to %llu", c->run,
                  ledger_policies[i].name, (unsigned long long)c->floor[i], (unsigned long long)at);
        c->floor[i] = at;
    }
    sqlite3_finalize(st);
}

static sqlite3 *open_ledger(const campaign *c)
{
    sqlite3 *db = NULL;
    KIT_CHECK(sqlite3_open_v2(c->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK,
              "cannot open %s", c->path);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

static void look_at_ledger(campaign *c)
{
    if (access(c->path, F_OK) != 0)
        return;
    sqlite3 *db = open_ledger(c);
    if (number(db, "SELECT count(*) FROM sqlite_master WHERE name = 'hark_consumers'")) {
        look_at_letters(c, db);
        look_at_floors(c, db);
    }
    sqlite3_close(db);
}

static void ledger_is_empty(const campaign *c)
{
    sqlite3 *db = open_ledger(c);
    static const char *const tables[] = {"hark_deliveries", "hark_dead_letters"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[64];
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        KIT_CHECK(number(db, sql) == 0, "%lld rows are left in %s", (long long)number(db, sql),
                  tables[i]);
    }
    sqlite3_close(db);
}

/* ---- the log ---- */

static void read_log(campaign *c)
{
    sqlite3 *db = open_ledger(c);
    uint32_t last[LEDGER_KEYS] = {0};
    int32_t places[LEDGER_KEYS] = {0};
    c->n_log = (size_t)number(db, "SELECT max(seq) FROM hark_events") + 1;
    free(c->log);
    c->log = calloc(c->n_log, sizeof *c->log);
    KIT_CHECK(c->log != NULL, "out of memory");
    sqlite3_stmt *st =
        ask(db, "SELECT e.seq, e.id FROM hark_events e JOIN hark_types t ON t.id = e.type_id "
                "WHERE t.name = '" LEDGER_TYPE "' ORDER BY e.seq");
    while (sqlite3_step(st) == SQLITE_ROW) {
        uint32_t seq = (uint32_t)sqlite3_column_int64(st, 0);
        uint64_t n = strtoull((const char *)sqlite3_column_text(st, 1) + 2, NULL, 10);
        unsigned key = ledger_key(n);
        uint64_t receipt = *receipt_of(c, n);
        KIT_CHECK(receipt & ASKED, "event %llu was never published", (unsigned long long)n);
        KIT_CHECK(receipt == ASKED || receipt == (ASKED | seq),
                  "%llu is at %u, its receipt says %llu", (unsigned long long)n, seq,
                  (unsigned long long)(receipt & ~ASKED));
        *receipt_of(c, n) = ASKED; /* found */
        c->log[seq] = (known){.n = n, .ours = true, .place = places[key]++, .before = last[key]};
        last[key] = seq;
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    for (size_t n = 0; n < c->cap_receipts; n++)
        KIT_CHECK(!(c->receipts[n] & ~ASKED), "event %zu, published at %llu, is lost", n,
                  (unsigned long long)(c->receipts[n] & ~ASKED));
}

/* ---- going through what was said ---- */

#define WHO "run %u, %s, event %u (%llu): "
#define ABOUT(r, e)                                                                                \
    (r)->run, ledger_policies[(r)->consumer].name, (r)->seq, (unsigned long long)(e)->n

static bool is_mended(const known *e, int i, bool all)
{
    return e->mended[i] || (all && e->last[i] == 'X');
}

/* The next one of a key may come when this one is through with. */
static bool is_over(const known *e, int i)
{
    if (e->last[i] == 'X')
        return !ledger_policies[i].park || e->mended[i] || e->discarded[i];
    return e->last[i] == 'A';
}

static void check_attempt(const record *r, const known *e)
{
    int i = r->consumer;
    bool same_run = e->run[i] == r->run;
    KIT_CHECK(r->attempt >= 1 && r->attempt <= LEDGER_ATTEMPTS, WHO "attempt %u", ABOUT(r, e),
              r->attempt);
    KIT_CHECK(r->attempt == e->attempts[i] || r->attempt == e->attempts[i] + 1,
              WHO "attempt %u after attempt %u", ABOUT(r, e), r->attempt, e->attempts[i]);
    KIT_CHECK(r->attempt == e->attempts[i] ? !same_run : !e->answer[i] || e->answer[i] == 'R',
              WHO "attempt %u after attempt %u was answered %c%s", ABOUT(r, e), r->attempt,
              e->attempts[i], e->answer[i] ? e->answer[i] : '-', same_run ? " in this run" : "");
}

static void check_order(const campaign *c, const record *r, const known *e, uint32_t *at)
{
    int i = r->consumer;
    KIT_CHECK(!e->before || is_over(&c->log[e->before], i), WHO "it came before %u was through",
              ABOUT(r, e), e->before);
    if (*at)
        KIT_CHECK(r->seq == *at || e->before == *at, WHO "it came after %u, out of order",
                  ABOUT(r, e), *at);
    *at = r->seq;
}

static void take_delivery(campaign *c, const record *r, bool all, uint32_t at[C][LEDGER_KEYS])
{
    int i = r->consumer;
    KIT_CHECK(r->seq < c->n_log && c->log[r->seq].ours, "run %u: sequence %u was delivered", r->run,
              r->seq);
    known *e = &c->log[r->seq];
    KIT_CHECK(!e->gone[i], WHO "it came after its discard", ABOUT(r, e));
    bool again = is_mended(e, i, all);
    if (again)
        KIT_CHECK(e->run[i] != r->run || e->last[i] != 'A', WHO "its redrive came twice",
                  ABOUT(r, e));
    else
        check_attempt(r, e);
    if (!again || ledger_policies[i].park)
        check_order(c, r, e, &at[i][ledger_key(e->n)]);
    e->run[i] = r->run;
    e->answer[i] = r->verdict;
    e->attempts[i] = r->attempt;
    e->last[i] = ledger_end(r->verdict, r->attempt);
}

static void take_mend(campaign *c, const record *r)
{
    KIT_CHECK(r->seq < c->n_log && c->log[r->seq].ours, "run %u: a dead letter of %u", r->run,
              r->seq);
    known *e = &c->log[r->seq];
    int i = r->consumer;
    KIT_CHECK(e->last[i] == 'X' || e->mended[i] || e->discarded[i],
              WHO "a dead letter without an answer for it", ABOUT(r, e));
    KIT_CHECK(!e->done[i], WHO "its dead letter is still there", ABOUT(r, e));
    e->died[i] = true;
    e->done[i] = r->kind == 'm' || r->kind == 'x';
    e->gone[i] = r->kind == 'x';
    if (r->kind == 'M' || r->kind == 'm')
        e->mended[i] = true;
    else
        e->discarded[i] = true;
}

static void go_through(campaign *c)
{
    uint32_t at[C][LEDGER_KEYS] = {{0}}, run = 0;
    bool all = false;
    for (size_t i = 0; i < c->n_records; i++) {
        const record *r = &c->records[i];
        if (r->run != run) { /* after a kill lanes begin wherever the ledger says */
            memset(at, 0, sizeof at);
            run = r->run;
        }
        if (r->kind == 'D')
            take_delivery(c, r, all, at);
        else if (r->kind != 'A')
            take_mend(c, r);
        all = all || r->kind == 'A';
    }
}

static void nothing_is_left(const campaign *c)
{
    size_t letters = 0;
    for (size_t s = 0; s < c->n_log; s++)
        for (int i = 0; c->log[s].ours && i < C; i++) {
            const known *e = &c->log[s];
            KIT_CHECK(e->last[i] == 'A' || e->discarded[i], "%s never got event %zu done (%c)",
                      ledger_policies[i].name, s, e->last[i] ? e->last[i] : '-');
            KIT_CHECK(e->announced[i] <= 1, "%u announcements of the dead letter of %zu for %s",
                      e->announced[i], s, ledger_policies[i].name);
            KIT_CHECK(!e->died[i] || e->announced[i] == 1,
                      "the dead letter of %zu for %s was not announced", s,
                      ledger_policies[i].name);
            letters += e->announced[i];
        }
    KIT_CHECK(letters == c->n_letters, "%zu announcements, %zu of them of our events", c->n_letters,
              letters);
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_ledger_test VICTIM");
    kit_guard();
    size_t runs = kit_long() ? 9000 : 120;
    int64_t begin = kit_ms();
    campaign c = {.victim = kit_program(argv[1]),
                  .path = kit_path("x.db"),
                  .mended = kit_path("mended"),
                  .random = kit_seed()};
    char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s", c.path);
    c.url = url;
    for (size_t i = 0; i < runs; i++) {
        live_and_kill(&c);
        look_at_ledger(&c);
    }
    read_log(&c);
    for (int i = 0; i < 3; i++) {
        redrive_all(&c, false);
        look_at_ledger(&c);
    }
    redrive_all(&c, true);
    int64_t killed = kit_ms();
    look_at_ledger(&c);
    ledger_is_empty(&c);
    read_log(&c);
    for (size_t i = 0; i < c.n_letters; i++)
        if (c.letters[2 * i + 1] < c.n_log)
            c.log[c.letters[2 * i + 1]].announced[c.letters[2 * i]]++;
    go_through(&c);
    nothing_is_left(&c);
    printf("%zu kills in %lld ms, audit %lld ms; %zu in the log, %zu lines, %zu dead letters, %zu "
           "redriven and %zu discarded on the way\n",
           c.kills, (long long)(killed - begin), (long long)(kit_ms() - killed), c.n_log,
           c.n_records, c.n_letters, c.redrives, c.discards);
    free(c.records);
    free(c.receipts);
    free(c.log);
    free(c.letters);
    return 0;
}
