/* batch: rows of `events` that go to the server with one statement, as one array of them. Either their places are known: the
 * log's lock is held and where the log is was read. Or the server gives them, after the last one that there is: then a
 * row has its number in the batch for a sequence, what is expected of its subject for a recorded time, and for a version the
 * number of rows up to it with its subject. */
#include "store/postgres/store_i.h"

#include <endian.h>
#include <string.h>

enum { BATCH_ROWS = 512 };
#define BATCH_BYTES ((size_t)1 << 20)

#define COLUMNS                                                                                    \
    "seq, recorded, source, id, type, mediatype, time, dataversion, check_sum, digest, subject, "  \
    "subject_version, partitionkey, correlationid, causationid, attrs, data"
#define ROWS                                                                                       \
    "unnest($1::@events[]) i(at, expected, source, id, type, mediatype, time, dataversion, sum, "  \
    "digest, subject, nth, partitionkey, correlationid, causationid, attrs, data)"
#define INSERT_ROWS "INSERT INTO @events(" COLUMNS ") SELECT " COLUMNS " FROM x"
#define SET_SUBJECTS                                                                               \
    "s AS (INSERT INTO @subjects(subject, version) SELECT subject, max(subject_version) FROM x "   \
    "WHERE subject IS NOT NULL GROUP BY subject ON CONFLICT (subject) DO UPDATE SET version = "    \
    "excluded.version)"
#define ADD_VERSIONS "INSERT INTO @versions AS v(type, version, count, first, last) SELECT "
#define TO_VERSIONS                                                                                \
    " ON CONFLICT (type, version) DO UPDATE SET count = v.count + excluded.count, first = CASE "   \
    "WHEN v.first = 0 THEN excluded.first ELSE v.first END, last = excluded.last"

/* Rows that have their places. A row's place is in its check sum: see hk_pg_content_sum. */
static const hk_pg_sql insert = {
    "insert",
    "WITH x AS MATERIALIZED (SELECT at AS seq, expected AS recorded, source, id, type, mediatype, "
    "time, dataversion, sum # at # expected # coalesce(nth, 0) AS check_sum, digest, subject, nth "
    "AS subject_version, partitionkey, correlationid, causationid, attrs, data FROM " ROWS
    "), v AS (" ADD_VERSIONS "type, dataversion, count(*), min(recorded), max(recorded) FROM x "
    "GROUP BY type, dataversion" TO_VERSIONS "), " SET_SUBJECTS " " INSERT_ROWS};

/* For $1 rows. Its result is where the log was, and when they are recorded. Fails when there are no sequences left. */
static const hk_pg_sql draw = {
    "draw",
    "WITH u AS (UPDATE @log SET last = last + $1::int8, recorded = greatest(recorded, $2::int8) "
    "WHERE last <= 9007199254740991 - $1 RETURNING last - $1 AS base, recorded), v AS "
    "(" ADD_VERSIONS "i.type, i.version, sum(i.n)::int8, min(u.recorded), max(u.recorded) FROM u, "
    "unnest($3::text[], $4::int8[], $5::int8[]) i(type, version, n) GROUP BY i.type, "
    "i.version" TO_VERSIONS ") SELECT (SELECT base FROM u), (SELECT recorded FROM u), 1 / (SELECT "
    "count(*) FROM u)"};
_Static_assert(HARK_SEQ_MAX == UINT64_C(9007199254740991), "the text above says the same");

/* The last $2 that were drawn are those of these rows, none of which has a subject. */
static const hk_pg_sql insert_drawn = {
    "insert_drawn",
    "INSERT INTO @events(" COLUMNS ") SELECT l.last - $2::int8 + i.at, l.recorded, i.source, i.id, "
    "i.type, i.mediatype, i.time, i.dataversion, i.sum # (l.last - $2 + i.at) # l.recorded, "
    "i.digest, i.subject, NULL, i.partitionkey, i.correlationid, i.causationid, i.attrs, i.data "
    "FROM @log l, " ROWS};

/* Likewise, and some have. Fails when a subject is not where it is expected; `expected` NULL = anywhere. Tells the versions
 * that subjects got, by number. */
