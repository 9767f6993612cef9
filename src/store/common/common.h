/* common: what the stores that keep a log of their own do alike: an event as a row of plain columns, its check
 * sum, events kept beside the log, the settled set of a consumer, verdicts on what is there already. Front header for the backends;
 * may use base and event. */
#ifndef HK_STORE_COMMON_H
#define HK_STORE_COMMON_H

#include "base/base.h"

#include <hark/event.h>
#include <hark/store.h>

/* ---- an event as a row ----------------------------------------------------------------------- */

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

/* Everything a row needs but its place, subject_version and attrs, which are the caller's. The
 * buffer backs nothing once the call has returned. */
void hk_row_of(const hark_event *e, hk_row *ret);
/* attrs.c: further attributes as a JSON object into `buf` and the row; absent when there are none. */
hark_err hk_row_attrs(const hark_event *e, hk_buf *buf, hk_row *row, hark_errinfo *ei);
/* sum.c: the check sum of a row whose place, subject_version and attrs are filled in. */
int64_t hk_row_sum(const hk_row *r);
/* The event that the row tells, with its place. Its sum is for the caller to compare. HARK_ECORRUPT without a text: the
 * attributes are damaged. */
hark_err hk_row_event(const hk_row *r, hark_event **ret, hark_errinfo *ei);

/* Takes apart what hk_row_attrs made: strings into `buf`, *ret_n extensions into `ext`. False when
 * it is malformed. */
bool hk_attrs_parse(const char *text, size_t len, hk_buf *buf, hark_ext *ext, size_t *ret_n,
                    hark_event_spec *spec);

/* ---- an event outside the log: envelope.c ---------------------------------------------------- */

/* Its attributes as CloudEvents JSON, malloc'ed, and back again with its data. `what` says whose it
 * is, for texts. */
hark_err hk_envelope_text(const hark_event *e, char **ret, size_t *ret_len, hark_errinfo *ei);
hark_err hk_envelope_event(const char *json, size_t len, const void *data, size_t data_len,
                           const char *what, hark_event **ret, hark_errinfo *ei);

/* ---- settled sets: ranges.c ------------------------------------------------------------------ */

/* As bytes; see docs/format-sqlite.md. */
void hk_ranges_encode(uint64_t floor, const hark_store_range *ranges, size_t n, hk_buf *ret);
hark_err hk_ranges_decode(uint64_t floor, const uint8_t *bytes, size_t len, hark_store_range **ret,
                          size_t *ret_n);
bool hk_ranges_have(const hark_store_range *ranges, size_t n, uint64_t seq);
/* These sequences, in order, count as settled in what was loaded of a consumer: floor, settled set and highest. HARK_ENOMEM:
 * nothing changed. */
hark_err hk_ranges_settle(hark_store_consumer *c, const uint64_t *seqs, size_t n);

/* ---- processes: who.c ------------------------------------------------------------------------ */

/* This process as a text that others on this machine can judge by. */
enum { HK_WHO_MAX = 200 };
void hk_who_self(char ret[HK_WHO_MAX]);
/* True only when it is certain: the text is of a process of this machine (and of our pid namespace) that is no
 * more. */
bool hk_who_is_dead(const char *who);

/* ---- what is in the log already: judge.c ----------------------------------------------------- */

/* HARK_ECONFLICT: its id is that of the event at ret_sequence, which has other content. */
hark_err hk_repeat_conflict(const hark_store_append *a, hark_errinfo *ei);
/* Of one with an expected version: is that one that can be expected? HARK_EINVAL. */
hark_err hk_expected_check(const hark_store_append *a, hark_errinfo *ei);
/* Its subject is at `current`, 0 = no event of it. */
bool hk_expected_met(const hark_store_append *a, int64_t current);
hark_err hk_expected_other(hark_store_append *a, int64_t current,
                           hark_errinfo *ei); /* HARK_EVERSION */

/* ---- registered consumers: terms.c ----------------------------------------------------------- */

/* Before anything is filled in: hark_store_consumer_clear is safe from here on. */
void hk_consumer_unfilled(hark_store_consumer *c);
/* Fills in ret_pattern and ret_policy as they will be after this call; *ret_differs: they are to be written. HARK_ECONFLICT:
 * others are registered, and `update` is not set. HARK_ENOMEM. */
hark_err hk_consumer_terms(hark_store_consumer *c, const char *pattern, const char *policy,
                           bool *ret_differs, hark_errinfo *ei);

/* ---- texts: beginning.c ---------------------------------------------------------------------- */

/* The beginning of a statement on one line. */
#define HK_SQL_BEGINNING 72
const char *hk_sql_beginning(const char *sql, char ret[HK_SQL_BEGINNING + 4]);

#endif
