/* Appends events: one INSERT each, with names as numbers and no allocation. The unique index over
 * (id, source) finds repeats; a unit that meets a conflict, or a subject at another version than it
 * expects, takes back its own rows, which are the highest of the transaction, and with them their
 * sequences. */
#include "store/sqlite/store_i.h"

#include <string.h>

/* Parameters of HK_SQL_INSERT_EVENT. */
enum {
    P_SEQ = 1,
    P_RECORDED,
    P_SOURCE,
    P_ID,
    P_TYPE,
    P_MEDIA,
    P_TIME,
    P_DATAVERSION,
    P_SUM,
    P_DIGEST,
    P_SUBJECT,
    P_SUBJECT_VERSION,
    P_KEY,
    P_CORRELATION,
    P_CAUSATION,
    P_ATTRS,
    P_DATA
};

typedef struct numbers {
    int64_t source, type, media;
} numbers;

static hark_err intern(hark_store *s, const hk_row *r, numbers *ret, hark_errinfo *ei)
{
    ret->media = 0;
    hark_err err = hk_intern_id(&s->names[HK_NAME_TYPE], HK_NAME_TYPE, &s->conn,
                                r->text[HK_ROW_TYPE].s, &ret->type, ei);
    if (!err)
        err = hk_intern_id(&s->names[HK_NAME_SOURCE], HK_NAME_SOURCE, &s->conn,
                           r->text[HK_ROW_SOURCE].s, &ret->source, ei);
    if (!err && r->text[HK_ROW_MEDIA].s)
        err = hk_intern_id(&s->names[HK_NAME_MEDIA], HK_NAME_MEDIA, &s->conn,
                           r->text[HK_ROW_MEDIA].s, &ret->media, ei);
    return err;
}

static hark_err next_subject_version(hark_store *s, const struct hk_text *subject, int64_t *ret,
                                     hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(&s->conn, HK_SQL_SUBJECT_VERSION, ei);
    int64_t last;
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_text(st, 1, subject->s, (int)subject->len, SQLITE_STATIC);
    hark_err err = hk_conn_int(&s->conn, st, 0, &last, ei);
    if (!err && s->subjects_kept)
        err = hk_trim_version(s, subject->s, subject->len, &last, ei);
    if (!err)
        *ret = last + 1;
    return err;
}

/* Bindings stay from one event to the next: what was NULL and is NULL costs nothing. */
static bool becomes_present(hark_store *s, sqlite3_stmt *st, int param, bool present)
{
    unsigned bit = 1U << param;
    if (present) {
        s->bound |= bit;
        return true;
    }
    if (s->bound & bit) {
        sqlite3_bind_null(st, param);
        s->bound &= ~bit;
    }
    return false;
}

static void bind_text(hark_store *s, sqlite3_stmt *st, int param, const struct hk_text *t)
{
    if (becomes_present(s, st, param, t->s != NULL))
        sqlite3_bind_text(st, param, t->s, (int)t->len, SQLITE_STATIC);
}

