/* How many events of each type and version there are. The table hark_versions has all events up to
 * the sequence `counted`; what came after it is noted in memory by the writer, in the order of the
 * log, and added to the table every few thousand events, in the transaction that it belongs to. So
 * an event costs a few instructions, whoever reads counts at most so many rows beside the table, in
 * one snapshot, and nothing has to be mended after a crash. Dead letters and schedules are counted
 * when somebody asks. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>
#include <string.h>

#define INTERVAL_MIN 4096
#define INTERVAL_MAX 32768 /* rows that a reader may have to count */
#define PER_PAIR     64    /* events to one row written to the table, or more */

typedef struct hk_tally_run run;

/* ---- noting, by the writer ------------------------------------------------------------------- */

hark_err hk_versions_room(hark_store *s, size_t n, hark_errinfo *ei)
{
    hk_tally *t = &s->tally;
    if (HK_LIKELY(t->cap - t->n >= n))
        return HARK_OK;
    size_t cap = t->cap ? t->cap * 2 : INTERVAL_MIN;
    while (cap - t->n < n)
        cap *= 2;
    run *runs = realloc(t->runs, cap * sizeof *runs);
    if (!runs)
        return hk_fail(ei, HARK_ENOMEM, "no memory to count %zu events of %s; try again", n,
                       s->path);
    t->runs = runs;
    t->cap = cap;
    return HARK_OK;
}

/* The run that one more event of the same kind may be added to, or a new one. */
static run *run_of(hk_tally *t, int64_t type, int64_t version, bool removed)
{
    run *r = t->n > t->sealed ? &t->runs[t->n - 1] : NULL;
    if (r && r->type == type && r->version == version && (r->count < 0) == removed)
        return r;
    r = &t->runs[t->n++];
    *r = (run){.type = type, .version = version};
    return r;
}

void hk_versions_add(hark_store *s, int64_t type, int64_t version)
{
    run *r = run_of(&s->tally, type, version, false);
    r->count++;
    r->last = s->now.recorded;
    if (r->first == 0)
        r->first = s->now.recorded;
}

hark_err hk_versions_remove(hark_store *s, int64_t type, int64_t version, hark_errinfo *ei)
{
    hark_err err = hk_versions_room(s, 1, ei);
    if (err)
        return err;
    run_of(&s->tally, type, version, true)->count--;
    s->tally.removed = true;
    return HARK_OK;
}

size_t hk_versions_mark(hark_store *s)
{
    s->tally.sealed = s->tally.n;
    return s->tally.n;
}

void hk_versions_back(hark_store *s, size_t mark)
{
    s->tally.n = s->tally.sealed = mark;
}

/* ---- into the table -------------------------------------------------------------------------- */

/* Runs of one type and version become one, in a copy; the order does not matter any more. */
static size_t fold(const hk_tally *t, run *sums, uint32_t *slots, size_t mask)
{
    size_t n = 0;
    for (const run *r = t->runs; r < t->runs + t->n; r++) {
        const int64_t key[2] = {r->type, r->version};
        size_t i = hk_hash(key, sizeof key) & mask;
        while (slots[i] &&
               (sums[slots[i] - 1].type != r->type || sums[slots[i] - 1].version != r->version))
            i = (i + 1) & mask;
        if (!slots[i]) {
            sums[n] = *r;
            slots[i] = (uint32_t)++n;
            continue;
        }
        run *sum = &sums[slots[i] - 1];
        sum->count += r->count;
        sum->first = sum->first ? sum->first : r->first;
        sum->last = r->last ? r->last : sum->last;
    }
    return n;
}

static hark_err add_to_table(hark_store *s, const run *sums, size_t n, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_VERSION_ADD, &st, ei);
    for (size_t i = 0; i < n && !err; i++) {
        sqlite3_bind_int64(st, 1, sums[i].type);
        sqlite3_bind_int64(st, 2, sums[i].version);
        sqlite3_bind_int64(st, 3, sums[i].count);
        sqlite3_bind_int64(st, 4, sums[i].first);
        sqlite3_bind_int64(st, 5, sums[i].last);
        err = hk_conn_run(&s->conn, st, "counting events by version", ei);
    }
    return err;
}

