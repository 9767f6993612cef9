/* verdict: what becomes of units that are to be appended: what of them is in the log already, and at which version their
 * subjects are, is asked in one round trip for all of them, under the log's lock; then each is judged, in order.
 * With ids that are fresh and without subjects there is nothing to ask. What is accepted waits in the batch. Groups
 * that need none of this are in append.c. */
#include "store/postgres/store_i.h"

#include "event/event.h"

#include <stdlib.h>
#include <string.h>

/* Items by their number: from 1 those whose id is there, negative ones with the version of their subject; 0 is where the
 * log is, but for what this group has drawn. */
static const hk_pg_sql look_up = {
    "look_up",
    "SELECT x.i, e.seq, e.subject_version, e.digest, e.recorded FROM unnest($1::text[], "
    "$2::text[], $3::int8[]) x(id, source, i) CROSS JOIN LATERAL (SELECT seq, subject_version, "
    "digest, recorded FROM @events e WHERE e.id = x.id AND e.source = x.source LIMIT 1) e UNION "
    "ALL SELECT -y.i, v.version, NULL, NULL, NULL FROM unnest($4::text[], $5::int8[]) y(subject, "
    "i) CROSS JOIN LATERAL (SELECT version FROM @subjects v WHERE v.subject = y.subject LIMIT 1) v "
    "UNION ALL SELECT 0, last, recorded, NULL, NULL FROM @log"};
enum { U_ITEM, U_SEQ, U_VERSION, U_DIGEST, U_RECORDED };

/* Of one item: the event with its id that is there, and its subject. */
typedef struct known {
    uint64_t seq; /* 0 = none */
    int64_t recorded, seq_version;
    uint8_t digest[16];
    size_t subject;  /* the first item with this subject */
    int64_t version; /* of the subject, at that first item */
} known;

typedef struct judging {
    hark_store *s;
    size_t n;
    hark_store_append *one, **items; /* of all units, in order */
    known of_one, *of;
    size_t *ids, *subjects; /* hash tables of items, counted from 1; NULL when there is one item */
    size_t mask;
} judging;

/* ---- items -------------------------------------------------------------------------------------- */

static bool same_id(const hark_store_append *a, const hark_store_append *b)
{
    return strcmp(hark_event_id(a->event), hark_event_id(b->event)) == 0 &&
           strcmp(hark_event_source(a->event), hark_event_source(b->event)) == 0;
}

static bool same_subject(const hark_store_append *a, const hark_store_append *b)
{
    return strcmp(hark_event_subject(a->event), hark_event_subject(b->event)) == 0;
}

/* The place of an item like this one, or a free one. */
static size_t *slot(const judging *j, size_t *table, size_t i,
                    bool (*same)(const hark_store_append *, const hark_store_append *))
{
    const hark_event *e = j->items[i]->event;
    const char *key = table == j->ids ? hark_event_id(e) : hark_event_subject(e);
    size_t at = (size_t)hk_hash(key, strlen(key)) & j->mask;
    while (table[at] && !same(j->items[table[at] - 1], j->items[i]))
        at = (at + 1) & j->mask;
    return &table[at];
}

static void judging_free(judging *j)
{
    if (j->items != &j->one)
        free(j->items);
    if (j->of != &j->of_one)
        free(j->of);
    free(j->ids);
    free(j->subjects);
}

static bool room_for_many(judging *j)
{
    for (j->mask = 7; j->mask < j->n * 2;)
        j->mask = j->mask * 2 + 1;
    j->items = malloc(j->n * sizeof(hark_store_append *));
    j->of = calloc(j->n, sizeof *j->of);
    j->ids = calloc(j->mask + 1, sizeof *j->ids);
    j->subjects = calloc(j->mask + 1, sizeof *j->subjects);
    return j->items && j->of && j->ids && j->subjects;
}

static void find_subjects(judging *j)
{
    for (size_t i = 0; i < j->n && j->subjects; i++) {
        if (!hark_event_subject(j->items[i]->event))
            continue;
        size_t *place = slot(j, j->subjects, i, same_subject);
        if (!*place)
            *place = i + 1;
        j->of[i].subject = *place - 1;
    }
}

/* To be freed even when it fails. */
static hark_err judging_of(judging *j, hark_store *s, const hk_pg_unit *units, size_t n,
                           hark_errinfo *ei)
{
    size_t at = 0;
    *j = (judging){.s = s};
    j->items = &j->one;
    j->of = &j->of_one;
    for (size_t i = 0; i < n; i++)
        j->n += units[i].n;
    if (j->n > 1 && !room_for_many(j))
        return hk_fail(ei, HARK_ENOMEM, "no memory to append %zu events; try again", j->n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < units[i].n; k++)
            j->items[at++] = &units[i].items[k];
    find_subjects(j);
    return HARK_OK;
}