static void bind(hark_store *s, sqlite3_stmt *st, const hk_row *r, const numbers *n,
                 const uint8_t digest[16])
{
    const struct hk_text *t = r->text;
    sqlite3_bind_int64(st, P_SEQ, (int64_t)r->seq);
    sqlite3_bind_int64(st, P_RECORDED, r->recorded);
    sqlite3_bind_int64(st, P_SOURCE, n->source);
    sqlite3_bind_text(st, P_ID, t[HK_ROW_ID].s, (int)t[HK_ROW_ID].len, SQLITE_STATIC);
    sqlite3_bind_int64(st, P_TYPE, n->type);
    if (becomes_present(s, st, P_MEDIA, n->media != 0))
        sqlite3_bind_int64(st, P_MEDIA, n->media);
    sqlite3_bind_int64(st, P_TIME, r->time);
    sqlite3_bind_int64(st, P_DATAVERSION, r->dataversion);
    sqlite3_bind_int64(st, P_SUM, hk_row_sum(r));
    sqlite3_bind_blob(st, P_DIGEST, digest, 16, SQLITE_STATIC);
    bind_text(s, st, P_SUBJECT, &t[HK_ROW_SUBJECT]);
    if (becomes_present(s, st, P_SUBJECT_VERSION, r->subject_version != 0))
        sqlite3_bind_int64(st, P_SUBJECT_VERSION, r->subject_version);
    bind_text(s, st, P_KEY, &t[HK_ROW_KEY]);
    bind_text(s, st, P_CORRELATION, &t[HK_ROW_CORRELATION]);
    bind_text(s, st, P_CAUSATION, &t[HK_ROW_CAUSATION]);
    bind_text(s, st, P_ATTRS, &t[HK_ROW_ATTRS]);
    if (becomes_present(s, st, P_DATA, t[HK_ROW_DATA].s != NULL))
        sqlite3_bind_blob64(st, P_DATA, t[HK_ROW_DATA].s, t[HK_ROW_DATA].len, SQLITE_STATIC);
}

/* The first event of this id and source: its sequence, and whether its content is the same; 0 =
 * there is none. */
static hark_err find_first(hark_store *s, const hk_row *r, int64_t source, const uint8_t digest[16],
                           uint64_t *ret_seq, int64_t *ret_version, bool *ret_same,
                           hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(&s->conn, HK_SQL_FIND_EVENT, ei);
    bool row;
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_text(st, 1, r->text[HK_ROW_ID].s, (int)r->text[HK_ROW_ID].len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, source);
    hark_err err = hk_conn_step(&s->conn, st, &row, "looking up a repeated event", ei);
    *ret_seq = !err && row ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    *ret_version = !err && row ? sqlite3_column_int64(st, 2) : 0;
    *ret_same = !err && row && sqlite3_column_bytes(st, 1) == 16 &&
                memcmp(sqlite3_column_blob(st, 1), digest, 16) == 0;
    sqlite3_reset(st);
    return err;
}

/* *ret_sequence is 0 if it repeats nothing. */
static hark_err repeated(hark_store *s, hark_store_append *a, const hk_row *r, int64_t source,
                         hark_errinfo *ei)
{
    bool same = false;
    int64_t version;
    hark_err err = find_first(s, r, source, a->digest, &a->ret_sequence, &version, &same, ei);
    if (err || a->ret_sequence == 0)
        return err;
    a->ret_duplicate = 1;
    a->ret_subject_version = version;
    if (same || a->first_stands)
        return HARK_OK;
    return hk_repeat_conflict(a, ei);
}

/* ---- expected versions ----------------------------------------------------------------------- */

/* The place of the event in its subject. What is a repeat is one whatever it expects:
 * *ret_repeat. */
static hark_err place_in_subject(hark_store *s, hark_store_append *a, hk_row *r, int64_t source,
                                 bool *ret_repeat, hark_errinfo *ei)
{
    hark_err err = next_subject_version(s, &r->text[HK_ROW_SUBJECT], &r->subject_version, ei);
    a->ret_subject_version = r->subject_version;
    if (err || HK_LIKELY(hk_expected_met(a, r->subject_version - 1)))
        return err;
    err = repeated(s, a, r, source, ei);
    *ret_repeat = a->ret_sequence != 0;
    return err || *ret_repeat ? err : hk_expected_other(a, r->subject_version - 1, ei);
}

/* ---- appending ------------------------------------------------------------------------------- */

hark_err hk_append_size(hark_store *s, size_t len, hark_errinfo *ei)
{
    int limit = sqlite3_limit(s->conn.db, SQLITE_LIMIT_LENGTH, -1) - (1 << 20);
    if (HK_LIKELY(limit > 0 && len <= (size_t)limit))
        return HARK_OK;
    return hk_fail(ei, HARK_ETOOBIG, "an event with %zu bytes of data; SQLite keeps at most %d",
                   len, limit);
}

