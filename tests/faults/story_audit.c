/* Comparing a log with a story: see story.h. First through the library, then in the tables beside
 * it, last by letting the consumers go on to the end. */
#include "story.h"

#include "kit.h"
#include "story_i.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct audit {
    story *s;
    const char *path, *what;
    size_t at;
    uint64_t seq[STORY_EVENTS];          /* in the log; 0 = not there */
    unsigned announced[2][STORY_EVENTS]; /* by an event in the log */
    bool waiting[STORY_EVENTS];          /* in a schedule */
    bool open[2][STORY_EVENTS];          /* has a row */
    bool settled[2][STORY_EVENTS];
    bool finished; /* it has gone on to the end: later answers count */
} audit;

#define CHECK(a, cond, fmt, ...)                                                                   \
    KIT_CHECK(cond, "%s, at %zu: " fmt, (a)->what, (a)->at, __VA_ARGS__)

/* ---- the log ---- */

static void look_at_event(audit *a, const hark_event *e)
{
    static char data[STORY_DATA];
    size_t len, n = story_number(e), want;
    CHECK(a, n != STORY_NEVER, "event %s was never published", hark_event_id(e));
    const story_event *was = &a->s->events[n];
    CHECK(a, was->asked != STORY_NEVER && was->asked <= a->at, "event %zu comes from nowhere", n);
    CHECK(a, !a->seq[n], "event %zu is there twice", n);
    const void *got = hark_event_data(e, &len);
    want = story_data(n, a->s->big, data);
    CHECK(a, len == want && memcmp(got, data, len) == 0, "event %zu has other data", n);
    a->seq[n] = hark_event_sequence(e);
}

static void look_at_letter(audit *a, const hark_event *e)
{
    size_t len;
    const char *data = hark_event_data(e, &len);
    const char *at = data ? strstr(data, "\"sequence\":") : NULL;
    CHECK(a, at != NULL, "a dead_letter without a sequence: %.200s", data ? data : "");
    uint64_t seq = strtoull(at + strlen("\"sequence\":"), NULL, 10);
    int c = strstr(data, "\"consumer\":\"parks\"") ? 1 : 0;
    for (size_t n = 0; n < STORY_EVENTS; n++)
        if (a->seq[n] == seq)
            a->announced[c][n]++;
}

