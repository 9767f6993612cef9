/* Where do the newest `keep` events of a pattern begin? No index tells the n-th entry, so they are
 * counted, window by window of sequences in the index of types. How far that has come stays with the
 * rule: the next call goes on there, and the next round only counts what has come since, and moves the
 * place up by as many. */
#include "store/sqlite/trim_i.h"

#define STEP                                                                                       \
    16384 /* index entries, and sequences at the top, counted between two looks at the clock */

/* Events of the pattern in a range, stopping above `most`. */
static hark_err count(hk_trimming *w, uint64_t first, uint64_t last, uint64_t most, uint64_t *ret,
                      hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_COUNT_TYPE, &st, ei);
    *ret = 0;
    for (size_t i = 0; !err && i < w->n_types && *ret <= most; i++) {
        int64_t n = 0;
        sqlite3_bind_int64(st, 1, w->types[i]);
        sqlite3_bind_int64(st, 2, (int64_t)first);
        sqlite3_bind_int64(st, 3, (int64_t)last);
        sqlite3_bind_int64(st, 4, (int64_t)(most + 1));
        err = hk_conn_int(&w->s->conn, st, 0, &n, ei);
        *ret += (uint64_t)n;
    }
    return err;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What has been published since. */
static hark_err count_top(hk_trimming *w, hark_errinfo *ei)
{
    hk_trim_pass *p = w->pass;
    uint64_t n, to = least(w->s->now.last, p->upto + STEP);
    hark_err err = count(w, p->upto + 1, to, STEP, &n, ei);
    if (!err) {
        p->counted += n;
        p->upto = to;
    }
    return err;
}

/* A window was counted and fits, or has too many; the next should have about STEP. */
static bool fits(hk_trim_pass *p, uint64_t n, uint64_t most)
{
    if (n > most)
        p->window = p->window > 1 ? p->window / 2 : 1;
    else if (n < STEP / 4 && p->window < HARK_SEQ_MAX / 2)
        p->window *= 2;
    return n <= most;
}

/* Too few so far: one window further down. */
static hark_err count_down(hk_trimming *w, hark_errinfo *ei)
{
    hk_trim_pass *p = w->pass;
    uint64_t n, size = least(p->window, p->at - w->s->now.first);
    uint64_t most = least(w->t->keep - p->counted, STEP);
    hark_err err = count(w, p->at - size, p->at - 1, most, &n, ei);
    p->window = size;
    if (!err && fits(p, n, most)) {
        p->at -= size;
        p->counted += n;
    }
    return err;
}

/* Too many: one window up. */
static hark_err count_up(hk_trimming *w, hark_errinfo *ei)
{
    hk_trim_pass *p = w->pass;
    uint64_t n, size = least(p->window, p->upto - p->at + 1);
    uint64_t most = least(p->counted - w->t->keep, STEP);
    hark_err err = count(w, p->at, p->at + size - 1, most, &n, ei);
    p->window = size;
    if (!err && fits(p, n, most)) {
        p->at += size;
        p->counted -= n;
    }
    return err;
}

hark_err hk_trim_keep(hk_trimming *w, uint64_t *ret, bool *ret_done, hark_errinfo *ei)
{
    hk_trim_pass *p = w->pass;
    hark_err err = HARK_OK;
    if (p->at == 0) {
        p->at = w->s->now.last + 1;
        p->upto = w->s->now.last;
        p->counted = 0;
    }
    if (p->window == 0)
        p->window = STEP / 4;
    *ret_done = false;
    while (!err) {
        bool top = p->upto<w->s->now.last, up = p->counted> w->t->keep;
        bool down = p->counted < w->t->keep && p->at > w->s->now.first;
        if (!top && !up && !down)
            break;
        if (hk_trim_pauses(w))
            return HARK_OK;
        err = top ? count_top(w, ei) : up ? count_up(w, ei) : count_down(w, ei);
    }
    *ret_done = true;
    *ret = p->counted < w->t->keep ? 0 : p->at;
    return err;
}

void hk_trim_uncount(hk_trim_pass *p, uint64_t seq)
{
    if (p->at && seq >= p->at && seq <= p->upto)
        p->counted--;
}