static hark_err insert(hark_store *s, hark_store_append *a, hk_row *r, const numbers *n,
                       hark_errinfo *ei)
{
    hark_err err = hk_row_attrs(a->event, &s->attrs, r, ei);
    sqlite3_stmt *st = err ? NULL : hk_conn_stmt(&s->conn, HK_SQL_INSERT_EVENT, ei);
    if (!st)
        return err ? err : HARK_ESTORE;
    r->seq = s->now.last + 1;
    r->recorded = s->now.recorded;
    bind(s, st, r, n, a->digest);
    err = hk_conn_run(&s->conn, st, "storing an event", ei);
    if (err)
        return err;
    if (sqlite3_changes(s->conn.db) > 0) {
        s->now.last = a->ret_sequence = r->seq;
        hk_versions_add(s, n->type, r->dataversion);
        return HARK_OK;
    }
    err = repeated(s, a, r, n->source, ei);
    if (!err && a->ret_sequence == 0)
        err = hk_fail(ei, HARK_ECORRUPT, "%s: its index of ids does not match its events", s->path);
    return err;
}

static hark_err append_one(hark_store *s, hark_store_append *a, hark_errinfo *ei)
{
    hk_row r;
    numbers n = {0};
    bool repeat = false;
    a->ret_duplicate = 0;
    a->ret_subject_version = 0;
    hk_row_of(a->event, &r);
    hark_err err = hk_append_size(s, r.text[HK_ROW_DATA].len, ei);
    if (!err && HK_UNLIKELY(a->expected != 0))
        err = hk_expected_check(a, ei);
    if (!err)
        err = intern(s, &r, &n, ei);
    if (!err && r.text[HK_ROW_SUBJECT].s)
        err = place_in_subject(s, a, &r, n.source, &repeat, ei);
    return err || repeat ? err : insert(s, a, &r, &n, ei);
}

static hark_err undo_unit(hark_store *s, uint64_t before, size_t mark, hark_errinfo *ei)
{
    if (s->now.last == before)
        return HARK_OK;
    sqlite3_stmt *st = hk_conn_stmt(&s->conn, HK_SQL_UNDO_UNIT, ei);
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_int64(st, 1, (int64_t)before + 1);
    hark_err err = hk_conn_run(&s->conn, st, "taking back a unit", ei);
    if (!err) {
        s->now.last = before;
        hk_versions_back(s, mark);
    }
    return err;
}

static hark_err out_of_sequences(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EFULL, "%s has used every sequence below 2^53; begin a new log",
                   s->path);
}

static void stamp(const hark_store_append *a, int64_t recorded)
{
    hark_event_stamp(a->event, a->ret_sequence, recorded);
    hark_event_stamp_subject(a->event, a->ret_subject_version);
}

hark_err hk_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    uint64_t before = s->now.last;
    int64_t now = hk_wall_ns();
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "append outside of a group");
    if (n > HARK_SEQ_MAX - before)
        return out_of_sequences(s, ei);
    if (now > s->now.recorded)
        s->now.recorded = now;
    hark_err err = hk_versions_room(s, n, ei);
    size_t mark = hk_versions_mark(s), done = 0;
    for (; done < n && !err; done++)
        err = append_one(s, &items[done], ei);
    if (HK_UNLIKELY(err)) {
        for (size_t i = 0; i < n; i++) /* but the one that was refused tells where its subject is */
            if (i + 1 != done || err != HARK_EVERSION)
                items[i].ret_subject_version = 0;
        bool refused = hark_err_class(err) == HARK_CLASS_REFUSED; /* then the group goes on */
        hark_err undo = refused ? undo_unit(s, before, mark, ei) : HARK_OK;
        return hk_group_note(s, undo ? undo : err);
    }
    if (s->now.first == 0 && s->now.last > before)
        s->now.first = before + 1;
    for (size_t i = 0; i < n; i++)
        if (!items[i].ret_duplicate)
            stamp(&items[i], s->now.recorded);
    return HARK_OK;
}