static const hk_pg_sql insert_drawn_subjects = {
    "insert_drawn_subjects",
    "WITH y AS MATERIALIZED (SELECT i.*, l.last - $2::int8 + i.at AS seq, l.recorded, CASE WHEN "
    "i.subject IS NOT NULL THEN coalesce((SELECT v.version FROM @subjects v WHERE v.subject = "
    "i.subject), 0) + i.nth END AS now FROM @log l, " ROWS "), "
    "x AS MATERIALIZED (SELECT at, seq, recorded, source, id, type, mediatype, time, dataversion, "
    "sum # seq # recorded # coalesce(now, 0) AS check_sum, digest, subject, CASE WHEN expected <> "
    "now - 1 THEN 1 / (at - at) ELSE now END AS subject_version, partitionkey, correlationid, "
    "causationid, attrs, data FROM y), " SET_SUBJECTS ", e AS (" INSERT_ROWS
    ") SELECT at, subject_version FROM x WHERE subject IS NOT NULL ORDER BY at"};

void hk_pg_batch_back(hk_pg_batch *b, size_t n)
{
    if (n > b->n || (n == b->n && n))
        return;
    if (n == 0) {
        hk_pg_array_clear(&b->rows);
        hk_pg_array_clear(&b->types);
        hk_pg_array_clear(&b->versions);
        hk_pg_array_clear(&b->counts);
        b->subjects = false;
        b->n_counted = 0;
    } else {
        hk_pg_array_back(&b->rows, n);
    }
    b->n = n;
}

void hk_pg_batch_free(hk_pg_batch *b)
{
    hk_pg_array_free(&b->rows);
    hk_pg_array_free(&b->types);
    hk_pg_array_free(&b->versions);
    hk_pg_array_free(&b->counts);
    hk_buf_free(&b->row);
    b->n = b->n_counted = 0;
}

/* ---- a row in binary form: its number of columns, then type, length and bytes of each ------------- */

static void put32(hk_buf *b, uint32_t v)
{
    v = htobe32(v);
    hk_buf_add(b, &v, sizeof v);
}

static void put_bytes(hk_buf *b, hk_pg_kind kind, const void *p, size_t len)
{
    put32(b, (uint32_t)kind);
    put32(b, p ? (uint32_t)len : UINT32_MAX);
    if (p)
        hk_buf_add(b, p, len);
}

static void put_text(hk_buf *b, const hk_row *r, hk_row_text i)
{
    put_bytes(b, HK_PG_TEXT, r->text[i].s, r->text[i].len);
}

static void put_int(hk_buf *b, int64_t v)
{
    uint64_t wire = htobe64((uint64_t)v);
    put_bytes(b, HK_PG_INT8, &wire, sizeof wire);
}

static void put_int_or_null(hk_buf *b, int64_t v, bool null)
{
    if (null)
        put_bytes(b, HK_PG_INT8, NULL, 0);
    else
        put_int(b, v);
}

/* In the order of the table's columns. */
static void put_row(hk_buf *b, const hk_row *r, bool any, const uint8_t digest[16])
{
    static const hk_row_text names[] = {HK_ROW_SOURCE, HK_ROW_ID, HK_ROW_TYPE, HK_ROW_MEDIA};
    static const hk_row_text rest[] = {HK_ROW_KEY, HK_ROW_CORRELATION, HK_ROW_CAUSATION,
                                       HK_ROW_ATTRS};
    put32(b, 17);
    put_int(b, (int64_t)r->seq);
    put_int_or_null(b, r->recorded, any);
    for (size_t i = 0; i < HK_COUNTOF(names); i++)
        put_text(b, r, names[i]);
    put_int(b, r->time);
    put_int(b, r->dataversion);
    put_int(b, hk_pg_content_sum(r));
    put_bytes(b, HK_PG_BYTEA, digest, 16);
    put_text(b, r, HK_ROW_SUBJECT);
    put_int_or_null(b, r->subject_version, !r->subject_version);
    for (size_t i = 0; i < HK_COUNTOF(rest); i++)
        put_text(b, r, rest[i]);
    put_bytes(b, HK_PG_BYTEA, r->text[HK_ROW_DATA].s, r->text[HK_ROW_DATA].len);
}

static hark_err add_row(hk_pg_batch *b, const hark_store_append *a, hk_row *r, bool any,
                        hark_errinfo *ei)
{
    hk_buf attrs = {0};
    hark_err err = hk_row_attrs(a->event, &attrs, r, ei);
    if (!err) {
        hk_buf_clear(&b->row);
        put_row(&b->row, r, any, a->digest);
        if (b->row.failed)
            err = hk_fail(ei, HARK_ENOMEM, "no memory to append an event; try again");
        else
            hk_pg_array_add(&b->rows, b->row.data, b->row.len);
        b->n += !err;
    }
    hk_buf_free(&attrs);
    return err;
}

