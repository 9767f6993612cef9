/* append: events into the group. A unit is judged at once: what of it is in the log already, and at which version
 * its subjects are, is asked in one round trip, for which the rows that wait are sent ahead. With ids that are
 * fresh and without subjects there is nothing to ask. Accepted rows wait in the batch, to be inserted many at a time. */
#include "store/postgres/store_i.h"

#include "event/event.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_ROWS = 512,
    KEY_MOST = 2600 /* a third of a page, less what an entry has besides: 2704 with all */
};
#define BATCH_BYTES ((size_t)1 << 20)
#define DATA_MOST   ((size_t)1000 << 20) /* what a statement can carry */

static const hk_pg_sql insert = {
    "insert",
    "WITH x AS MATERIALIZED (SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], "
    "$5::int8[], $6::int8[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], "
    "$12::text[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::bytea[]) "
    "x(seq, recorded, time, dataversion, check_sum, subject_version, source, id, type, mediatype, "
    "subject, partitionkey, correlationid, causationid, attrs, digest, data)), "
    "v AS (INSERT INTO @versions AS v(type, version, count, first, last) SELECT type, dataversion, "
    "count(*), min(recorded), max(recorded) FROM x GROUP BY type, dataversion ON CONFLICT (type, "
    "version) DO UPDATE SET count = v.count + excluded.count, first = CASE WHEN v.first = 0 THEN "
    "excluded.first ELSE v.first END, last = excluded.last), "
    "s AS (INSERT INTO @subjects(subject, version) SELECT subject, max(subject_version) FROM x "
    "WHERE subject IS NOT NULL GROUP BY subject ON CONFLICT (subject) DO UPDATE SET version = "
    "excluded.version) "
    "INSERT INTO @events(seq, recorded, time, dataversion, check_sum, subject_version, source, id, "
    "type, mediatype, subject, partitionkey, correlationid, causationid, attrs, digest, data) "
    "SELECT * FROM x"};

/* Items by their number: from 1 those whose id is there, negative ones with the version of their subject. */
static const hk_pg_sql look_up = {
    "look_up",
    "SELECT x.i, e.seq, e.subject_version, e.digest FROM unnest($1::text[], $2::text[], "
    "$3::int8[]) x(id, source, i) CROSS JOIN LATERAL (SELECT seq, subject_version, digest FROM "
    "@events e WHERE e.id = x.id AND e.source = x.source LIMIT 1) e UNION ALL SELECT -y.i, "
    "v.version, NULL, NULL FROM unnest($4::text[], $5::int8[]) y(subject, i) CROSS JOIN LATERAL "
    "(SELECT version FROM @subjects v WHERE v.subject = y.subject LIMIT 1) v"};

/* ---- the batch --------------------------------------------------------------------------------- */

enum { COLUMNS = 17 };

/* In the order of the statement's arguments. */
static void columns_of(hk_pg_batch *b, hk_pg_array *ret[COLUMNS])
{
    hk_pg_array *const all[COLUMNS] = {&b->seq,           &b->recorded,    &b->time,
                                       &b->dataversion,   &b->check_sum,   &b->subject_version,
                                       &b->source,        &b->id,          &b->type,
                                       &b->mediatype,     &b->subject,     &b->partitionkey,
                                       &b->correlationid, &b->causationid, &b->attrs,
                                       &b->digest,        &b->data};
    memcpy(ret, all, sizeof all);
}

static void set_kinds(hk_pg_batch *b)
{
    hk_pg_array *a[COLUMNS];
    columns_of(b, a);
    for (size_t i = 0; i < COLUMNS; i++)
        a[i]->kind = i < 6 ? HK_PG_INT8 : i < 15 ? HK_PG_TEXT : HK_PG_BYTEA;
}

void hk_pg_batch_back(hk_pg_batch *b, size_t n)
{
    hk_pg_array *a[COLUMNS];
    if (n >= b->n)
        return;
    columns_of(b, a);
    for (size_t i = 0; i < COLUMNS; i++) {
        if (n == 0)
            hk_pg_array_clear(a[i]);
        else
            hk_pg_array_back(a[i], n);
    }
    b->n = n;
}

