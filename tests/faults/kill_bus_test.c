/* kill_bus_victim, killed -9 again and again on one log, and what it said compared with the log:
 * every receipt is in it at its sequence with its content, once; batches are whole; nothing is
 * there that was not sent; what was published again under its id after a kill is one event. The
 * consumer gets each key in order and leaves nothing out, its floor never goes back, and each event
 * that it gave up on is one dead letter. */
#include "kit.h"
#include "work.h"

#include <hark/hark.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 16, AGAIN = 2000 };
#define PER_RUN 1000000 /* numbers */

typedef struct sent {
    uint64_t n, first;
    unsigned count;
    uint64_t receipt; /* the sequence that it names; 0 = none */
    uint64_t seq;     /* in the log */
    int key;
    uint32_t place; /* among the events of its key */
    bool again;     /* published by itself in a later run */
    bool delivered;
} sent;

typedef struct delivery {
    size_t run;
    uint64_t seq, n;
    int attempt;
} delivery;

typedef struct campaign {
    const char *victim, *url, *path;
    uint64_t random;
    size_t run;
    sent *sent;
    size_t n_sent, cap_sent, n_sorted;
    size_t *of_run; /* by number: place in `sent`, plus 1 */
    sent **in_log;  /* in order of sequence */
    size_t n_in_log;
    delivery *deliveries;
    size_t n_deliveries, cap_deliveries;
    size_t again, receipts;
    uint64_t floor;
    int64_t dead;
    kit_lines lines;
    size_t n_lines;
} campaign;

/* ---- what the victim says ---- */