/* ---- what the log knows of them ------------------------------------------------------------------ */

enum { A_IDS, A_SOURCES, A_ID_ITEMS, A_SUBJECTS, A_SUBJECT_ITEMS, A_ALL };
typedef struct asking {
    hk_pg_array a[A_ALL];
} asking;

static void ask_for(asking *q, const judging *j, size_t i, bool fresh_too)
{
    const hark_store_append *a = j->items[i];
    const char *id = hark_event_id(a->event), *source = hark_event_source(a->event);
    const char *subject = hark_event_subject(a->event);
    if (!a->fresh_id || fresh_too) {
        hk_pg_array_add(&q->a[A_IDS], id, strlen(id));
        hk_pg_array_add(&q->a[A_SOURCES], source, strlen(source));
        hk_pg_array_int(&q->a[A_ID_ITEMS], (int64_t)i + 1);
    }
    if (subject && j->of[i].subject == i) {
        hk_pg_array_add(&q->a[A_SUBJECTS], subject, strlen(subject));
        hk_pg_array_int(&q->a[A_SUBJECT_ITEMS], (int64_t)i + 1);
    }
}

static asking asking_for(const judging *j, bool fresh_too)
{
    asking q = {{{.kind = HK_PG_TEXT},
                 {.kind = HK_PG_TEXT},
                 {.kind = HK_PG_INT8},
                 {.kind = HK_PG_TEXT},
                 {.kind = HK_PG_INT8}}};
    for (size_t i = 0; i < j->n; i++)
        ask_for(&q, j, i, fresh_too);
    return q;
}

static void asking_free(asking *q)
{
    for (size_t i = 0; i < A_ALL; i++)
        hk_pg_array_free(&q->a[i]);
}

static hark_err take_known(const judging *j, known *k, const PGresult *r, int row, hark_errinfo *ei)
{
    size_t len;
    const void *digest = hk_pg_get_blob(r, row, U_DIGEST, &len);
    k->seq = (uint64_t)hk_pg_get_int(r, row, U_SEQ);
    k->seq_version = hk_pg_get_int(r, row, U_VERSION);
    k->recorded = hk_pg_get_int(r, row, U_RECORDED);
    if (!digest || len != sizeof k->digest)
        return hk_fail(ei, HARK_ECORRUPT,
                       "%s: the event at sequence %llu of the log %s is damaged; restore it from a "
                       "backup",
                       j->s->where, (unsigned long long)k->seq, j->s->schema);
    memcpy(k->digest, digest, len);
    return HARK_OK;
}

static hark_err take_answer(judging *j, const PGresult *r, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (int row = 0; row < PQntuples(r) && !err; row++) {
        int64_t i = hk_pg_get_int(r, row, U_ITEM);
        if (i > 0)
            err = take_known(j, &j->of[i - 1], r, row, ei);
        else if (i < 0)
            j->of[-i - 1].version = hk_pg_get_int(r, row, U_SEQ);
        else if (j->s->log == HK_PG_ASKED)
            hk_pg_log_at(j->s, (uint64_t)hk_pg_get_int(r, row, U_SEQ),
                         hk_pg_get_int(r, row, U_VERSION));
    }
    return err;
}

static hark_err ask(judging *j, asking *q, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hark_err err = HARK_OK;
    for (size_t i = 0; i < A_ALL && !err; i++)
        err = hk_pg_arg_array(&args, &q->a[i], ei);
    if (!err)
        err = hk_pg_run(&j->s->w, &look_up, &args, &r, "looking up events and subjects", ei);
    if (!err)
        err = take_answer(j, r, ei);
    PQclear(r);
    return err;
}

/* In a group, with what it has appended so far. */
static hark_err ask_in_group(judging *j, asking *q, hark_errinfo *ei)
{
    hark_err err = hk_pg_enter(j->s, "append", ei);
    if (!err)
        err = hk_pg_batch_send(j->s, ei);
    return err ? err : ask(j, q, ei);
}

static hark_err find_known(judging *j, hark_errinfo *ei)
{
    asking q = asking_for(j, false);
    hark_err err = hk_pg_log_ask(j->s, "append", ei);
    if (!err && q.a[A_IDS].n + q.a[A_SUBJECTS].n)
        err = ask_in_group(j, &q, ei);
    if (!err) /* unless it was told on the way */
        err = hk_pg_log_take(j->s, "append", ei);
    asking_free(&q);
    return err;
}