void hk_pg_batch_free(hk_pg_batch *b)
{
    hk_pg_array *a[COLUMNS];
    columns_of(b, a);
    for (size_t i = 0; i < COLUMNS; i++)
        hk_pg_array_free(a[i]);
    b->n = 0;
}

static void add_text(hk_pg_array *a, const struct hk_text *t)
{
    hk_pg_array_add(a, t->s, t->len);
}

static void add_row(hk_pg_batch *b, const hk_row *r, const uint8_t digest[16])
{
    const struct hk_text *t = r->text;
    if (HK_UNLIKELY(b->seq.kind != HK_PG_INT8))
        set_kinds(b);
    hk_pg_array_int(&b->seq, (int64_t)r->seq);
    hk_pg_array_int(&b->recorded, r->recorded);
    hk_pg_array_int(&b->time, r->time);
    hk_pg_array_int(&b->dataversion, r->dataversion);
    hk_pg_array_int(&b->check_sum, hk_row_sum(r));
    if (r->subject_version)
        hk_pg_array_int(&b->subject_version, r->subject_version);
    else
        hk_pg_array_add(&b->subject_version, NULL, 0);
    add_text(&b->source, &t[HK_ROW_SOURCE]);
    add_text(&b->id, &t[HK_ROW_ID]);
    add_text(&b->type, &t[HK_ROW_TYPE]);
    add_text(&b->mediatype, &t[HK_ROW_MEDIA]);
    add_text(&b->subject, &t[HK_ROW_SUBJECT]);
    add_text(&b->partitionkey, &t[HK_ROW_KEY]);
    add_text(&b->correlationid, &t[HK_ROW_CORRELATION]);
    add_text(&b->causationid, &t[HK_ROW_CAUSATION]);
    add_text(&b->attrs, &t[HK_ROW_ATTRS]);
    hk_pg_array_add(&b->digest, digest, 16);
    hk_pg_array_add(&b->data, t[HK_ROW_DATA].s, t[HK_ROW_DATA].len);
    b->n++;
}

static bool is_full(const hk_pg_batch *b)
{
    return b->n >= BATCH_ROWS || b->data.bytes.len + b->attrs.bytes.len >= BATCH_BYTES;
}

hark_err hk_pg_append_flush(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_array *a[COLUMNS];
    if (s->batch.n == 0)
        return HARK_OK;
    hark_err err = hk_pg_enter(s, "append", ei);
    columns_of(&s->batch, a);
    for (size_t i = 0; i < COLUMNS && !err; i++)
        err = hk_pg_arg_array(&args, a[i], ei);
    if (!err)
        err = hk_pg_send(&s->w, &insert, &args, ei);
    if (!err)
        hk_pg_batch_back(&s->batch, 0);
    return err;
}

/* ---- a unit, and what the log knows of it ------------------------------------------------------ */

/* Of one item: the event with its id that is there, and its subject. */
typedef struct known {
    uint64_t seq; /* 0 = none */
    int64_t seq_version;
    uint8_t digest[16];
    size_t subject;  /* the first item of the unit with this subject */
    int64_t version; /* of the subject, at that first item */
} known;

typedef struct unit {
    hark_store_append *items;
    size_t n;
    known one, *of;         /* by item */
    size_t *ids, *subjects; /* hash tables of items, counted from 1; NULL in a unit of one */
    size_t mask;
} unit;

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
static size_t *slot(const unit *u, size_t *table, size_t i,
                    bool (*same)(const hark_store_append *, const hark_store_append *))
{
    const char *key =
        table == u->ids ? hark_event_id(u->items[i].event) : hark_event_subject(u->items[i].event);
    size_t at = (size_t)hk_hash(key, strlen(key)) & u->mask;
    while (table[at] && !same(&u->items[table[at] - 1], &u->items[i]))
        at = (at + 1) & u->mask;
    return &table[at];
}

static void unit_free(unit *u)
{
    if (u->of != &u->one)
        free(u->of);
    free(u->ids);
    free(u->subjects);
}