static void read_log(audit *a, hark_bus *bus, const char *type,
                     void (*look)(audit *a, const hark_event *e))
{
    hark_page *page = NULL;
    hark_errinfo ei;
    uint64_t after = 0, last = 0;
    do {
        if (hark_read(bus, HARK_OPTS(hark_read_opts, .type = type, .after = after), &page, &ei))
            kit_fail("%s, at %zu: the log cannot be read: %s", a->what, a->at, ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++) {
            const hark_event *e = hark_page_event(page, i);
            CHECK(a, hark_event_sequence(e) > last, "sequence %llu after %llu",
                  (unsigned long long)hark_event_sequence(e), (unsigned long long)last);
            last = hark_event_sequence(e);
            look(a, e);
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
}

static bool look_at_schedule(const hark_schedule_info *info, void *ud)
{
    audit *a = ud;
    size_t n = story_number(info->event);
    CHECK(a, n != STORY_NEVER && !a->waiting[n], "a strange schedule of %s",
          hark_event_id(info->event));
    a->waiting[n] = true;
    return true;
}

static void promises_are_kept(const audit *a)
{
    for (size_t n = 0; n < STORY_EVENTS; n++) {
        const story_event *e = &a->s->events[n];
        bool there = a->seq[n] != 0;
        if (e->told <= a->at)
            CHECK(a, a->seq[n] == e->seq, "event %zu got a receipt of %llu at %zu; it is at %llu",
                  n, (unsigned long long)e->seq, e->told, (unsigned long long)a->seq[n]);
        if (e->told == STORY_NEVER && e->answered && !e->scheduled)
            CHECK(a, !there || hark_err_class(e->err) == HARK_CLASS_UNKNOWN,
                  "event %zu got %s, and yet it is in the log", n, hark_err_name(e->err));
        if (e->count > 1 && n > e->first)
            CHECK(a, there == (a->seq[n - 1] != 0) && (!there || a->seq[n] == a->seq[n - 1] + 1),
                  "the batch of %zu is torn at %zu", e->first, n);
        if (e->kept_at <= a->at && e->cancel_asked > a->at)
            CHECK(a, there || a->waiting[n], "the schedule of event %zu is lost", n);
        if (e->cancelled_at <= a->at)
            CHECK(a, !there && !a->waiting[n], "the schedule of event %zu is not cancelled", n);
    }
}

/* ---- the tables ---- */

static sqlite3_stmt *ask(const audit *a, sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        kit_fail("%s, at %zu: %s: %s", a->what, a->at, sql, sqlite3_errmsg(db));
    return st;
}

static int64_t number(const audit *a, sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = ask(a, db, sql);
    CHECK(a, sqlite3_step(st) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static void integrity(const audit *a, sqlite3 *db)
{
    sqlite3_stmt *st = ask(a, db, "PRAGMA integrity_check");
    CHECK(a, sqlite3_step(st) == SQLITE_ROW, "no integrity check: %s", sqlite3_errmsg(db));
    CHECK(a, strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0, "%s",
          (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    CHECK(a, number(a, db, "SELECT count(*) - ifnull(max(seq), 0) FROM hark_events") == 0,
          "the sequences have a hole%s", "");
}

static size_t by_seq(const audit *a, uint64_t seq)
{
    for (size_t n = 0; n < STORY_EVENTS; n++)
        if (a->seq[n] == seq)
            return n;
    return STORY_NEVER;
}

static uint64_t varint(const unsigned char **p, const unsigned char *end)
{
    uint64_t v = 0;
    for (unsigned shift = 0; *p < end; shift += 7) {
        unsigned char c = *(*p)++;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            break;
    }
    return v;
}

static hark_verdict end_of(const audit *a, int c, size_t n)
{
    return story_end(a->s, c, n, a->finished ? STORY_NEVER : a->at);
}

/* What the ledger takes for settled, and has no row for, was answered by then. */
static void is_settled(audit *a, int c, uint64_t from, uint64_t to)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        size_t n = by_seq(a, seq);
        if (n == STORY_NEVER || story_is_big(n) || a->open[c][n])
            continue;
        a->settled[c][n] = true;
        CHECK(a, end_of(a, c, n) != HARK_RETRY, "%s: event %zu is settled without an answer",
              story_consumers[c], n);
    }
}

static void look_at_rows(audit *a, sqlite3 *db)
{
    sqlite3_stmt *st = ask(a, db,
                           "SELECT name, seq, state = 6 FROM hark_deliveries JOIN hark_consumers "
                           "ON hark_consumers.id = "
                           "hark_deliveries.consumer_id");
    while (sqlite3_step(st) == SQLITE_ROW) {
        int c = strcmp((const char *)sqlite3_column_text(st, 0), story_consumers[1]) == 0;
        size_t n = by_seq(a, (uint64_t)sqlite3_column_int64(st, 1));
        CHECK(a, n != STORY_NEVER, "a row of nothing: %lld",
              (long long)sqlite3_column_int64(st, 1));
        if (sqlite3_column_int(st, 2)) /* settled with its handler's transaction */
            a->settled[c][n] = true;
        else
            a->open[c][n] = true;
    }
    sqlite3_finalize(st);
}

static void look_at_consumers(audit *a, sqlite3 *db)
{
    sqlite3_stmt *st = ask(a, db, "SELECT name, floor, settled FROM hark_consumers");
    while (sqlite3_step(st) == SQLITE_ROW) {
        int c = strcmp((const char *)sqlite3_column_text(st, 0), story_consumers[1]) == 0;
        uint64_t at = (uint64_t)sqlite3_column_int64(st, 1);
        const unsigned char *p = sqlite3_column_blob(st, 2);
        const unsigned char *end = p + sqlite3_column_bytes(st, 2);
        is_settled(a, c, 1, at);
        while (p && p < end) {
            uint64_t from = at + varint(&p, end) + 1;
            at = from + varint(&p, end);
            is_settled(a, c, from, at);
        }
    }
    sqlite3_finalize(st);
}

static bool is_mended(const audit *a, int c, size_t n)
{
    for (size_t i = 0; i < a->s->n_mends; i++) {
        const story_mend *m = &a->s->mends[i];
        if (m->consumer == c && m->n == n && m->asked <= a->at)
            return true;
    }
    return false;
}

static void look_at_letters(const audit *a, sqlite3 *db)
{
    unsigned rows[2][STORY_EVENTS] = {{0}};
    sqlite3_stmt *st =
        ask(a, db,
            "SELECT name, seq FROM hark_dead_letters JOIN hark_consumers ON hark_consumers.id = "
            "hark_dead_letters.consumer_id");
    while (sqlite3_step(st) == SQLITE_ROW) {
        int c = strcmp((const char *)sqlite3_column_text(st, 0), story_consumers[1]) == 0;
        size_t n = by_seq(a, (uint64_t)sqlite3_column_int64(st, 1));
        CHECK(a, n != STORY_NEVER, "a dead letter of nothing: %lld",
              (long long)sqlite3_column_int64(st, 1));
        CHECK(a, ++rows[c][n] == 1, "%s has two dead letters of event %zu", story_consumers[c], n);
        CHECK(a, is_mended(a, c, n) || end_of(a, c, n) == HARK_REJECT,
              "%s has a dead letter of event %zu, and no such answer", story_consumers[c], n);
    }
    sqlite3_finalize(st);
    for (int c = 0; c < 2; c++)
        for (size_t n = 0; n < STORY_EVENTS; n++) {
            if (a->s->announced[c][n] <= a->at)
                CHECK(a, a->announced[c][n] == 1, "%s: the dead_letter of event %zu is lost",
                      story_consumers[c], n);
            CHECK(a,
                  a->finished || is_mended(a, c, n) ? rows[c][n] <= a->announced[c][n]
                                                    : rows[c][n] == a->announced[c][n],
                  "%s has %u dead letters of event %zu, and %u announcements", story_consumers[c],
                  rows[c][n], n, a->announced[c][n]);
        }
}

/* ---- the story's own rows ---- */

static void count_rows(const audit *a, sqlite3 *db, const char *table,
                       unsigned counts[STORY_EVENTS])
{
    char sql[96];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM sqlite_schema WHERE name = '%s'", table);
    if (number(a, db, sql) == 0)
        return;
    (void)snprintf(sql, sizeof sql, "SELECT n FROM %s", table);
    sqlite3_stmt *st = ask(a, db, sql);
    while (sqlite3_step(st) == SQLITE_ROW)
        counts[sqlite3_column_int64(st, 0)]++;
    sqlite3_finalize(st);
}

/* Rows and events came together. */
static void look_at_placed(const audit *a, sqlite3 *db)
{
    unsigned rows[STORY_EVENTS] = {0};
    count_rows(a, db, STORY_ROWS, rows);
    for (size_t n = 0; n < STORY_EVENTS; n++)
        if (story_by_tx(n))
            CHECK(a, rows[n] == (a->seq[n] != 0), "event %zu is %s, and has %u rows", n,
                  a->seq[n] ? "there" : "not there", rows[n]);
}

/* Effect and ack came together, once. */
static void look_at_effects(const audit *a, sqlite3 *db)
{
    unsigned rows[STORY_EVENTS] = {0};
    count_rows(a, db, STORY_EFFECTS, rows);
    for (size_t n = 0; n < STORY_EVENTS; n++) {
        if (story_is_big(n) || !story_acked_by_tx(0, n) || (a->waiting[n] && !a->seq[n]))
            continue; /* a schedule may have come due after the log was read */
        CHECK(a, rows[n] <= 1, "event %zu had its effect %u times", n, rows[n]);
        CHECK(a, !rows[n] || a->settled[0][n], "event %zu had its effect and is not settled", n);
        CHECK(a, rows[n] || !a->settled[0][n] || a->announced[0][n],
              "event %zu is settled and had no effect", n);
    }
}

static void look_at_tables(audit *a)
{
    sqlite3 *db = NULL;
    CHECK(a, sqlite3_open_v2(a->path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK,
          "cannot open %s", a->path);
    integrity(a, db);
    look_at_rows(a, db);
    look_at_consumers(a, db);
    look_at_letters(a, db);
    look_at_placed(a, db);
    look_at_effects(a, db);
    sqlite3_close(db);
}

/* ---- going on to the end ---- */

typedef struct last_run {
    audit *a;
    hark_bus *bus;
} last_run;

static bool all_taken(story *s, void *ud)
{
    const last_run *l = ud;
    for (int c = 0; c < 2; c++)
        for (size_t n = 0; n < STORY_EVENTS; n++) {
            bool discarded = false;
            for (size_t i = 0; i < s->n_mends; i++)
                discarded |= s->mends[i].consumer == c && s->mends[i].n == n && s->mends[i].discard;
            if (l->a->seq[n] && !story_is_big(n) && !discarded &&
                story_end(s, c, n, STORY_NEVER) != HARK_ACK)
                return false;
        }
    return true;
}

static void finish(audit *a, hark_bus *bus)
{
    story *s = a->s;
    story_taker takers[2] = {{s, 0}, {s, 1}};
    hark_sub *subs[2] = {NULL, NULL};
    last_run l = {a, bus};
    hark_errinfo ei = {.text = ""};
    /* Answers that the disk has not heard of do not count. */
    size_t kept = 0;
    for (size_t i = 0; i < s->n_answers; i++)
        if (s->answers[i].at <= a->at)
            s->answers[kept++] = s->answers[i];
    s->n_answers = kept;
    s->mended = true;
    s->over = NULL;
    for (int c = 0; c < 2; c++)
        CHECK(a, story_consume(&takers[c], bus, &subs[c]) == HARK_OK, "no consumer %s",
              story_consumers[c]);
    if (hark_redrive_all(bus, NULL, 0, NULL, &ei))
        kit_fail("%s, at %zu: hark_redrive_all: %s", a->what, a->at, ei.text);
    if (!story_await(s, all_taken, &l, "everything to be taken"))
        kit_fail("%s, at %zu: not everything comes after a redrive of all", a->what, a->at);
    for (int c = 0; c < 2; c++)
        hark_sub_unref(subs[c]);
    if (hark_drain(bus, KIT_HUNG_MS, &ei))
        kit_fail("%s, at %zu: hark_drain: %s", a->what, a->at, ei.text);
    a->finished = true;
}

void story_audit(story *s, const char *path, size_t at, const char *what, bool go_on)
{
    static audit a;
    char url[256];
    hark_bus *bus = NULL;
    hark_errinfo ei;
    a = (audit){.s = s, .path = path, .what = what, .at = at};
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    if (hark_open(url, NULL, &bus, &ei))
        kit_fail("%s, at %zu: the log does not open: %s", what, at, ei.text);
    /* First: what is overdue may be published any moment. */
    if (hark_schedules(bus, look_at_schedule, &a, &ei))
        kit_fail("%s, at %zu: hark_schedules: %s", what, at, ei.text);
    read_log(&a, bus, NULL, look_at_event);
    read_log(&a, bus, "dead_letter", look_at_letter);
    promises_are_kept(&a);
    if (go_on)
        finish(&a, bus);
    hark_bus_unref(bus);
    look_at_tables(&a);
}
