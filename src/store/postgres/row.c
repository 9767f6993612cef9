/* row: an event in a result, in the order of HK_PG_COLUMNS. */
#include "store/postgres/store_i.h"

#include "event/event.h"

enum {
    SEQ,
    RECORDED,
    SOURCE,
    ID,
    TYPE,
    MEDIA,
    TIME,
    DATAVERSION,
    SUM,
    SUBJECT,
    SUBJECT_VERSION,
    KEY,
    CORRELATION,
    CAUSATION,
    ATTRS,
    DATA
};

static const struct {
    hk_row_text text;
    int col;
} texts[] = {{HK_ROW_SOURCE, SOURCE},
             {HK_ROW_ID, ID},
             {HK_ROW_TYPE, TYPE},
             {HK_ROW_MEDIA, MEDIA},
             {HK_ROW_SUBJECT, SUBJECT},
             {HK_ROW_KEY, KEY},
             {HK_ROW_CORRELATION, CORRELATION},
             {HK_ROW_CAUSATION, CAUSATION},
             {HK_ROW_ATTRS, ATTRS},
             {HK_ROW_DATA, DATA}};

static hark_err damaged(const hark_store *s, uint64_t seq, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the event at sequence %llu of the log %s is damaged (its content does not "
                   "match its check sum) and is not served; restore it from a backup",
                   s->where, (unsigned long long)seq, s->schema);
}

int64_t hk_pg_content_sum(const hk_row *r)
{
    hk_row content = *r;
    content.seq = 0;
    content.recorded = content.subject_version = 0;
    return hk_row_sum(&content);
}

static int64_t sum_of(const hk_row *r)
{
    return hk_pg_content_sum(r) ^ (int64_t)r->seq ^ r->recorded ^ r->subject_version;
}

hark_err hk_pg_row(const hark_store *s, const PGresult *r, int row, hark_event **ret,
                   hark_errinfo *ei)
{
    hk_row e = {.seq = (uint64_t)hk_pg_get_int(r, row, SEQ),
                .recorded = hk_pg_get_int(r, row, RECORDED),
                .time = hk_pg_get_int(r, row, TIME),
                .dataversion = hk_pg_get_int(r, row, DATAVERSION),
                .subject_version = hk_pg_get_int(r, row, SUBJECT_VERSION)};
    for (size_t i = 0; i < HK_COUNTOF(texts); i++) {
        struct hk_text *t = &e.text[texts[i].text];
        t->s = hk_pg_get_text(r, row, texts[i].col, &t->len);
    }
    if (HK_UNLIKELY(sum_of(&e) != hk_pg_get_int(r, row, SUM)))
        return damaged(s, e.seq, ei);
    hark_err err = hk_row_event(&e, ret, ei);
    return err == HARK_ECORRUPT ? damaged(s, e.seq, ei) : err;
}