static hark_err unit_of(unit *u, hark_errinfo *ei)
{
    u->of = &u->one;
    if (u->n == 1)
        return HARK_OK;
    for (u->mask = 7; u->mask < u->n * 2;)
        u->mask = u->mask * 2 + 1;
    u->of = calloc(u->n, sizeof *u->of);
    u->ids = calloc(u->mask + 1, sizeof *u->ids);
    u->subjects = calloc(u->mask + 1, sizeof *u->subjects);
    if (!u->of || !u->ids || !u->subjects)
        return hk_fail(ei, HARK_ENOMEM, "no memory to append %zu events; try again", u->n);
    for (size_t i = 0; i < u->n; i++) {
        if (!hark_event_subject(u->items[i].event))
            continue;
        size_t *place = slot(u, u->subjects, i, same_subject);
        if (!*place)
            *place = i + 1;
        u->of[i].subject = *place - 1;
    }
    return HARK_OK;
}

typedef struct asking {
    hk_pg_array ids, sources, id_items, subjects, subject_items;
} asking;

static void ask_for(asking *q, const unit *u, size_t i)
{
    const hark_store_append *a = &u->items[i];
    const char *id = hark_event_id(a->event), *source = hark_event_source(a->event);
    const char *subject = hark_event_subject(a->event);
    if (!a->fresh_id) {
        hk_pg_array_add(&q->ids, id, strlen(id));
        hk_pg_array_add(&q->sources, source, strlen(source));
        hk_pg_array_int(&q->id_items, (int64_t)i + 1);
    }
    if (subject && u->of[i].subject == i) {
        hk_pg_array_add(&q->subjects, subject, strlen(subject));
        hk_pg_array_int(&q->subject_items, (int64_t)i + 1);
    }
}

static hark_err take_answer(const hark_store *s, unit *u, const PGresult *r, hark_errinfo *ei)
{
    for (int row = 0; row < PQntuples(r); row++) {
        int64_t i = hk_pg_get_int(r, row, 0);
        known *k = &u->of[(i < 0 ? -i : i) - 1];
        if (i < 0) {
            k->version = hk_pg_get_int(r, row, 1);
            continue;
        }
        size_t len;
        const void *digest = hk_pg_get_blob(r, row, 3, &len);
        k->seq = (uint64_t)hk_pg_get_int(r, row, 1);
        k->seq_version = hk_pg_get_int(r, row, 2);
        if (!digest || len != sizeof k->digest)
            return hk_fail(ei, HARK_ECORRUPT,
                           "%s: the event at sequence %llu of the log %s is damaged; restore it "
                           "from a backup",
                           s->where, (unsigned long long)k->seq, s->schema);
        memcpy(k->digest, digest, len);
    }
    return HARK_OK;
}

static hark_err ask(hark_store *s, unit *u, asking *q, hark_errinfo *ei)
{
    hk_pg_array *const all[] = {&q->ids, &q->sources, &q->id_items, &q->subjects,
                                &q->subject_items};
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hark_err err = hk_pg_append_flush(s, ei);
    if (!err)
        err = hk_pg_enter(s, "append", ei);
    for (size_t i = 0; i < HK_COUNTOF(all) && !err; i++)
        err = hk_pg_arg_array(&args, all[i], ei);
    if (!err)
        err = hk_pg_run(&s->w, &look_up, &args, &r, "looking up events and subjects", ei);
    if (!err)
        err = take_answer(s, u, r, ei);
    PQclear(r);
    return err;
}

static hark_err find_known(hark_store *s, unit *u, hark_errinfo *ei)
{
    asking q = {.ids.kind = HK_PG_TEXT,
                .sources.kind = HK_PG_TEXT,
                .id_items.kind = HK_PG_INT8,
                .subjects.kind = HK_PG_TEXT,
                .subject_items.kind = HK_PG_INT8};
    for (size_t i = 0; i < u->n; i++)
        ask_for(&q, u, i);
    hark_err err = q.ids.n + q.subjects.n ? ask(s, u, &q, ei) : HARK_OK;
    hk_pg_array_free(&q.ids);
    hk_pg_array_free(&q.sources);
    hk_pg_array_free(&q.id_items);
    hk_pg_array_free(&q.subjects);
    hk_pg_array_free(&q.subject_items);
    return err;
}

