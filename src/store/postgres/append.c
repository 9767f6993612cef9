/* append: events into the group. A unit whose verdict may be late waits: until the commit, in a group that has nothing but
 * such units and saves (quick.c), or until something else comes that must find it done. */
#include "store/postgres/store_i.h"

#include "event/event.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_MOST = 2600 /* a third of a page, less what an entry has besides: 2704 with all */
};
#define DATA_MOST ((size_t)1000 << 20) /* what a statement can carry */

/* ---- what can be appended ---------------------------------------------------------------------- */

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

hark_err hk_pg_append_check(const hark_store *s, const hark_store_append *a, hark_errinfo *ei)
{
    size_t len;
    (void)hark_event_data(a->event, &len);
    if (len >= DATA_MOST || s->batch.rows.bytes.len >= DATA_MOST - len)
        return hk_fail(ei, HARK_ETOOBIG,
                       "an event with %zu bytes of data; PostgreSQL takes at most %zu at once", len,
                       DATA_MOST);
    hark_err err = hk_pg_check_keys(a->event, ei);
    return !err && a->expected ? hk_expected_check(a, ei) : err;
}

/* ---- units that wait --------------------------------------------------------------------------- */

void hk_pg_units_clear(hk_pg_units *w)
{
    w->n = w->rows = w->bytes = 0;
}

hark_err hk_pg_units_flush(hark_store *s, hark_errinfo *ei)
{
    hk_pg_units *w = &s->units;
    size_t n = w->n;
    if (HK_LIKELY(n == 0))
        return HARK_OK;
    hk_pg_units_clear(w); /* judging them enters the group */
    hark_err err = hk_pg_judge(s, w->list, n, ei);
    for (size_t i = 0; i < n && !err; i++)
        *w->list[i].items[0].late = w->list[i].ret_err;
    return hk_pg_note(s, err);
}

hark_err hk_pg_append_flush(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_units_flush(s, ei);
    if (!err && s->batch.n)
        err = hk_pg_enter(s, "append", ei);
    return err ? err : hk_pg_batch_send(s, ei);
}

static hark_err wait_with(hark_store *s, hk_pg_unit u, hark_errinfo *ei)
{
    hk_pg_units *w = &s->units;
    hark_err err = HARK_OK;
    size_t bytes = 0, len;
    for (size_t i = 0; i < u.n && !err; i++) {
        u.items[i].ret_sequence = 0;
        u.items[i].ret_duplicate = u.items[i].ret_subject_version = 0;
        err = hk_pg_append_check(s, &u.items[i], ei);
        (void)hark_event_data(u.items[i].event, &len);
        bytes += len;
    }
    if (err)
        return err;
    hk_pg_unit *list = hk_array_room(w->list, w->n, &w->cap, 64, sizeof *list);
    if (!list)
        return hk_fail(ei, HARK_ENOMEM, "no memory to append %zu events; try again", u.n);
    w->list = list;
    list[w->n++] = u;
    w->rows += u.n;
    w->bytes += bytes;
    return HARK_OK;
}

hark_err hk_pg_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hk_pg_unit u = {.items = items, .n = n, .ei = ei};
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "append outside of a group");
    if (n == 0)
        return HARK_OK;
    if (items[0].late && !s->tx.open)
        return wait_with(s, u, ei);
    hark_err err = hk_pg_enter(s, "append", ei);
    if (!err)
        err = hk_pg_judge(s, &u, 1, ei);
    return hk_pg_note(s, err ? err : u.ret_err);
}
