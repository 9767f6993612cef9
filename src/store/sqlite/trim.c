/* Retention: removes old events of a pattern, oldest first type by type, a batch at a time through
 * the index of types, for about as long as it is told. What the removed leave behind: the last version
 * of a subject whose newest event goes, the place of the log's newest event, and the attempts at
 * events that are dead letters. */
#include "store/sqlite/trim_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- what may go ----------------------------------------------------------------------------- */

static hk_trim_pass *find_pass(hark_store *s, const hark_store_trim *t)
{
    uint64_t key[2] = {hk_hash(t->pattern, strlen(t->pattern)), t->keep};
    uint64_t rule = hk_hash(key, sizeof key) | 1;
    for (size_t i = 0; i < HK_TRIM_PASSES; i++)
        if (s->passes[i].rule == rule)
            return &s->passes[i];
    hk_trim_pass *p = &s->passes[s->next_pass];
    s->next_pass = (s->next_pass + 1) % HK_TRIM_PASSES;
    *p = (hk_trim_pass){.rule = rule};
    return p;
}

void hk_trim_forget(hark_store *s)
{
    memset(s->passes, 0, sizeof s->passes);
}

/* The limits by age and by count: whichever is over goes. */
static hark_err set_limit(hk_trimming *w, bool *ret_done, hark_errinfo *ei)
{
    hark_store *s = w->s;
    uint64_t by_age = 0, by_count = 0;
    hark_err err = HARK_OK;
    *ret_done = true;
    if (w->t->before_ns)
        err = hk_seek_time(&s->conn, w->t->before_ns, s->now.first, s->now.last, &by_age, ei);
    if (!err && w->t->keep)
        err = hk_trim_keep(w, &by_count, ret_done, ei);
    w->limit = by_age > by_count ? by_age : by_count;
    if (!w->t->force && w->t->hold && w->t->hold < w->limit)
        w->limit = w->t->hold;
    return err;
}

static hark_err prepare(hk_trimming *w, bool *ret_done, hark_errinfo *ei)
{
    hark_err err = hk_type_ids(w->s, w->t->pattern, &w->types, &w->n_types, ei);
    if (!err)
        err = set_limit(w, ret_done, ei);
    if (!err && *ret_done && w->limit > w->s->now.first)
        err = hk_holders_load(w, ei);
    return err;
}

/* ---- removing -------------------------------------------------------------------------------- */

static hark_err find_batch(hk_trimming *w, int64_t type, uint64_t from, uint64_t limit,
                           uint64_t seqs[HK_TRIM_BATCH], size_t *ret_n, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = true;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_TRIM_BATCH, &st, ei);
    *ret_n = 0;
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, type);
    sqlite3_bind_int64(st, 2, (int64_t)from);
    sqlite3_bind_int64(st, 3, (int64_t)limit - 1);
    sqlite3_bind_int64(st, 4, HK_TRIM_BATCH);
    while (!err && *ret_n < HK_TRIM_BATCH) {
        err = hk_conn_step(&w->s->conn, st, &row, "looking for old events", ei);
        if (err || !row)
            break;
        w->versions[*ret_n] = sqlite3_column_int64(st, 1);
        seqs[(*ret_n)++] = (uint64_t)sqlite3_column_int64(st, 0);
    }
    sqlite3_reset(st);
    return err;
}

static hark_err run(hk_trimming *w, hk_sql which, uint64_t seq, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&w->s->conn, which, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)seq);
    return hk_conn_run(&w->s->conn, st, "removing an event", ei);
}

static hark_err remove_event(hk_trimming *w, uint64_t seq, int64_t version, hark_errinfo *ei)
{
    hark_err err = run(w, HK_SQL_TRIM_SUBJECT, seq, ei);
    if (!err && sqlite3_changes(w->s->conn.db) > 0)
        w->s->subjects_kept = true;
    if (!err)
        err = run(w, HK_SQL_TRIM_ATTEMPTS, seq, ei);
    if (!err)
        err = run(w, HK_SQL_TRIM_EVENT, seq, ei);
    if (!err)
        err = hk_versions_remove(w->s, w->pass->type, version, ei);
    if (err)
        return err;
    w->t->ret_removed++;
    hk_trim_uncount(w->pass, seq);
    if (w->lowest == 0 || seq < w->lowest)
        w->lowest = seq;
    if (seq > w->highest)
        w->highest = seq;
    return HARK_OK;
}

