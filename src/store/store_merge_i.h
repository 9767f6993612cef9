/* store_merge_i.h: the state of a consumer's shares as one, for tests (store_test_i.h). Whoever saves the same floor and settled set in
 * all shares, and rows and acks in the share that they belong to, reads all of it back. */
#ifndef HK_STORE_MERGE_I_H
#define HK_STORE_MERGE_I_H

#include <hark/store.h>

#include <stdlib.h>
#include <string.h>

static inline int by_first(const void *a, const void *b)
{
    const hark_store_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static inline int by_sequence(const void *a, const void *b)
{
    const hark_store_row *x = a, *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* Adds one share's state to that of others: its floor as a range, too. */
static inline void add_share(hark_store_consumer *to, hark_store_consumer *c)
{
    size_t n = to->ret_n_settled, rows = to->ret_n_rows;
    to->ret_settled =
        realloc(to->ret_settled, (n + c->ret_n_settled + 1) * sizeof *to->ret_settled);
    to->ret_rows = realloc(to->ret_rows, (rows + c->ret_n_rows + 1) * sizeof *to->ret_rows);
    assert_true(to->ret_settled && to->ret_rows);
    if (c->ret_floor)
        to->ret_settled[n++] = (hark_store_range){1, c->ret_floor};
    for (size_t i = 0; i < c->ret_n_settled; i++)
        to->ret_settled[n++] = c->ret_settled[i];
    for (size_t i = 0; i < c->ret_n_rows; i++)
        to->ret_rows[rows++] = c->ret_rows[i];
    to->ret_n_settled = n;
    to->ret_n_rows = rows;
    if (c->ret_highest > to->ret_highest)
        to->ret_highest = c->ret_highest;
    c->ret_n_rows = 0; /* their strings have another owner now */
}

/* Ranges that overlap or touch become one; one from the beginning is the floor. */
static inline void join_ranges(hark_store_consumer *c)
{
    size_t n = 0, all = c->ret_n_settled;
    qsort(c->ret_settled, all, sizeof *c->ret_settled, by_first);
    for (size_t i = 0; i < all; i++) {
        hark_store_range r = c->ret_settled[i], *last = n ? &c->ret_settled[n - 1] : NULL;
        if (!last || r.first > last->last + 1)
            c->ret_settled[n++] = r;
        else if (r.last > last->last)
            last->last = r.last;
    }
    c->ret_floor = n && c->ret_settled[0].first == 1 ? c->ret_settled[0].last : 0;
    if (c->ret_floor)
        memmove(c->ret_settled, c->ret_settled + 1, --n * sizeof *c->ret_settled);
    c->ret_n_settled = n;
    qsort(c->ret_rows, c->ret_n_rows, sizeof *c->ret_rows, by_sequence);
}

#endif