static hark_err set_counted(hark_store *s, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_META_PUT, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, "counted");
    sqlite3_bind_int64(st, 2, (int64_t)s->now.last);
    return hk_conn_run(&s->conn, st, "noting which events are counted", ei);
}

static hark_err store_sums(hark_store *s, run *sums, uint32_t *slots, size_t mask, hark_errinfo *ei)
{
    hk_tally *t = &s->tally;
    size_t n = fold(t, sums, slots, mask);
    uint64_t interval = (uint64_t)n * PER_PAIR;
    t->interval = interval < INTERVAL_MIN   ? INTERVAL_MIN
                  : interval > INTERVAL_MAX ? INTERVAL_MAX
                                            : interval;
    hark_err err = add_to_table(s, sums, n, ei);
    if (!err)
        err = set_counted(s, ei);
    t->stored = !err;
    return err;
}

/* Everything noted, this group's too, goes into the table. Without memory for it that may wait,
 * unless events are gone that the table counts. */
static hark_err store(hark_store *s, hark_errinfo *ei)
{
    const hk_tally *t = &s->tally;
    size_t n_slots = 64;
    while (n_slots < t->n * 2)
        n_slots *= 2;
    run *sums = malloc((t->n + 1) * sizeof *sums);
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    hark_err err = HARK_OK;
    if (sums && slots)
        err = store_sums(s, sums, slots, n_slots - 1, ei);
    else if (t->removed)
        err = hk_fail(ei, HARK_ENOMEM, "no memory to count the events of %s; try again", s->path);
    free(sums);
    free(slots);
    return err;
}

hark_err hk_versions_settle(hark_store *s, hark_errinfo *ei)
{
    const hk_tally *t = &s->tally;
    if (HK_LIKELY(!t->removed && s->now.last - t->counted < t->interval))
        return HARK_OK;
    return store(s, ei);
}

void hk_versions_committed(hark_store *s)
{
    hk_tally *t = &s->tally;
    if (t->stored) {
        t->counted = s->now.last;
        t->n = 0;
    }
    t->stored = t->removed = false;
    t->n_kept = t->sealed = t->n;
}

void hk_versions_rolled_back(hark_store *s)
{
    s->tally.n = s->tally.sealed = s->tally.n_kept;
    s->tally.stored = s->tally.removed = false;
}

/* What fails here costs the next opening a moment, no more. */
void hk_versions_finish(hark_store *s)
{
    if (s->conn.db && !s->broken && s->tally.n > 0 && hk_group_begin(s, NULL) == HARK_OK) {
        s->tally.removed = true; /* so that the commit stores all, however little it is */
        if (hk_group_commit(s, NULL) != HARK_OK)
            hk_group_rollback(s);
    }
}

/* ---- at opening ------------------------------------------------------------------------------ */

static hark_err load_runs(hark_store *s, sqlite3_stmt *st, hark_errinfo *ei)
{
    bool row = true;
    hark_err err = HARK_OK;
    while (!err) {
        err = hk_conn_step(&s->conn, st, &row, "counting what the table of versions lacks", ei);
        if (err || !row)
            break;
        err = hk_versions_room(s, 1, ei);
        if (!err)
            s->tally.runs[s->tally.n++] = (run){.type = sqlite3_column_int64(st, 0),
                                                .version = sqlite3_column_int64(st, 1),
                                                .count = sqlite3_column_int64(st, 2),
                                                .first = sqlite3_column_int64(st, 3),
                                                .last = sqlite3_column_int64(st, 4)};
    }
    s->tally.n_kept = s->tally.sealed = s->tally.n;
    return err;
}

static hark_err find_counted(hark_store *s, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    int64_t counted = -1;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_COUNTED, &st, ei);
    if (!err)
        err = hk_conn_int(&s->conn, st, -1, &counted, ei);
    if (!err && counted < 0)
        err = hk_fail(ei, HARK_ECORRUPT,
                      "%s has no counted in its table hark_meta; restore from a backup", s->path);
    s->tally.counted = (uint64_t)counted;
    return err;
}

/* What the last process had noted: after a crash, some thousand rows. A damaged one does not keep
 * the log from being opened: it is reported where it is read. */
