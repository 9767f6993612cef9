/* quick: a group that has nothing but units and saves whose verdicts may be late goes to the server in one flush, from BEGIN to
 * COMMIT, as if no event in it were there already, all subjects were where they are expected, and all shares still
 * whose they were. The server gives places and versions. Where something of that does not hold it refuses all of it: then
 * the group is done once more, judged one by one. */
#include "store/postgres/store_i.h"

#include <string.h>

enum {
    ROWS_MOST = 4096,
    CAREFUL = 32 /* groups that are not tried after one that was refused */
};
#define BYTES_MOST ((size_t)2 << 20) /* more would be written to a file by the server meanwhile */

bool hk_pg_quick_may(hark_store *s)
{
    if (s->entered || (s->units.n == 0 && s->saves.n == 0))
        return false;
    if (s->careful && s->careful--)
        return false;
    return s->units.rows <= ROWS_MOST && s->units.bytes <= BYTES_MOST;
}

/* Its result tells where the log was. */
static hark_err send_units(hark_store *s, hk_pg_drawn *ret, hark_errinfo *ei)
{
    if (s->batch.n == 0)
        return HARK_OK;
    hark_err err = hk_pg_log_ask(s, "commit", ei);
    return err ? err : hk_pg_batch_draw(s, ret, ei);
}

static hark_err send_all(hark_store *s, hk_pg_drawn *ret, hark_errinfo *ei)
{
    hark_err err = hk_pg_enter(s, "commit", ei);
    if (!err)
        err = send_units(s, ret, ei);
    if (!err)
        err = hk_pg_saves_send(s, ei);
    return err ? err : hk_pg_commit_sent(s, ei);
}

/* What it was sent for does not hold: a division by zero in one of our statements, or an id that is there. */
static bool was_refused(const hk_pg *c)
{
    return c->in_tx && (strcmp(c->state, "22012") == 0 || strcmp(c->state, "23505") == 0);
}

static void note_drawn(hark_store *s, uint64_t base, uint64_t last, int64_t recorded)
{
    s->log = HK_PG_HELD;
    s->found = (hk_pg_place){.last = base, .recorded = recorded};
    s->now = (hk_pg_place){.last = last, .recorded = recorded};
}

/* Versions come in the order of the items. */
static void take_places(hark_store *s, const hk_pg_unit *units, size_t n, const hk_pg_drawn *d)
{
    uint64_t base = (uint64_t)hk_pg_get_int(d->place, 0, 0), seq = base;
    int64_t recorded = hk_pg_get_int(d->place, 0, 1);
    int row = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < units[i].n; k++) {
            hark_store_append *a = &units[i].items[k];
            a->ret_sequence = ++seq;
            if (row < PQntuples(d->versions) &&
                (uint64_t)hk_pg_get_int(d->versions, row, 0) == seq - base)
                a->ret_subject_version = hk_pg_get_int(d->versions, row++, 1);
            hk_pg_stamp(a, recorded);
        }
    note_drawn(s, base, seq, recorded);
}

/* It is committed, and the answer that told its places was lost. */
static hark_err find_places(hark_store *s, const hk_pg_unit *units, size_t n, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    hark_err err = hk_pg_writer(s, &why);
    if (!err)
        err = hk_pg_find_appended(s, units, n, &why);
    if (err)
        return hk_fail(ei, HARK_EUNKNOWN,
                       "%s: the connection was lost while committing, and where it was stored "
                       "could not be found out (%s); repeating with the same id is safe",
                       s->where, why.text);
    const hk_pg_unit *last = &units[n - 1];
    note_drawn(s, units[0].items[0].ret_sequence - 1, last->items[last->n - 1].ret_sequence,
               hark_event_recorded_ns(last->items[0].event));
    return HARK_OK;
}

static hark_err finish(hark_store *s, const hk_pg_unit *units, size_t n, const hk_pg_drawn *d,
                       bool subjects, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    if (n && PQntuples(d->place) == 1 && (d->versions || !subjects))
        take_places(s, units, n, d);
    else if (n)
        err = find_places(s, units, n, ei);
    if (err)
        return err;
    for (size_t i = 0; i < n; i++)
        *units[i].items[0].late = HARK_OK;
    hk_pg_saves_good(s);
    return HARK_OK;
}

hark_err hk_pg_quick(hark_store *s, bool *ret_again, hark_errinfo *ei)
{
    const hk_pg_units held = s->units;
    hk_pg_drawn drawn = {0};
    hark_err err = hk_pg_fill(s, held.list, held.n, ret_again, ei);
    if (err || *ret_again)
        return err;
    s->units.n = 0; /* whatever enters the group would judge them */
    s->w.state[0] = '\0';
    bool subjects = s->batch.subjects;
    err = send_all(s, &drawn, ei);
    if (!err) {
        err = finish(s, held.list, held.n, &drawn, subjects, ei);
    } else {
        *ret_again = was_refused(&s->w);
        hk_pg_rollback_sent(s); /* also reads what may still go to `drawn` */
    }
    if (*ret_again) {
        s->careful = CAREFUL;
        s->units = held;
        err = HARK_OK;
    }
    PQclear(drawn.place);
    PQclear(drawn.versions);
    return err;
}
