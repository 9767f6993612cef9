/* disk.c: what is committed: the consumer's state, rows and dead letters, by the contract of
 * hark/store.h. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

static void put_row(sim_disk *d, const hark_store_row *row)
{
    sim_row *r = &d->rows[row->sequence];
    r->there = true;
    r->row = *row;
    (void)snprintf(r->key, sizeof r->key, "%s", row->key ? row->key : "");
    (void)snprintf(r->error, sizeof r->error, "%s", row->error ? row->error : "");
    r->row.key = r->row.error = NULL;
}

static void remove_letter(sim_disk *d, size_t i)
{
    d->letters[i] = d->letters[--d->n_letters];
}

/* Its new delivery is settled. */
static void end_redrive(sim_disk *d, uint64_t seq)
{
    for (size_t i = d->n_letters; i-- > 0;)
        if (d->letters[i].seq == seq && d->letters[i].state == HARK_LETTER_REDRIVEN)
            remove_letter(d, i);
}

/* Effect and ack of a transaction. */
hark_err disk_ack(sim_disk *d, uint64_t seq, uint64_t generation)
{
    if (generation != d->generation && hk_planted != 51)
        return HARK_ESTALE;
    if (hk_planted != 59)
        d->effects[seq]++;
    if (hk_planted == 54)
        return HARK_OK;
    put_row(d, &(hark_store_row){.sequence = seq, .state = SIM_ROW_SETTLED});
    if (hk_planted != 61)
        end_redrive(d, seq);
    return HARK_OK;
}

static bool acked(const sim_disk *d, uint64_t seq)
{
    return d->rows[seq].there && d->rows[seq].row.state == SIM_ROW_SETTLED;
}

bool disk_row(const sim_disk *d, uint64_t seq)
{
    const sim_row *r = &d->rows[seq];
    return r->there && r->row.state != HARK_ROW_COUNTS && !acked(d, seq);
}

/* A save may be of before the ack: what that settled stays settled. */
void disk_save(sim_world *w, const hark_store_save *s)
{
    sim_disk *d = &w->disk;
    d->floor = s->floor;
    d->highest = s->highest;
    d->gap_done = s->gap_done > d->gap_done ? s->gap_done : d->gap_done;
    d->n_settled = s->n_settled;
    memcpy(d->settled, s->settled, s->n_settled * sizeof *s->settled);
    for (size_t i = 0; i < s->n_drop; i++) {
        d->rows[s->drop[i]].there = false;
        end_redrive(d, s->drop[i]);
    }
    for (size_t i = 0; i < s->n_put; i++)
        if (!acked(d, s->put[i].sequence) || hk_planted == 52)
            put_row(d, &s->put[i]);
    for (size_t i = 0; i < s->n_dead; i++) {
        const sim_payload *p = (const void *)s->dead[i].event;
        end_redrive(d, p->seq);
        if (d->n_letters == LETTERS)
            sim_fail(w, "there are more than %d dead letters", LETTERS);
        d->letters[d->n_letters++] = (sim_letter){.id = ++d->last_letter,
                                                  .seq = p->seq,
                                                  .generation = d->generation,
                                                  .state = HARK_LETTER_DEAD};
    }
}

bool disk_count(sim_disk *d, uint64_t seq, bool crash, int64_t first_ns)
{
    sim_row *r = &d->rows[seq];
    if (acked(d, seq))
        return false;
    if (!r->there)
        *r = (sim_row){.there = true,
                       .row = {.sequence = seq, .state = HARK_ROW_COUNTS, .first_ns = first_ns}};
    r->row.crashes += crash;
    r->row.interruptions += !crash;
    if (crash)
        (void)snprintf(r->error, sizeof r->error, "SIGSEGV at 0x0");
    return true;
}

bool disk_settled(const sim_disk *d, uint64_t seq)
{
    bool settled = seq <= d->floor || acked(d, seq);
    for (size_t i = 0; i < d->n_settled; i++)
        settled |= d->settled[i].first <= seq && seq <= d->settled[i].last;
    return settled;
}

sim_letter *disk_letter(sim_disk *d, uint64_t id)
{
    for (size_t i = 0; i < d->n_letters; i++)
        if (d->letters[i].id == id)
            return &d->letters[i];
    return NULL;
}

hark_err disk_redrive(sim_world *w, sim_letter *l, int64_t due_ns)
{
    sim_disk *d = &w->disk;
    sim_row *r = &d->rows[l->seq];
    if (l->state == HARK_LETTER_REDRIVEN)
        return HARK_ECONFLICT;
    if (!disk_settled(d, l->seq))
        return HARK_EAGAIN; /* the consumer was reset and comes to it by itself */
    if (acked(d, l->seq) || (disk_row(d, l->seq) && r->row.state != HARK_ROW_DEAD))
        return HARK_ECONFLICT;
    const char *key = w->events[l->seq].key;
    put_row(d, &(hark_store_row){.sequence = l->seq,
                                 .state = HARK_ROW_RETRY,
                                 .due_ns = due_ns,
                                 .key = key[0] ? key : NULL});
    for (size_t i = 0; i < d->n_letters; i++) /* one delivery answers for all of them */
        if (d->letters[i].seq == l->seq)
            d->letters[i].state = HARK_LETTER_REDRIVEN;
    return HARK_OK;
}

bool disk_discard(sim_world *w, sim_letter *l)
{
    sim_disk *d = &w->disk;
    uint64_t seq = l->seq;
    sim_row *r = &d->rows[seq];
    bool parked = l->generation == d->generation && r->there && r->row.state == HARK_ROW_DEAD;
    if (parked)
        r->there = false;
    remove_letter(d, (size_t)(l - d->letters));
    return parked;
}

void disk_reset(sim_world *w, uint64_t floor, const hark_store_rerun *rerun)
{
    sim_disk *d = &w->disk;
    d->generation++;
    d->floor = floor;
    d->n_settled = 0;
    d->gap_done = 0;
    d->rerun = *rerun;
    for (size_t i = 0; i <= EVENTS; i++)
        d->rows[i].there = false;
    for (size_t i = 0; i < d->n_letters; i++)
        d->letters[i].state = HARK_LETTER_DEAD;
}

/* What transactions have settled becomes part of the settled set, and their rows go. */
static void merge_acks(sim_disk *d)
{
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        if (!acked(d, seq))
            continue;
        d->rows[seq].there = false;
        if (disk_settled(d, seq) || hk_planted == 60)
            continue;
        size_t at = d->n_settled++;
        for (; at > 0 && d->settled[at - 1].first > seq; at--)
            d->settled[at] = d->settled[at - 1];
        d->settled[at] = (hark_store_range){seq, seq};
    }
}

size_t disk_consumer(sim_disk *d, hark_store_consumer *ret, hark_store_row *rows)
{
    size_t n = 0;
    merge_acks(d);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        sim_row *r = &d->rows[seq];
        if (!r->there)
            continue;
        rows[n] = r->row;
        rows[n].key = r->key[0] ? r->key : NULL;
        rows[n++].error = r->error[0] ? r->error : NULL;
    }
    *ret = (hark_store_consumer){.size = sizeof *ret,
                                 .ret_generation = d->generation,
                                 .ret_floor = d->floor,
                                 .ret_highest = d->highest,
                                 .ret_settled = d->settled,
                                 .ret_n_settled = d->n_settled,
                                 .ret_rows = rows,
                                 .ret_n_rows = n,
                                 .ret_paused = d->paused,
                                 .ret_rerun = d->rerun};
    return n;
}
