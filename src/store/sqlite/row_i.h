/* row: an event as a row of the table `hark_events`, and its check sum. */
#ifndef HK_SQLITE_ROW_I_H
#define HK_SQLITE_ROW_I_H

#include "base/base.h"
#include "store/sqlite/names_i.h"

#include <hark/event.h>

#include <sqlite3.h>

/* What a row holds, borrowed from an event or a statement. */
typedef struct hk_row {
    uint64_t seq;
    int64_t recorded;
    int64_t time;
    int64_t dataversion;
    int64_t subject_version; /* 0 without a subject */
    struct hk_text {
        const char *s; /* NULL = absent */
        size_t len;
    } text[10]; /* by hk_row_text */
} hk_row;

typedef enum hk_row_text {
    HK_ROW_SOURCE,
    HK_ROW_ID,
    HK_ROW_TYPE,
    HK_ROW_MEDIA,
    HK_ROW_SUBJECT,
    HK_ROW_KEY,
    HK_ROW_CORRELATION,
    HK_ROW_CAUSATION,
    HK_ROW_ATTRS,
    HK_ROW_DATA,
    HK_ROW_TEXTS
} hk_row_text;

/* Columns of HK_ROW_COLUMNS. */
enum {
    HK_COL_SEQ,
    HK_COL_RECORDED,
    HK_COL_SOURCE,
    HK_COL_ID,
    HK_COL_TYPE,
    HK_COL_MEDIA,
    HK_COL_TIME,
    HK_COL_DATAVERSION,
    HK_COL_SUM,
    HK_COL_SUBJECT,
    HK_COL_SUBJECT_VERSION,
    HK_COL_DATA,
    HK_COL_KEY,
    HK_COL_CORRELATION,
    HK_COL_CAUSATION,
    HK_COL_ATTRS
};

/* Everything a row needs but its place, subject_version and attrs, which are the caller's. The
 * buffer backs nothing once the call has returned. */
void hk_row_of(const hark_event *e, hk_row *ret);
/* Further attributes as a JSON object into `buf` and the row; absent when there are none. */
hark_err hk_row_attrs(const hark_event *e, hk_buf *buf, hk_row *row, hark_errinfo *ei);
int64_t hk_row_sum(const hk_row *r);

/* How much of a row is read. */
typedef struct hk_row_form {
    bool narrow; /* in: without the last four columns */
    bool extras; /* out, set and never cleared: an event has something in them */
} hk_row_form;

/* The event in the row that `st` stands at; NULL when a narrow row does not tell all. HARK_ECORRUPT
 * when it does not match its sum. */
hark_err hk_row_load(hk_conn *c, sqlite3_stmt *st, hk_names names[HK_NAME_KINDS], hk_row_form *form,
                     hark_event **ret, hark_errinfo *ei);

/* Takes apart what hk_row_attrs made: strings into `buf`, *ret_n extensions into `ext`. False when
 * it is malformed. */
bool hk_attrs_parse(const char *text, size_t len, hk_buf *buf, hark_ext *ext, size_t *ret_n,
                    hark_event_spec *spec);

#endif