static int by_n(const void *a, const void *b)
{
    const sent *x = a, *y = b;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* Those of earlier runs are sorted; those of this run are found by their number. */
static sent *find_sent(campaign *c, uint64_t n)
{
    sent key = {.n = n};
    if (n / PER_RUN != c->run + 1)
        return bsearch(&key, c->sent, c->n_sorted, sizeof *c->sent, by_n);
    size_t i = c->of_run[n % PER_RUN];
    return i ? &c->sent[i - 1] : NULL;
}

static void add_sent(campaign *c, const sent *s)
{
    sent *before = find_sent(c, s->n);
    if (before) {
        before->again = true;
        return;
    }
    KIT_CHECK(s->n / PER_RUN == c->run + 1, "a strange number: %llu", (unsigned long long)s->n);
    c->sent = kit_grow(c->sent, c->n_sent, &c->cap_sent, sizeof *c->sent);
    c->sent[c->n_sent++] = *s;
    c->of_run[s->n % PER_RUN] = c->n_sent;
}

static void sort_sent(campaign *c)
{
    if (c->n_sent > 0) /* the first one may have been killed before it said anything */
        qsort(c->sent, c->n_sent, sizeof *c->sent, by_n);
    c->n_sorted = c->n_sent;
    memset(c->of_run, 0, PER_RUN * sizeof *c->of_run);
}

static void take_line(void *ud, const char *line)
{
    campaign *c = ud;
    unsigned long long a, b;
    unsigned count;
    int attempt;
    sent *s;
    c->n_lines++;
    if (sscanf(line, "S %llu %llu %u", &a, &b, &count) == 3) {
        add_sent(c, &(sent){.n = a, .first = b, .count = count});
    } else if (sscanf(line, "R %llu %llu", &a, &b) == 2) {
        KIT_CHECK((s = find_sent(c, a)) != NULL, "a receipt of %llu, which was never sent", a);
        KIT_CHECK(!s->receipt || s->receipt == b, "%llu has receipts of %llu and %llu", a,
                  (unsigned long long)s->receipt, b);
        c->receipts += !s->receipt;
        s->receipt = b;
    } else if (sscanf(line, "D %llu %llu %d", &a, &b, &attempt) == 3) {
        c->deliveries =
            kit_grow(c->deliveries, c->n_deliveries, &c->cap_deliveries, sizeof *c->deliveries);
        c->deliveries[c->n_deliveries++] =
            (delivery){.run = c->run, .seq = a, .n = b, .attempt = attempt};
    } else {
        kit_fail("a strange line: %s", line);
    }
}

static bool read_lines(campaign *c, int fd)
{
    return kit_read_lines(&c->lines, fd, take_line, c);
}

/* ---- one run ---- */

static void run_until(campaign *c, kit_proc *p, int64_t at, size_t lines)
{
    struct pollfd out = {.fd = p->out, .events = POLLIN};
    while (kit_ms() < at && c->n_lines < lines) {
        int64_t left = at - kit_ms();
        if (poll(&out, 1, left > 0 ? (int)left : 0) > 0 && !read_lines(c, p->out))
            kit_fail("the victim ended by itself: %s", kit_slurp(kit_path("stderr"), NULL));
    }
}

static void run_and_kill(campaign *c)
{
    const char *argv[AGAIN + 4] = {c->victim, c->url, NULL};
    char first[32];
    size_t n = 3;
    uint64_t r = kit_random(&c->random);
    (void)snprintf(first, sizeof first, "%llu", (unsigned long long)(c->run + 1) * PER_RUN);
    argv[2] = first;
    for (size_t i = c->n_sent; i-- > 0 && n < AGAIN + 3;) {
        const sent *s = &c->sent[i];
        if (s->receipt)
            continue;
        char *arg = NULL;
        KIT_CHECK(asprintf(&arg, "%llu:%llu:%u", (unsigned long long)s->n,
                           (unsigned long long)s->first, s->count) > 0,
                  "out of memory");
        argv[n++] = arg;
        c->again++;
    }
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    for (size_t i = 3; i < n; i++) {
        union {
            const char *given;
            char *mine;
        } arg = {.given = argv[i]};
        free(arg.mine);
    }
    int64_t now = kit_ms();
    if (r % 8 == 0)
        run_until(c, &p, now + (int64_t)(r / 8 % 30), SIZE_MAX);
    else if (r % 2)
        run_until(c, &p, now + 2000, c->n_lines + 1 + r / 8 % 6000);
    else
        run_until(c, &p, now + 10 + (int64_t)(r / 8 % 300), SIZE_MAX);
    kill(p.pid, SIGKILL);
    while (read_lines(c, p.out))
        continue;
    kit_kill(&p);
    c->lines.n = 0;
}

/* ---- the ledger, read beside the library ---- */

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    KIT_CHECK(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK, "%s: %s", sql,
              sqlite3_errmsg(db));
    int rc = sqlite3_step(st);
    KIT_CHECK(rc == SQLITE_ROW || rc == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return n;
}

static sqlite3 *open_ledger(campaign *c)
{
    sqlite3 *db = NULL;
    KIT_CHECK(sqlite3_open_v2(c->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK,
              "cannot open %s", c->path);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

static void ledger_never_goes_back(campaign *c)
{
    if (access(c->path, F_OK) != 0)
        return;
    sqlite3 *db = open_ledger(c);
    if (ask(db, "SELECT count(*) FROM sqlite_master WHERE name = 'hark_consumers'")) {
        uint64_t at = (uint64_t)ask(db, "SELECT floor FROM hark_consumers");
        int64_t dead = ask(db, "SELECT count(*) FROM hark_dead_letters");
        KIT_CHECK(at >= c->floor, "run %zu: the floor went back from %llu to %llu", c->run,
                  (unsigned long long)c->floor, (unsigned long long)at);
        KIT_CHECK(dead >= c->dead, "run %zu: dead letters went from %lld to %lld", c->run,
                  (long long)c->dead, (long long)dead);
        KIT_CHECK(ask(db, "SELECT seq FROM hark_dead_letters GROUP BY seq HAVING count(*) > 1") ==
                      0,
                  "run %zu: two dead letters of one event", c->run);
        KIT_CHECK(
            ask(db,
                "SELECT d.seq FROM hark_deliveries d JOIN hark_dead_letters l ON d.seq = l.seq") ==
                0,
            "run %zu: a dead letter is still open", c->run);
        c->floor = at;
        c->dead = dead;
    }
    sqlite3_close(db);
}

/* ---- the audit ---- */

static void audit_event(campaign *c, const hark_event *e, uint32_t places[KEYS])
{
    size_t len;
    const char *data = hark_event_data(e, &len);
    uint64_t seq = hark_event_sequence(e);
    work w;
    KIT_CHECK(strcmp(hark_event_type(e), WORK_TYPE) == 0, "an event of type %s was invented",
              hark_event_type(e));
    sent key = {.n = strtoull(data + strlen("{\"n\":"), NULL, 10)};
    sent *s = bsearch(&key, c->sent, c->n_sent, sizeof *c->sent, by_n);
    KIT_CHECK(s != NULL, "event %llu was never sent: %.200s", (unsigned long long)seq, data);
    KIT_CHECK(s->seq == 0, "%llu is in the log twice, at %llu and %llu", (unsigned long long)s->n,
              (unsigned long long)s->seq, (unsigned long long)seq);
    work_make(s->n, s->first, s->count, &w);
    KIT_CHECK(strlen(w.data) == len && memcmp(w.data, data, len) == 0 &&
                  strcmp(w.key, hark_event_key(e)) == 0 && strcmp(w.id, hark_event_id(e)) == 0,
              "event %llu has other content than was sent: %.200s", (unsigned long long)seq, data);
    s->seq = seq;
    s->key = atoi(w.key + 1);
    s->place = places[s->key]++;
    c->in_log[c->n_in_log++] = s;
}

static void read_log(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    hark_page *page = NULL;
    uint64_t after = 0, last = 0;
    uint32_t places[KEYS] = {0};
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("the log does not open: %s", ei.text);
    do {
        if (hark_read(bus, HARK_OPTS(hark_read_opts, .after = after, .limit = 10000), &page, &ei))
            kit_fail("the log cannot be read: %s", ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++) {
            const hark_event *e = hark_page_event(page, i);
            KIT_CHECK(hark_event_sequence(e) > last, "sequence %llu after %llu",
                      (unsigned long long)hark_event_sequence(e), (unsigned long long)last);
            last = hark_event_sequence(e);
            audit_event(c, e, places);
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    hark_bus_unref(bus);
}

static void audit_log(campaign *c)
{
    c->in_log = calloc(c->n_sent + 1, sizeof(*c->in_log));
    KIT_CHECK(c->in_log != NULL, "out of memory");
    read_log(c);
    for (size_t i = 0; i < c->n_sent; i++) {
        const sent *s = &c->sent[i];
        KIT_CHECK(!s->receipt || s->receipt == s->seq, "%llu: its receipt says %llu, the log %llu",
                  (unsigned long long)s->n, (unsigned long long)s->receipt,
                  (unsigned long long)s->seq);
        const sent *before = i ? &c->sent[i - 1] : s;
        if (before->first != s->first || before->again || s->again || before == s)
            continue;
        KIT_CHECK(s->seq ? s->seq == before->seq + 1 : !before->seq,
                  "the batch of %llu is torn: %llu at %llu, the next one at %llu",
                  (unsigned long long)s->first, (unsigned long long)before->n,
                  (unsigned long long)before->seq, (unsigned long long)s->seq);
    }
}

static int by_seq(const void *a, const void *b)
{
    const sent *const *x = a, *const *y = b;
    return (*x)->seq < (*y)->seq ? -1 : (*x)->seq > (*y)->seq;
}

/* In each run and key: the same event again after a retry, or the key's next one. */
static void audit_deliveries(campaign *c)
{
    size_t run[KEYS], done[KEYS] = {0};
    const delivery *last[KEYS];
    const sent *what[KEYS];
    memset(run, 0xff, sizeof run);
    for (size_t i = 0; i < c->n_deliveries; i++) {
        const delivery *d = &c->deliveries[i];
        sent key = {.seq = d->seq}, *at = &key;
        sent **found = bsearch(&at, c->in_log, c->n_in_log, sizeof(*c->in_log), by_seq);
        KIT_CHECK(found && (*found)->n == d->n,
                  "run %zu: delivered %llu as %llu, not so in the log", d->run,
                  (unsigned long long)d->n, (unsigned long long)d->seq);
        sent *s = *found;
        int k = s->key;
        if (run[k] != d->run)
            KIT_CHECK(s->place <= done[k], "run %zu: key %d begins at its event %u, %zu left out",
                      d->run, k, s->place, s->place - done[k]);
        else if (what[k] == s)
            KIT_CHECK(d->attempt > last[k]->attempt, "run %zu: %llu came twice as attempt %d",
                      d->run, (unsigned long long)d->n, d->attempt);
        else
            KIT_CHECK(s->place == what[k]->place + 1,
                      "run %zu: key %d: its event %u came after its event %u", d->run, k, s->place,
                      what[k]->place);
        KIT_CHECK(d->attempt <= WORK_ATTEMPTS, "attempt %d of %llu", d->attempt,
                  (unsigned long long)d->n);
        run[k] = d->run;
        last[k] = d;
        what[k] = s;
        s->delivered = true;
        done[k] = s->place + 1u > done[k] ? s->place + 1u : done[k];
    }
    for (size_t i = 0; i < c->n_in_log; i++)
        KIT_CHECK(c->in_log[i]->delivered, "event %llu never came",
                  (unsigned long long)c->in_log[i]->seq);
}

static void audit_dead_letters(campaign *c)
{
    char sql[200];
    int64_t expected = 0;
    sqlite3 *db = open_ledger(c);
    for (size_t i = 0; i < c->n_in_log; i++) {
        work_fate fate = work_fate_of(c->in_log[i]->n);
        if (fate != WORK_REJECT && fate != WORK_HOPELESS)
            continue;
        expected++;
        (void)snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM hark_dead_letters WHERE consumer_id = 1 AND seq = %llu AND "
            "reason = '%s' AND "
            "attempts = %d",
            (unsigned long long)c->in_log[i]->seq,
            fate == WORK_REJECT ? "rejected" : "max_attempts",
            fate == WORK_REJECT ? 1 : WORK_ATTEMPTS);
        KIT_CHECK(ask(db, sql) == 1, "expected one row: %s", sql);
    }
    int64_t dead = ask(db, "SELECT count(*) FROM hark_dead_letters");
    int64_t open = ask(db, "SELECT count(*) FROM hark_deliveries");
    int64_t announced =
        ask(db, "SELECT count(*) FROM hark_events e JOIN hark_types t ON t.id = e.type_id "
                "WHERE t.name = 'dead_letter'");
    sqlite3_close(db);
    KIT_CHECK(dead == expected, "expected %lld dead letters, got %lld", (long long)expected,
              (long long)dead);
    KIT_CHECK(announced == expected, "%lld dead letters, and %lld of them are announced",
              (long long)dead, (long long)announced);
    KIT_CHECK(open == 0, "%lld deliveries are still open", (long long)open);
    printf("%lld dead letters\n", (long long)dead);
}

static void settle_all(campaign *c)
{
    char last[32] = "0";
    if (c->n_in_log)
        (void)snprintf(last, sizeof last, "%llu",
                       (unsigned long long)c->in_log[c->n_in_log - 1]->seq);
    const char *argv[] = {c->victim, c->url, "--settle", last, NULL};
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    while (read_lines(c, p.out))
        continue;
    int status = kit_wait(&p, KIT_HUNG_MS);
    if (!kit_exited(status, 0))
        kit_fail("the last run: wait status %d: %s", status, kit_slurp(kit_path("stderr"), NULL));
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_bus_test VICTIM");
    kit_guard();
    uint64_t seed = kit_seed();
    size_t runs = kit_long() ? 500 : 40;
    int64_t begin = kit_ms();
    campaign c = {.victim = kit_program(argv[1]), .path = kit_path("x.db"), .random = seed};
    char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s", c.path);
    c.url = url;
    c.of_run = calloc(PER_RUN, sizeof *c.of_run);
    KIT_CHECK(c.of_run != NULL, "out of memory");
    for (c.run = 0; c.run < runs; c.run++) {
        run_and_kill(&c);
        sort_sent(&c);
        ledger_never_goes_back(&c);
    }
    int64_t killed = kit_ms();
    audit_log(&c);
    settle_all(&c);
    audit_deliveries(&c);
    audit_dead_letters(&c);
    printf(
        "%zu kills in %lld ms, audit %lld ms; sent %zu (%zu of them again), receipts %zu, in the "
        "log %zu, deliveries %zu\n",
        runs, (long long)(killed - begin), (long long)(kit_ms() - killed), c.n_sent, c.again,
        c.receipts, c.n_in_log, c.n_deliveries);
    free(c.sent);
    free(c.of_run);
    free(c.in_log);
    free(c.deliveries);
    return 0;
}