/* *ret_room false: the caller must take the gaps first. */
static hark_err remove_batch(hk_trimming *w, uint64_t *seqs, size_t n, bool *ret_room,
                             hark_errinfo *ei)
{
    *ret_room = true;
    hark_err err =
        w->t->force ? hk_holders_miss(w, seqs, n, ret_room, ei) : hk_holders_keep(w, seqs, &n, ei);
    for (size_t i = 0; i < n && !err && *ret_room; i++)
        err = remove_event(w, seqs[i], w->versions[i], ei);
    return err;
}

static hark_err remove_type(hk_trimming *w, int64_t type, hark_errinfo *ei)
{
    uint64_t seqs[HK_TRIM_BATCH], limit, from = w->pass->type == type ? w->pass->seq : 0;
    size_t n = HK_TRIM_BATCH;
    hark_err err = hk_holders_match(w, type, &limit, ei);
    w->pass->type = type;
    while (!err && n == HK_TRIM_BATCH) {
        bool room = true;
        w->pass->seq = from;
        w->t->ret_more = hk_trim_pauses(w);
        if (w->t->ret_more)
            return HARK_OK;
        err = find_batch(w, type, from, limit, seqs, &n, ei);
        if (n)
            from = seqs[n - 1] + 1;
        if (!err && n)
            err = remove_batch(w, seqs, n, &room, ei);
        w->t->ret_more = !room;
        if (!room)
            return err;
    }
    return err;
}

static hark_err remove_types(hk_trimming *w, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < w->n_types && !err && !w->t->ret_more; i++)
        if (w->types[i] >= w->pass->type)
            err = remove_type(w, w->types[i], ei);
    return err;
}

/* ---- what is left behind --------------------------------------------------------------------- */

static hark_err put_meta(hark_store *s, const char *key, int64_t value, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_META_PUT, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, key);
    sqlite3_bind_int64(st, 2, value);
    return hk_conn_run(&s->conn, st, "keeping the place of the newest event", ei);
}

/* The log's bounds, as they are now. */
static hark_err set_places(hk_trimming *w, hark_errinfo *ei)
{
    hark_store *s = w->s;
    uint64_t first = s->now.first, newest = 0;
    hark_err err = HARK_OK;
    if (w->lowest <= first)
        err = hk_conn_number(&s->conn, HK_SQL_FIRST_SEQ, &first, ei);
    if (!err)
        err = hk_conn_number(&s->conn, HK_SQL_LAST_SEQ, &newest, ei);
    if (!err && newest < w->highest)
        err = put_meta(s, "last_sequence", (int64_t)s->now.last, ei);
    if (!err && newest < w->highest)
        err = put_meta(s, "last_recorded", s->now.recorded, ei);
    if (!err)
        s->now.first = first;
    return err;
}

/* Other rules may have counted what is gone. */
static void forget_counts(hk_trimming *w)
{
    for (size_t i = 0; i < HK_TRIM_PASSES; i++) {
        hk_trim_pass *p = &w->s->passes[i];
        if (p != w->pass && p->at && p->at <= w->highest)
            p->at = p->upto = p->counted = 0;
    }
}

static hark_err finish(hk_trimming *w, hark_errinfo *ei)
{
    if (w->t->ret_removed == 0)
        return HARK_OK;
    forget_counts(w);
    hark_err err = set_places(w, ei);
    return err ? err : hk_holders_save_gaps(w, ei);
}

hark_err hk_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei)
{
    hk_trimming w = {.s = s, .t = t, .until = hk_mono_ns() + t->budget_ns};
    bool done = false;
    t->ret_removed = 0;
    t->ret_more = 0;
    t->ret_n_gaps = 0;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "trim outside of a group");
    if (s->now.first == 0 || (t->before_ns == 0 && t->keep == 0))
        return HARK_OK;
    s->trimmed = true;
    w.pass = find_pass(s, t);
    hark_err err = prepare(&w, &done, ei);
    if (!err && !done)
        t->ret_more = 1;
    if (!err && done && w.limit > s->now.first)
        err = remove_types(&w, ei);
    if (!err)
        err = finish(&w, ei);
    if (!err && !t->ret_more) {
        w.pass->type = 0;
        w.pass->seq = 0;
    }
    hk_holders_free(&w);
    free(w.types);
    return hk_group_note(s, err);
}

/* ---- versions of subjects -------------------------------------------------------------------- */

hark_err hk_trim_version(hark_store *s, const char *subject, size_t len, int64_t *version,
                         hark_errinfo *ei)
{
    sqlite3_stmt *st;
    int64_t kept = 0;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_SUBJECT_KEPT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_text(st, 1, subject, (int)len, SQLITE_STATIC);
    err = hk_conn_int(&s->conn, st, 0, &kept, ei);
    if (!err && kept > *version)
        *version = kept;
    return err;
}