hark_err hk_versions_load(hark_store *s, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_errinfo why = {0};
    hark_err err = find_counted(s, ei);
    if (!err)
        err = hk_conn_get(&s->conn, HK_SQL_VERSIONS_ABOVE, &st, ei);
    if (err)
        return err;
    s->tally.interval = INTERVAL_MIN;
    sqlite3_bind_int64(st, 1, (int64_t)s->tally.counted);
    err = load_runs(s, st, &why);
    sqlite3_reset(st);
    if (err == HARK_ECORRUPT)
        hk_log(HK_WARN, "%s; the newest events are not all counted by version", why.text);
    else if (err)
        return hk_fail(ei, err, "%s", why.text);
    return HARK_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* SQL function hark_envelope(json, name): `type` or `dataversion` of an event that is kept outside
 * of the log; NULL when it is damaged, which is for those who list it to tell. */
static void envelope(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    const char *json = (const char *)sqlite3_value_text(args[0]);
    size_t len = (size_t)sqlite3_value_bytes(args[0]);
    const char *name = (const char *)sqlite3_value_text(args[1]);
    hark_event *e;
    hark_err err = json && name ? hk_envelope_event(json, len, NULL, 0, "an envelope", &e, NULL)
                                : HARK_ECORRUPT;
    (void)n;
    if (err == HARK_ENOMEM)
        sqlite3_result_error_nomem(ctx);
    if (err)
        return;
    if (strcmp(name, "type") == 0)
        sqlite3_result_text(ctx, hark_event_type(e), -1, SQLITE_TRANSIENT);
    else
        sqlite3_result_int64(ctx, hark_event_dataversion(e));
    hark_event_unref(e);
}

/* Only these statements know the function: it is made before the first of them is prepared. */
static hark_err make_function(hk_conn *c, hark_errinfo *ei)
{
    const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY;
    if (c->stmts[HK_SQL_VERSIONS])
        return HARK_OK;
    if (sqlite3_create_function_v2(c->db, "hark_envelope", 2, flags, NULL, envelope, NULL, NULL,
                                   NULL) != SQLITE_OK)
        return hk_conn_fail(c, "preparing to list versions", ei);
    return HARK_OK;
}

static bool load_row(sqlite3_stmt *st, hark_store_version *ret)
{
    *ret = (hark_store_version){.version = sqlite3_column_int64(st, 1),
                                .events = (uint64_t)sqlite3_column_int64(st, 2),
                                .dead_letters = (uint64_t)sqlite3_column_int64(st, 3),
                                .schedules = (uint64_t)sqlite3_column_int64(st, 4),
                                .first_ns = sqlite3_column_int64(st, 5),
                                .last_ns = sqlite3_column_int64(st, 6)};
    return hk_column_str(st, 0, &ret->type);
}

static bool keep_row(hk_copies *list, sqlite3_stmt *st)
{
    static const size_t strings[] = {offsetof(hark_store_version, type)};
    hark_store_version v;
    if (!load_row(st, &v))
        return false;
    bool damaged = !v.type || sqlite3_column_type(st, 1) == SQLITE_NULL;
    return damaged || hk_copies_add(list, &v, sizeof v, strings, HK_COUNTOF(strings));
}

static hark_err collect(hk_reader *r, void *ud, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = true;
    hark_err err = make_function(&r->conn, ei);
    if (!err)
        err = hk_conn_get(&r->conn, HK_SQL_VERSIONS, &st, ei);
    if (err)
        return err;
    while (!err) {
        err = hk_conn_step(&r->conn, st, &row, "listing versions", ei);
        if (err || !row)
            break;
        if (!keep_row(ud, st))
            err = hk_fail(ei, HARK_ENOMEM,
                          "no memory to list the versions; free some, then try again");
    }
    sqlite3_reset(st);
    return err;
}

hark_err hk_sqlite_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei)
{
    hk_copies list = {0};
    hark_err err = hk_reader_run(s, collect, &list, ei);
    for (size_t i = 0; i < list.n && !err; i++)
        if (!fn(ud, list.rows[i]))
            break;
    hk_copies_free(&list);
    return err;
}
