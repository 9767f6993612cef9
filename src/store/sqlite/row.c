/* Turns events into rows and rows into events. Names come from the reader's own tables, so a row is
 * one record and no join. */
#include "store/sqlite/row_i.h"

#include "event/event.h"

#include <hark/store.h>

#include <string.h>

/* What HK_COL_KEY and the columns after it hold. */
static const hk_row_text extras[] = {HK_ROW_KEY, HK_ROW_CORRELATION, HK_ROW_CAUSATION,
                                     HK_ROW_ATTRS};

static void read_text(sqlite3_stmt *st, int col, struct hk_text *ret)
{
    ret->s = (const char *)sqlite3_column_text(st, col);
    ret->len = ret->s ? (size_t)sqlite3_column_bytes(st, col) : 0;
}

/* SQLite gives NULL for an empty blob as for none at all. */
static void read_data(sqlite3_stmt *st, struct hk_text *ret)
{
    ret->s = sqlite3_column_blob(st, HK_COL_DATA);
    ret->len = (size_t)sqlite3_column_bytes(st, HK_COL_DATA);
    if (!ret->s && sqlite3_column_type(st, HK_COL_DATA) == SQLITE_BLOB)
        ret->s = "";
}

static hark_err read_name(hk_conn *c, sqlite3_stmt *st, int col, hk_names names[HK_NAME_KINDS],
                          hk_name_kind kind, struct hk_text *ret, hark_errinfo *ei)
{
    int64_t id = sqlite3_column_int64(st, col);
    ret->s = NULL;
    ret->len = 0;
    if (kind == HK_NAME_MEDIA && id == 0)
        return HARK_OK;
    hark_err err = hk_names_get(&names[kind], kind, c, id, &ret->s, ei);
    if (!err)
        ret->len = strlen(ret->s);
    return err;
}

static void read_extras(sqlite3_stmt *st, hk_row *r, hk_row_form *form)
{
    for (size_t i = 0; i < HK_COUNTOF(extras); i++) {
        struct hk_text *t = &r->text[extras[i]];
        if (form->narrow)
            *t = (struct hk_text){0};
        else
            read_text(st, HK_COL_KEY + (int)i, t);
        form->extras |= t->s != NULL;
    }
}

static hark_err read_row(hk_conn *c, sqlite3_stmt *st, hk_names names[HK_NAME_KINDS], hk_row *r,
                         hk_row_form *form, hark_errinfo *ei)
{
    hark_err err;
    r->seq = (uint64_t)sqlite3_column_int64(st, HK_COL_SEQ);
    r->recorded = sqlite3_column_int64(st, HK_COL_RECORDED);
    r->time = sqlite3_column_int64(st, HK_COL_TIME);
    r->dataversion = sqlite3_column_int64(st, HK_COL_DATAVERSION);
    err = read_name(c, st, HK_COL_SOURCE, names, HK_NAME_SOURCE, &r->text[HK_ROW_SOURCE], ei);
    if (!err)
        err = read_name(c, st, HK_COL_TYPE, names, HK_NAME_TYPE, &r->text[HK_ROW_TYPE], ei);
    if (!err)
        err = read_name(c, st, HK_COL_MEDIA, names, HK_NAME_MEDIA, &r->text[HK_ROW_MEDIA], ei);
    read_text(st, HK_COL_ID, &r->text[HK_ROW_ID]);
    read_text(st, HK_COL_SUBJECT, &r->text[HK_ROW_SUBJECT]);
    r->subject_version =
        r->text[HK_ROW_SUBJECT].s ? sqlite3_column_int64(st, HK_COL_SUBJECT_VERSION) : 0;
    read_data(st, &r->text[HK_ROW_DATA]);
    read_extras(st, r, form);
    return err;
}

static hark_err damaged(hk_conn *c, uint64_t seq, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the event at sequence %llu is damaged (its content does not match its "
                   "check sum) and is not served; restore the file from a backup",
                   sqlite3_db_filename(c->db, "main"), (unsigned long long)seq);
}

/* The sum covers the columns that a narrow row leaves out, too: when it does not match, there is
 * something in them, or the row is damaged, which reading it whole will tell. */
hark_err hk_row_load(hk_conn *c, sqlite3_stmt *st, hk_names names[HK_NAME_KINDS], hk_row_form *form,
                     hark_event **ret, hark_errinfo *ei)
{
    hk_row r;
    *ret = NULL;
    hark_err err = read_row(c, st, names, &r, form, ei);
    if (err)
        return err;
    if (HK_UNLIKELY(hk_row_sum(&r) != sqlite3_column_int64(st, HK_COL_SUM))) {
        form->extras = true;
        return form->narrow ? HARK_OK : damaged(c, r.seq, ei);
    }
    err = hk_row_event(&r, ret, ei);
    return err == HARK_ECORRUPT ? damaged(c, r.seq, ei) : err;
}