/* ---- repeats ----------------------------------------------------------------------------------- */

/* What the item repeats: an event that was there, or an earlier one of these. */
static bool find_first(const judging *j, size_t i, uint64_t *ret_seq, int64_t *ret_version,
                       const uint8_t **ret_digest)
{
    const known *k = &j->of[i];
    *ret_seq = k->seq;
    *ret_version = k->seq_version;
    *ret_digest = k->digest;
    if (k->seq || !j->ids || j->items[i]->fresh_id)
        return k->seq != 0;
    size_t first = *slot(j, j->ids, i, same_id);
    if (!first)
        return false;
    const hark_store_append *a = j->items[first - 1];
    *ret_seq = a->ret_sequence;
    *ret_version = a->ret_subject_version;
    *ret_digest = a->digest;
    return true;
}

static hark_err repeated(const judging *j, size_t i, bool *ret, hark_errinfo *ei)
{
    hark_store_append *a = j->items[i];
    const uint8_t *digest;
    a->ret_sequence = 0;
    *ret = find_first(j, i, &a->ret_sequence, &a->ret_subject_version, &digest);
    if (!*ret)
        return HARK_OK;
    a->ret_duplicate = 1;
    if (a->first_stands || memcmp(digest, a->digest, 16) == 0)
        return HARK_OK;
    return hk_repeat_conflict(a, ei);
}

/* ---- judging ----------------------------------------------------------------------------------- */

static hark_err accept(judging *j, size_t i, int64_t version, hark_errinfo *ei)
{
    hark_store *s = j->s;
    hark_store_append *a = j->items[i];
    hk_pg_place at = {s->now.last + 1, s->now.recorded};
    hark_err err = hk_pg_batch_add(&s->batch, a, at, version, ei);
    if (err)
        return err;
    s->now.last = a->ret_sequence = at.last;
    a->ret_subject_version = version;
    if (version)
        j->of[j->of[i].subject].version = version;
    if (j->ids)
        *slot(j, j->ids, i, same_id) = i + 1;
    return HARK_OK;
}

/* What is a repeat is one whatever it expects. */
static hark_err judge_item(judging *j, size_t i, hark_errinfo *ei)
{
    hark_store_append *a = j->items[i];
    bool subject = hark_event_subject(a->event) != NULL, repeat = false;
    int64_t current = subject ? j->of[j->of[i].subject].version : 0;
    a->ret_duplicate = 0;
    a->ret_subject_version = 0;
    hark_err err = hk_pg_append_check(j->s, a, ei);
    if (!err)
        err = repeated(j, i, &repeat, ei);
    if (err || repeat)
        return err;
    if (subject && !hk_expected_met(a, current))
        return hk_expected_other(a, current, ei);
    return accept(j, i, subject ? current + 1 : 0, ei);
}

/* With the lock: when the unit is recorded. */
static hark_err begin_unit(hark_store *s, size_t n, hark_errinfo *ei)
{
    int64_t now = hk_wall_ns();
    if (n > HARK_SEQ_MAX - s->now.last)
        return hk_fail(ei, HARK_EFULL, "%s has used every sequence below 2^53; begin a new log",
                       s->where);
    if (now > s->now.recorded)
        s->now.recorded = now;
    return HARK_OK;
}

/* Items from..to were judged, of which the last was refused; in reverse order, since that is how a hash table forgets. */
static void take_back(judging *j, size_t from, size_t to, uint64_t before)
{
    hark_store *s = j->s;
    for (size_t i = to; i-- > from;) {
        hark_store_append *a = j->items[i];
        bool accepted = !a->ret_duplicate && i + 1 < to;
        if (accepted && a->ret_subject_version)
            j->of[j->of[i].subject].version--;
        if (accepted && j->ids)
            *slot(j, j->ids, i, same_id) = 0;
    }
    hk_pg_batch_back(&s->batch, s->batch.n - (size_t)(s->now.last - before));
    s->now.last = before;
}

static void accepted(hark_store *s, const hk_pg_unit *u, uint64_t before)
{
    if (s->tx.open && s->now.last > before)
        hk_pg_tx_wrote(s);
    for (size_t i = 0; i < u->n; i++)
        if (!u->items[i].ret_duplicate)
            hk_pg_stamp(&u->items[i], s->now.recorded);
}

/* The refused one tells where its subject is. */
static void refused(hk_pg_unit *u, hark_err err, size_t done)
{
    for (size_t i = 0; i < u->n; i++)
        if (i != done || err != HARK_EVERSION)
            u->items[i].ret_subject_version = 0;
}