/* ---- repeats ----------------------------------------------------------------------------------- */

/* What the item repeats: an event that was there, or an earlier one of its unit. */
static bool find_first(const unit *u, size_t i, uint64_t *ret_seq, int64_t *ret_version,
                       const uint8_t **ret_digest)
{
    const known *k = &u->of[i];
    *ret_seq = k->seq;
    *ret_version = k->seq_version;
    *ret_digest = k->digest;
    if (k->seq || !u->ids || u->items[i].fresh_id)
        return k->seq != 0;
    size_t first = *slot(u, u->ids, i, same_id);
    if (!first)
        return false;
    const hark_store_append *a = &u->items[first - 1];
    *ret_seq = a->ret_sequence;
    *ret_version = a->ret_subject_version;
    *ret_digest = a->digest;
    return true;
}

static hark_err repeated(const unit *u, size_t i, bool *ret, hark_errinfo *ei)
{
    hark_store_append *a = &u->items[i];
    const uint8_t *digest;
    a->ret_sequence = 0;
    *ret = find_first(u, i, &a->ret_sequence, &a->ret_subject_version, &digest);
    if (!*ret)
        return HARK_OK;
    a->ret_duplicate = 1;
    if (a->first_stands || memcmp(digest, a->digest, 16) == 0)
        return HARK_OK;
    return hk_repeat_conflict(a, ei);
}

/* ---- expected versions ------------------------------------------------------------------------- */

/* ---- appending --------------------------------------------------------------------------------- */

hark_err hk_pg_check_keys(const hark_event *e, hark_errinfo *ei)
{
    const char *subject = hark_event_subject(e);
    size_t name = strlen(hark_event_id(e)) + strlen(hark_event_source(e));
    size_t about = subject ? strlen(subject) : 0;
    if (HK_LIKELY(name <= KEY_MOST && about <= KEY_MOST))
        return HARK_OK;
    return hk_fail(ei, HARK_ETOOBIG,
                   "%s of an event has %zu bytes; PostgreSQL finds at most %d of them: give a "
                   "shorter one, and the long one in the data",
                   name > KEY_MOST ? "id and source together" : "the subject",
                   name > KEY_MOST ? name : about, KEY_MOST);
}

static hark_err check(const hark_store *s, const hark_store_append *a, hark_errinfo *ei)
{
    size_t len;
    (void)hark_event_data(a->event, &len);
    if (len >= DATA_MOST || s->batch.data.bytes.len >= DATA_MOST - len)
        return hk_fail(ei, HARK_ETOOBIG,
                       "an event with %zu bytes of data; PostgreSQL takes at most %zu at once", len,
                       DATA_MOST);
    hark_err err = hk_pg_check_keys(a->event, ei);
    return !err && a->expected ? hk_expected_check(a, ei) : err;
}

static hark_err accept(hark_store *s, unit *u, size_t i, int64_t version, hark_errinfo *ei)
{
    hark_store_append *a = &u->items[i];
    hk_buf attrs = {0};
    hk_row r;
    hk_row_of(a->event, &r);
    hark_err err = hk_row_attrs(a->event, &attrs, &r, ei);
    if (!err) {
        r.seq = s->now.last + 1;
        r.recorded = s->now.recorded;
        r.subject_version = version;
        add_row(&s->batch, &r, a->digest);
        s->now.last = a->ret_sequence = r.seq;
        a->ret_subject_version = version;
        if (version)
            u->of[u->of[i].subject].version = version;
        if (u->ids)
            *slot(u, u->ids, i, same_id) = i + 1;
    }
    hk_buf_free(&attrs);
    return err;
}

