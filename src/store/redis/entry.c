/* entry.c: an event as an entry of the stream, and back. Its id is SEQUENCE-0; the fields, always these and in this order,
 * which the server keeps once for many entries, are few, since each costs the server time:
 *
 *   h  recorded time (us), version of the subject or 0, and type, with a space between
 *   b  the envelope and, at its end, the data: a list (wire.c)
 *
 * Place, subject version and recorded time are the server's to give, so that the check sum in there is over
 * everything else. */
#include "store/redis/stream_i.h"

#include <string.h>

/* ---- writing ----------------------------------------------------------------------------------- */

/* In the order of the list; the script knows the places of some (log.lua). */
static const hk_row_text texts[] = {HK_ROW_MEDIA,     HK_ROW_KEY,     HK_ROW_CORRELATION,
                                    HK_ROW_CAUSATION, HK_ROW_ATTRS,   HK_ROW_SOURCE,
                                    HK_ROW_ID,        HK_ROW_SUBJECT, HK_ROW_DATA};

hark_err hk_rs_body(const hark_event *e, hk_buf *ret, hark_errinfo *ei)
{
    hk_buf attrs = {0};
    hk_row row;
    hk_row_of(e, &row);
    hark_err err = hk_row_attrs(e, &attrs, &row, ei);
    if (err)
        return err;
    row.seq = 0;
    row.recorded = 0;
    hk_wire_add_int(ret, row.dataversion);
    hk_wire_add_int(ret, row.time);
    hk_wire_add_int(ret, hk_row_sum(&row));
    for (size_t i = 0; i < HK_COUNTOF(texts); i++)
        hk_wire_add(ret, row.text[texts[i]].s, row.text[texts[i]].len);
    hk_buf_free(&attrs);
    return ret->failed ? hk_fail(ei, HARK_ENOMEM, "no memory for an event") : HARK_OK;
}

/* ---- reading ----------------------------------------------------------------------------------- */

enum { F_HEAD = 1, F_BODY = 3, F_ALL };

static hk_text text_at(const redisReply *fields, size_t i)
{
    return (hk_text){fields->element[i]->str, fields->element[i]->len};
}

static bool is_entry(const redisReply *r)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_ARRAY ||
        r->element[1]->elements != F_ALL)
        return false;
    for (size_t i = 0; i < F_ALL; i++)
        if (r->element[1]->element[i]->type != REDIS_REPLY_STRING)
            return false;
    return true;
}

uint64_t hk_rs_entry_place(const redisReply *r)
{
    uint64_t seq = 0;
    if (!is_entry(r))
        return 0;
    const char *id = r->element[0]->str, *dash = strchr(id, '-');
    return dash && hk_parse_u64(id, (size_t)(dash - id), &seq) ? seq : 0;
}

/* "RECORDED VERSION TYPE" */
static bool take_head(hk_text head, hk_row *row)
{
    uint64_t recorded, version;
    const char *a = memchr(head.s, ' ', head.len);
    const char *b = a ? memchr(a + 1, ' ', (size_t)(head.s + head.len - a - 1)) : NULL;
    if (!b || !hk_parse_u64(head.s, (size_t)(a - head.s), &recorded) ||
        !hk_parse_u64(a + 1, (size_t)(b - a - 1), &version))
        return false;
    row->recorded = (int64_t)recorded * 1000;
    row->subject_version = (int64_t)version;
    row->text[HK_ROW_TYPE] = (hk_text){b + 1, (size_t)(head.s + head.len - b - 1)};
    return true;
}

static bool take_row(const redisReply *entry, hk_row *row, int64_t *ret_sum)
{
    const redisReply *fields = entry->element[1];
    hk_wire w = hk_wire_of(text_at(fields, F_BODY));
    *row = (hk_row){.seq = hk_rs_entry_place(entry), .dataversion = hk_wire_int(&w)};
    row->time = hk_wire_int(&w);
    *ret_sum = hk_wire_int(&w);
    for (size_t i = 0; i < HK_COUNTOF(texts); i++)
        row->text[texts[i]] = hk_wire_next(&w);
    return !w.bad && row->text[HK_ROW_SOURCE].s && row->text[HK_ROW_ID].s &&
           take_head(text_at(fields, F_HEAD), row);
}

static bool is_whole(const hk_row *row, int64_t sum)
{
    hk_row bare = *row;
    bare.seq = 0;
    bare.recorded = bare.subject_version = 0;
    return hk_row_sum(&bare) == sum;
}

hark_err hk_rs_entry(const hark_store *s, const redisReply *entry, hark_event **ret,
                     hark_errinfo *ei)
{
    int64_t sum = 0;
    hk_row row;
    if (hk_rs_entry_place(entry) == 0)
        return hk_rs_strange(s, ei);
    hark_err err = HARK_ECORRUPT;
    if (take_row(entry, &row, &sum) && is_whole(&row, sum))
        err = hk_row_event(&row, ret, ei);
    if (err == HARK_ECORRUPT)
        return hk_fail(ei, err,
                       "%s: the event at sequence %llu is damaged; restore it from a backup",
                       s->where, (unsigned long long)row.seq);
    return err;
}
