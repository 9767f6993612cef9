/* row: an event as a row of the table `hark_events`. */
#ifndef HK_SQLITE_ROW_I_H
#define HK_SQLITE_ROW_I_H

#include "store/common/common.h"
#include "store/sqlite/names_i.h"

#include <hark/event.h>

#include <sqlite3.h>

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

/* How much of a row is read. */
typedef struct hk_row_form {
    bool narrow; /* in: without the last four columns */
    bool extras; /* out, set and never cleared: an event has something in them */
} hk_row_form;

/* The event in the row that `st` stands at; NULL when a narrow row does not tell all. HARK_ECORRUPT
 * when it does not match its sum. */
hark_err hk_row_load(hk_conn *c, sqlite3_stmt *st, hk_names names[HK_NAME_KINDS], hk_row_form *form,
                     hark_event **ret, hark_errinfo *ei);

#endif