/* What is a repeat is one whatever it expects. */
static hark_err append_one(hark_store *s, unit *u, size_t i, hark_errinfo *ei)
{
    hark_store_append *a = &u->items[i];
    bool subject = hark_event_subject(a->event) != NULL, repeat = false;
    int64_t current = subject ? u->of[u->of[i].subject].version : 0;
    a->ret_duplicate = 0;
    a->ret_subject_version = 0;
    hark_err err = check(s, a, ei);
    if (!err)
        err = repeated(u, i, &repeat, ei);
    if (err || repeat)
        return err;
    if (subject && !hk_expected_met(a, current))
        return hk_expected_other(a, current, ei);
    return accept(s, u, i, subject ? current + 1 : 0, ei);
}

static hark_err append_all(hark_store *s, unit *u, size_t *ret_done, hark_errinfo *ei)
{
    hark_err err = unit_of(u, ei);
    if (!err)
        err = find_known(s, u, ei);
    for (*ret_done = 0; *ret_done < u->n && !err; (*ret_done)++)
        err = append_one(s, u, *ret_done, ei);
    return err;
}

static void take_back(hark_store *s, unit *u, hark_err err, size_t done, uint64_t before)
{
    for (size_t i = 0; i < u->n; i++) /* but the one that was refused tells where its subject is */
        if (i + 1 != done || err != HARK_EVERSION)
            u->items[i].ret_subject_version = 0;
    hk_pg_batch_back(&s->batch, s->batch.n - (size_t)(s->now.last - before));
    s->now.last = before;
}

static void stamp(const hark_store_append *a, int64_t recorded)
{
    hark_event_stamp(a->event, a->ret_sequence, recorded);
    hark_event_stamp_subject(a->event, a->ret_subject_version);
}

static hark_err finish(hark_store *s, const unit *u, uint64_t before, hark_errinfo *ei)
{
    if (s->now.first == 0 && s->now.last > before)
        s->now.first = before + 1;
    if (s->tx.open && s->now.last > before)
        hk_pg_tx_wrote(s);
    for (size_t i = 0; i < u->n; i++)
        if (!u->items[i].ret_duplicate)
            stamp(&u->items[i], s->now.recorded);
    return is_full(&s->batch) ? hk_pg_append_flush(s, ei) : HARK_OK;
}

hark_err hk_pg_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    unit u = {.items = items, .n = n};
    uint64_t before = s->now.last;
    int64_t now = hk_wall_ns();
    size_t done = 0;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "append outside of a group");
    if (n == 0)
        return HARK_OK;
    if (n > HARK_SEQ_MAX - before)
        return hk_fail(ei, HARK_EFULL, "%s has used every sequence below 2^53; begin a new log",
                       s->where);
    if (now > s->now.recorded)
        s->now.recorded = now;
    hark_err err = append_all(s, &u, &done, ei);
    if (HK_UNLIKELY(err))
        take_back(s, &u, err, done, before);
    else
        err = finish(s, &u, before, ei);
    unit_free(&u);
    return hk_pg_note(s, err);
}

hark_err hk_pg_event_of(hark_store *s, const char *source, const char *id, uint64_t *ret_seq,
                        uint8_t ret_digest[16], hark_errinfo *ei)
{
    unit u = {.n = 1, .of = &u.one};
    asking q = {.ids.kind = HK_PG_TEXT,
                .sources.kind = HK_PG_TEXT,
                .id_items.kind = HK_PG_INT8,
                .subjects.kind = HK_PG_TEXT,
                .subject_items.kind = HK_PG_INT8};
    hk_pg_array_add(&q.ids, id, strlen(id));
    hk_pg_array_add(&q.sources, source, strlen(source));
    hk_pg_array_int(&q.id_items, 1);
    hark_err err = ask(s, &u, &q, ei);
    hk_pg_array_free(&q.ids);
    hk_pg_array_free(&q.sources);
    hk_pg_array_free(&q.id_items);
    hk_pg_array_free(&q.subjects);
    hk_pg_array_free(&q.subject_items);
    if (err)
        return err;
    *ret_seq = u.one.seq;
    memcpy(ret_digest, u.one.digest, 16);
    return HARK_OK;
}
