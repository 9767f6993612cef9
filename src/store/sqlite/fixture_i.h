/* fixture: what the tests of this folder share: a scratch directory with one log in it, events in a
 * line, and pages of the log. <cmocka.h> comes before it. */
#ifndef HK_SQLITE_FIXTURE_I_H
#define HK_SQLITE_FIXTURE_I_H

#include "base/base.h"
#include "store/sqlite/sqlite.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPS hk_store_sqlite

#define NO_SHARE ((hark_store_owned){0}) /* of an ack: the log is one process's */

typedef struct fixture {
    char dir[64];
    char path[96];
    hark_store *store;
    hark_errinfo ei;
} fixture;

/* Asserts success and shows the error's text when it isn't. */
#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_)                                                                                  \
            fail_msg("%s: %s: %s", #call, hark_err_name(err_), (f)->ei.text);                      \
    } while (0)

#define assert_err(f, expected, call)                                                              \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_ != (expected))                                                                    \
            fail_msg("%s: expected %s, got %s: %s", #call, hark_err_name(expected),                \
                     hark_err_name(err_), (f)->ei.text);                                           \
    } while (0)

#define assert_says(f, part)                                                                       \
    do {                                                                                           \
        if (!strstr((f)->ei.text, part))                                                           \
            fail_msg("expected '%s' in: %s", part, (f)->ei.text);                                  \
    } while (0)

static inline hark_err open_log(fixture *f)
{
    return OPS.open(f->path, NULL, NULL, &f->store, &f->ei);
}

static inline void close_log(fixture *f)
{
    OPS.close(f->store);
    f->store = NULL;
}

static inline void reopen_log(fixture *f)
{
    close_log(f);
    assert_ok(f, open_log(f));
}

static inline int set_up_dir(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    const char *base = getenv("TMPDIR");
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "%.40s/hark-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/log.db", f->dir);
    *state = f;
    return 0;
}

static inline int set_up(void **state)
{
    (void)set_up_dir(state);
    assert_ok((fixture *)*state, open_log(*state));
    return 0;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    char command[128];
    OPS.close(f->store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static inline hark_event *event_of(const hark_event_spec *spec)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    hark_err err = hark_event_new(spec, &e, &ei);
    if (err)
        fail_msg("event: %s", ei.text);
    return e;
}

static inline hark_event *simple_event(const char *type, const char *id)
{
    return event_of(
        HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test", .json = "{\"n\":1}"));
}

/* An item to append; its digest stands for its content. Takes the event over. */
static inline hark_store_append item(hark_event *e, uint8_t digest)
{
    return (hark_store_append){.event = e, .digest = {digest}};
}

static inline hark_err append(fixture *f, hark_store_append *a, size_t n)
{
    return OPS.append(f->store, a, n, &f->ei);
}

static inline void drop_items(hark_store_append *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)hark_event_unref(a[i].event);
}

static inline void begin(fixture *f)
{
    assert_ok(f, OPS.begin(f->store, &f->ei));
}

static inline void commit(fixture *f)
{
    assert_ok(f, OPS.commit(f->store, &f->ei));
}

/* Appends one event inside a group; returns its sequence. */
static inline uint64_t add_spec(fixture *f, const hark_event_spec *spec)
{
    hark_store_append a = item(event_of(spec), 1);
    assert_ok(f, append(f, &a, 1));
    drop_items(&a, 1);
    return a.ret_sequence;
}

static inline uint64_t add(fixture *f, const char *type, const char *id)
{
    return add_spec(f, HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test",
                                 .json = "{\"n\":1}"));
}

/* A page of at most 64 events, dropped by the next. */
typedef struct page {
    hark_event *events[64];
    hark_store_page p;
} page;

static inline void drop_page(page *pg)
{
    for (size_t i = 0; i < pg->p.n; i++)
        (void)hark_event_unref(pg->events[i]);
    pg->p.n = 0;
}

static inline hark_err read_into(fixture *f, page *pg, hark_store_query q)
{
    drop_page(pg);
    q.size = sizeof q;
    if (q.limit == 0)
        q.limit = HK_COUNTOF(pg->events);
    pg->p.events = pg->events;
    return OPS.read(f->store, &q, &pg->p, &f->ei);
}

/* The sequences of a page as text: "1 2 3 end". */
static inline const char *sequences(fixture *f, hark_store_query q, char ret[512])
{
    page pg = {0};
    size_t at = 0;
    assert_ok(f, read_into(f, &pg, q));
    ret[0] = '\0';
    for (size_t i = 0; i < pg.p.n; i++)
        at += (size_t)snprintf(ret + at, 512 - at, "%llu ",
                               (unsigned long long)hark_event_sequence(pg.events[i]));
    (void)snprintf(ret + at, 512 - at, pg.p.end ? "end" : "more from %llu",
                   (unsigned long long)pg.p.covered);
    drop_page(&pg);
    return ret;
}

#define assert_reads(f, expected, ...)                                                             \
    do {                                                                                           \
        char text_[512];                                                                           \
        assert_string_equal(expected, sequences(f, (hark_store_query){__VA_ARGS__}, text_));       \
    } while (0)

/* SQL on the log's file through a connection of its own, as another program would. */
static inline void run_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    char *error = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s: %s", sql, error);
    sqlite3_close(db);
}

static inline int64_t number_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

#endif