hark_err hk_pg_batch_add(hk_pg_batch *b, const hark_store_append *a, hk_pg_place at,
                         int64_t version, hark_errinfo *ei)
{
    hk_row r;
    hk_row_of(a->event, &r);
    r.seq = at.last;
    r.recorded = at.recorded;
    r.subject_version = version;
    return add_row(b, a, &r, false, ei);
}

/* ---- rows whose places the server gives ----------------------------------------------------------- */

static void tell_type(hk_pg_batch *b, const hk_pg_counted *k)
{
    b->types.kind = HK_PG_TEXT;
    b->versions.kind = b->counts.kind = HK_PG_INT8;
    hk_pg_array_add(&b->types, k->type, strlen(k->type));
    hk_pg_array_int(&b->versions, k->version);
    hk_pg_array_int(&b->counts, k->n);
}

/* What is told more than once the server adds up. The type's text is the event's. */
static void count_type(hk_pg_batch *b, const hark_event *e)
{
    const hk_pg_counted one = {hark_event_type(e), hark_event_dataversion(e), 1};
    size_t i = 0;
    while (i < b->n_counted &&
           (b->counted[i].version != one.version || strcmp(b->counted[i].type, one.type) != 0))
        i++;
    if (i < b->n_counted)
        b->counted[i].n++;
    else if (i < HK_COUNTOF(b->counted))
        b->counted[b->n_counted++] = one;
    else
        tell_type(b, &one);
}

hark_err hk_pg_batch_add_next(hk_pg_batch *b, const hark_store_append *a, int64_t nth,
                              hark_errinfo *ei)
{
    hk_row r;
    hk_row_of(a->event, &r);
    r.seq = b->n + 1;
    r.recorded = a->expected == HARK_EXPECT_NONE ? 0 : a->expected;
    r.subject_version = nth;
    hark_err err = add_row(b, a, &r, !a->expected, ei);
    if (err)
        return err;
    b->subjects |= nth != 0;
    count_type(b, a->event);
    return HARK_OK;
}

/* ---- sending -------------------------------------------------------------------------------------- */

bool hk_pg_batch_is_full(const hk_pg_batch *b)
{
    return b->n >= BATCH_ROWS || b->rows.bytes.len >= BATCH_BYTES;
}

static hark_err rows_arg(hark_store *s, hk_pg_args *args, hark_errinfo *ei)
{
    s->batch.rows.kind = s->event_type;
    return hk_pg_arg_array(args, &s->batch.rows, ei);
}

hark_err hk_pg_batch_send(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    if (s->batch.n == 0)
        return HARK_OK;
    hark_err err = rows_arg(s, &args, ei);
    if (!err)
        err = hk_pg_send(&s->w, &insert, &args, ei);
    if (!err)
        hk_pg_batch_back(&s->batch, 0);
    return err;
}

static hark_err send_draw(hark_store *s, PGresult **ret, hark_errinfo *ei)
{
    hk_pg_batch *b = &s->batch;
    hk_pg_args args = {0};
    for (size_t i = 0; i < b->n_counted; i++)
        tell_type(b, &b->counted[i]);
    hk_pg_int(&args, (int64_t)b->n);
    hk_pg_int(&args, hk_wall_ns());
    hark_err err = hk_pg_arg_array(&args, &b->types, ei);
    if (!err)
        err = hk_pg_arg_array(&args, &b->versions, ei);
    if (!err)
        err = hk_pg_arg_array(&args, &b->counts, ei);
    return err ? err : hk_pg_send_for(&s->w, &draw, &args, ret, ei);
}

hark_err hk_pg_batch_draw(hark_store *s, hk_pg_drawn *ret, hark_errinfo *ei)
{
    hk_pg_batch *b = &s->batch;
    hk_pg_args args = {0};
    hark_err err = send_draw(s, &ret->place, ei);
    if (!err)
        err = rows_arg(s, &args, ei);
    hk_pg_int(&args, (int64_t)b->n);
    if (!err && b->subjects)
        err = hk_pg_send_for(&s->w, &insert_drawn_subjects, &args, &ret->versions, ei);
    else if (!err)
        err = hk_pg_send(&s->w, &insert_drawn, &args, ei);
    hk_pg_batch_back(b, 0);
    return err;
}
