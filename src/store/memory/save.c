/* save.c: saves what the delivery core decided about one consumer. All that needs memory is made
 * first; from then on nothing can fail, so the change is there whole or not at all. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

/* A save in memory of its own. */
typedef struct change {
    hark_store_range *settled;
    hk_mem_row **rows;         /* n_put */
    hk_mem_attempt **attempts; /* n_attempts */
    hk_mem_letter **letters;   /* n_dead */
} change;

static bool make_arrays(const hark_store_save *save, change *x)
{
    x->settled = calloc(save->n_settled + 1, sizeof *x->settled);
    x->rows = calloc(save->n_put + 1, sizeof *x->rows);
    x->attempts = calloc(save->n_attempts + 1, sizeof *x->attempts);
    x->letters = calloc(save->n_dead + 1, sizeof *x->letters);
    if (!x->settled || !x->rows || !x->attempts || !x->letters)
        return false;
    if (save->n_settled)
        memcpy(x->settled, save->settled, save->n_settled * sizeof *x->settled);
    return true;
}

/* A place that is made here has neither row nor letter until the change is applied. */
static bool make(hk_mem_ledger *g, hk_mem_consumer *c, const hark_store_save *save, change *x)
{
    if (!make_arrays(save, x) || !hk_mem_list_room(&g->letters, save->n_dead))
        return false;
    for (size_t i = 0; i < save->n_put; i++)
        if (!(x->rows[i] = hk_mem_row_new(&save->put[i])) ||
            !hk_mem_place_make(c, save->put[i].sequence))
            return false;
    for (size_t i = 0; i < save->n_attempts; i++)
        if (!(x->attempts[i] = hk_mem_attempt_new(&save->attempts[i])))
            return false;
    for (size_t i = 0; i < save->n_dead; i++)
        if (!(x->letters[i] = hk_mem_letter_new(c, &save->dead[i])) ||
            !hk_mem_place_make(c, hark_event_sequence(save->dead[i].event)))
            return false;
    return true;
}

static void drop_arrays(change *x)
{
    free(x->settled);
    free(x->rows);
    free(x->attempts);
    free(x->letters);
}

static void undo(hk_mem_consumer *c, const hark_store_save *save, change *x)
{
    for (size_t i = 0; x->rows && i < save->n_put; i++) {
        free(x->rows[i]);
        hk_mem_place_tidy(c, save->put[i].sequence);
    }
    for (size_t i = 0; x->attempts && i < save->n_attempts; i++)
        free(x->attempts[i]);
    for (size_t i = 0; x->letters && i < save->n_dead; i++) {
        if (x->letters[i])
            hk_mem_letter_unref(x->letters[i]);
        hk_mem_place_tidy(c, hark_event_sequence(save->dead[i].event));
    }
    drop_arrays(x);
}

/* A letter of an event that was redriven goes when its row goes, and when the event dies again. */
static void apply_rows(hk_mem_ledger *g, hk_mem_consumer *c, const hark_store_save *save,
                       const change *x)
{
    for (size_t i = 0; i < save->n_drop; i++) {
        hk_mem_place *p = hk_mem_place_find(c, save->drop[i]);
        if (!p || !p->row)
            continue;
        hk_mem_letters_settled(g, p);
        hk_mem_place_open(g, c, p, NULL);
    }
    for (size_t i = 0; i < save->n_put; i++)
        hk_mem_place_open(g, c, hk_mem_place_find(c, save->put[i].sequence), x->rows[i]);
}

static void apply_log(hk_mem_ledger *g, hk_mem_consumer *c, const hark_store_save *save,
                      const change *x)
{
    for (size_t i = 0; i < save->n_attempts; i++) {
        hk_mem_place *p = hk_mem_place_find(c, save->attempts[i].sequence);
        if (p)
            hk_mem_place_attempt(p, x->attempts[i]);
        else
            free(x->attempts[i]);
    }
    for (size_t i = 0; i < save->n_dead; i++) {
        hk_mem_place *p = hk_mem_place_find(c, hark_event_sequence(save->dead[i].event));
        hk_mem_letters_settled(g, p);
        hk_mem_letter_add(g, p, x->letters[i]);
        save->dead[i].ret_id = x->letters[i]->l.id;
    }
}

static void apply(hk_mem_ledger *g, hk_mem_consumer *c, const hark_store_save *save, change *x)
{
    apply_rows(g, c, save, x);
    apply_log(g, c, save, x);
    for (size_t i = 0; i < save->n_drop; i++)
        hk_mem_place_tidy(c, save->drop[i]);
    hk_mem_letters_bound(g);
    free(c->settled);
    c->settled = x->settled;
    x->settled = NULL;
    c->n_settled = save->n_settled;
    c->floor = save->floor;
    c->highest = save->highest;
    drop_arrays(x);
}

hark_err hk_mem_consumer_save(hark_store *s, const hark_store_save *save, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    change x = {0};
    hark_err err = HARK_OK;
    pthread_mutex_lock(&g->lock);
    hk_mem_consumer *c = hk_mem_list_find(&g->consumers, save->consumer);
    if (!c || c->generation != save->generation) {
        err = hk_fail(ei, HARK_ENOTFOUND, "consumer %llu of generation %llu is not there any more",
                      (unsigned long long)save->consumer, (unsigned long long)save->generation);
    } else if (make(g, c, save, &x)) {
        apply(g, c, save, &x);
    } else {
        undo(c, save, &x);
        err = hk_fail(ei, HARK_ENOMEM, "no memory for the state of consumer %s", c->name);
    }
    pthread_mutex_unlock(&g->lock);
    return err;
}