static hark_err judge_unit(judging *j, hk_pg_unit *u, size_t from)
{
    hark_store *s = j->s;
    uint64_t before = s->now.last;
    size_t i = 0;
    hark_err err = begin_unit(s, u->n, u->ei);
    while (!err && i < u->n && !(err = judge_item(j, from + i, u->ei)))
        i++;
    if (!err) {
        accepted(s, u, before);
        return HARK_OK;
    }
    take_back(j, from, from + i + (i < u->n), before);
    refused(u, err, i);
    return err;
}

static hark_err judge_all(judging *j, hk_pg_unit *units, size_t n, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0, from = 0; i < n && !err; from += units[i++].n) {
        units[i].ret_err = judge_unit(j, &units[i], from);
        if (units[i].ret_err && hark_err_class(units[i].ret_err) != HARK_CLASS_REFUSED)
            err = units[i].ei && units[i].ei != ei
                      ? hk_fail(ei, units[i].ret_err, "%s", units[i].ei->text)
                      : units[i].ret_err;
        if (!err && hk_pg_batch_is_full(&j->s->batch))
            err = hk_pg_batch_send(j->s, ei);
    }
    return err;
}

hark_err hk_pg_judge(hark_store *s, hk_pg_unit *units, size_t n, hark_errinfo *ei)
{
    judging j;
    hark_err err = judging_of(&j, s, units, n, ei);
    if (!err)
        err = find_known(&j, ei);
    if (!err)
        err = judge_all(&j, units, n, ei);
    judging_free(&j);
    return err;
}

/* ---- without asking ------------------------------------------------------------------------------ */

static hark_err fill(judging *j, size_t i, bool *ret_repeats, hark_errinfo *ei)
{
    hark_store_append *a = j->items[i];
    size_t *place = j->ids && !a->fresh_id ? slot(j, j->ids, i, same_id) : NULL;
    int64_t nth = hark_event_subject(a->event) ? ++j->of[j->of[i].subject].version : 0;
    *ret_repeats = place && *place;
    if (place)
        *place = i + 1;
    return *ret_repeats ? HARK_OK : hk_pg_batch_add_next(&j->s->batch, a, nth, ei);
}

hark_err hk_pg_fill(hark_store *s, const hk_pg_unit *units, size_t n, bool *ret_repeats,
                    hark_errinfo *ei)
{
    judging j;
    *ret_repeats = false;
    hark_err err = judging_of(&j, s, units, n, ei);
    for (size_t i = 0; i < j.n && !err && !*ret_repeats; i++)
        err = fill(&j, i, ret_repeats, ei);
    if (err || *ret_repeats)
        hk_pg_batch_back(&s->batch, 0);
    judging_free(&j);
    return err;
}

/* ---- looking up ---------------------------------------------------------------------------------- */

hark_err hk_pg_event_of(hark_store *s, const char *source, const char *id, uint64_t *ret_seq,
                        uint8_t ret_digest[16], hark_errinfo *ei)
{
    judging j = {.s = s, .n = 1, .of = &j.of_one};
    asking q = {{{.kind = HK_PG_TEXT},
                 {.kind = HK_PG_TEXT},
                 {.kind = HK_PG_INT8},
                 {.kind = HK_PG_TEXT},
                 {.kind = HK_PG_INT8}}};
    hk_pg_array_add(&q.a[A_IDS], id, strlen(id));
    hk_pg_array_add(&q.a[A_SOURCES], source, strlen(source));
    hk_pg_array_int(&q.a[A_ID_ITEMS], 1);
    hark_err err = ask_in_group(&j, &q, ei);
    asking_free(&q);
    if (err)
        return err;
    *ret_seq = j.of_one.seq;
    memcpy(ret_digest, j.of_one.digest, 16);
    return HARK_OK;
}

static bool found_all(judging *j)
{
    for (size_t i = 0; i < j->n; i++) {
        const known *k = &j->of[i];
        hark_store_append *a = j->items[i];
        if (!k->seq)
            return false;
        a->ret_sequence = k->seq;
        a->ret_subject_version = k->seq_version;
        a->ret_duplicate = 0;
        hk_pg_stamp(a, k->recorded);
    }
    return true;
}

hark_err hk_pg_find_appended(hark_store *s, const hk_pg_unit *units, size_t n, hark_errinfo *ei)
{
    judging j;
    hark_err err = judging_of(&j, s, units, n, ei);
    asking q = asking_for(&j, true);
    if (!err)
        err = ask(&j, &q, ei);
    if (!err && !found_all(&j))
        err = hk_fail(ei, HARK_ESTORE, "%s: events of a group are not there any more", s->where);
    asking_free(&q);
    judging_free(&j);
    return err;
}
