/* ledger.c: consumers of the memory store: their state outlives a subscription, not the process. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

static char *copy(const char *s, bool *failed)
{
    char *c = hk_strdup(s);
    *failed |= s && !c;
    return c;
}

static void row_free(hark_store_row *r)
{
    free((char *)(uintptr_t)r->key);
    free((char *)(uintptr_t)r->error);
}

static bool row_copy(const hark_store_row *from, hark_store_row *to)
{
    bool failed = false;
    *to = *from;
    to->key = copy(from->key, &failed);
    to->error = copy(from->error, &failed);
    if (failed)
        row_free(to);
    return !failed;
}

static void consumer_free(hk_mem_consumer *c)
{
    for (size_t i = 0; i < c->n_rows; i++)
        row_free(&c->rows[i]);
    free(c->rows);
    free(c->settled);
    free(c->name);
    free(c->pattern);
    free(c->policy);
    free(c);
}

static void letter_clear(hk_mem_letter *l)
{
    hark_event_unref(l->event);
    free(l->reason);
    free(l->error);
    *l = (hk_mem_letter){0};
}

void hk_mem_ledger_free(hark_store *s)
{
    while (s->consumers) {
        hk_mem_consumer *c = s->consumers;
        s->consumers = c->next;
        consumer_free(c);
    }
    for (size_t i = 0; i < HK_MEM_LETTERS; i++)
        letter_clear(&s->letters[i]);
}

/* The floor of a new consumer: everything up to there is none of its business. */
static uint64_t start_floor(hark_store *s, const hark_store_consumer *c)
{
    uint64_t visible = hk_mark_get(&s->tail.visible), seq = hk_mark_get(&s->tail.oldest);
    switch (c->start) {
    case 0: /* now */
        return visible;
    case 1: /* first */
        return seq - 1;
    case 2: /* sequence */
        return c->start_sequence ? c->start_sequence - 1 : 0;
    default:
        break;
    }
    for (; seq <= visible; seq++) {
        hark_event *e = hk_tail_get(&s->tail, seq);
        bool reached = e && hark_event_recorded_ns(e) >= c->start_time_ns;
        hark_event_unref(e);
        if (reached)
            break;
    }
    return seq - 1;
}

static hk_mem_consumer *consumer_new(hark_store *s, const hark_store_consumer *c)
{
    hk_mem_consumer *m = calloc(1, sizeof *m);
    bool failed = !m;
    if (m) {
        m->name = copy(c->name, &failed);
        m->pattern = copy(c->pattern, &failed);
        m->policy = copy(c->policy, &failed);
    }
    if (failed) {
        if (m)
            consumer_free(m);
        return NULL;
    }
    m->id = s->next_consumer++;
    m->generation = 1;
    m->floor = m->highest = start_floor(s, c);
    m->next = s->consumers;
    s->consumers = m;
    return m;
}

static hark_err update(hk_mem_consumer *m, const hark_store_consumer *c, hark_errinfo *ei)
{
    if (strcmp(m->pattern, c->pattern) == 0 && strcmp(m->policy, c->policy) == 0)
        return HARK_OK;
    if (!c->update)
        return hk_fail(
            ei, HARK_ECONFLICT,
            "consumer '%s' is registered with pattern '%s' and policy '%s'; subscribe with "
            ".update = 1 to change them",
            c->name, m->pattern, m->policy);
    bool failed = false;
    char *pattern = copy(c->pattern, &failed), *policy = copy(c->policy, &failed);
    if (failed) {
        free(pattern);
        free(policy);
        return HARK_ENOMEM;
    }
    free(m->pattern);
    free(m->policy);
    m->pattern = pattern;
    m->policy = policy;
    return HARK_OK;
}

static hark_err load(const hk_mem_consumer *m, hark_store_consumer *c)
{
    c->ret_id = m->id;
    c->ret_generation = m->generation;
    c->ret_floor = m->floor;
    c->ret_highest = m->highest;
    c->ret_settled = m->n_settled ? calloc(m->n_settled, sizeof *c->ret_settled) : NULL;
    c->ret_rows = m->n_rows ? calloc(m->n_rows, sizeof *c->ret_rows) : NULL;
    if ((m->n_settled && !c->ret_settled) || (m->n_rows && !c->ret_rows))
        return HARK_ENOMEM;
    for (c->ret_n_settled = 0; c->ret_n_settled < m->n_settled; c->ret_n_settled++)
        c->ret_settled[c->ret_n_settled] = m->settled[c->ret_n_settled];
    for (c->ret_n_rows = 0; c->ret_n_rows < m->n_rows; c->ret_n_rows++)
        if (!row_copy(&m->rows[c->ret_n_rows], &c->ret_rows[c->ret_n_rows]))
            return HARK_ENOMEM;
    return HARK_OK;
}

hark_err hk_mem_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->ledger_lock);
    hk_mem_consumer *m = s->consumers;
    while (m && strcmp(m->name, c->name) != 0)
        m = m->next;
    c->ret_created = !m;
    hark_err err = HARK_OK;
    if (!m)
        err = (m = consumer_new(s, c)) ? HARK_OK : HARK_ENOMEM;
    else
        err = update(m, c, ei);
    if (!err)
        err = load(m, c);
    pthread_mutex_unlock(&s->ledger_lock);
    if (err)
        hark_store_consumer_clear(c);
    return err;
}

static bool contains(const uint64_t *seqs, size_t n, uint64_t seq)
{
    for (size_t i = 0; i < n; i++)
        if (seqs[i] == seq)
            return true;
    return false;
}

static int by_sequence(const void *a, const void *b)
{
    const hark_store_row *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static bool replaced(const hark_store_save *save, uint64_t seq)
{
    if (contains(save->drop, save->n_drop, seq))
        return true;
    for (size_t i = 0; i < save->n_put; i++)
        if (save->put[i].sequence == seq)
            return true;
    return false;
}

static hark_err save_rows(hk_mem_consumer *m, const hark_store_save *save)
{
    if (!save->n_put && !save->n_drop)
        return HARK_OK;
    hark_store_row *rows = calloc(m->n_rows + save->n_put + 1, sizeof *rows);
    if (!rows)
        return HARK_ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < save->n_put; i++)
        if (!row_copy(&save->put[i], &rows[n++])) {
            while (--n)
                row_free(&rows[n - 1]);
            free(rows);
            return HARK_ENOMEM;
        }
    for (size_t i = 0; i < m->n_rows; i++)
        if (replaced(save, m->rows[i].sequence))
            row_free(&m->rows[i]);
        else
            rows[n++] = m->rows[i];
    qsort(rows, n, sizeof *rows, by_sequence);
    free(m->rows);
    m->rows = rows;
    m->n_rows = n;
    return HARK_OK;
}

/* Without memory for its texts a letter goes without them. */
static void save_letters(hark_store *s, uint64_t consumer, const hark_store_save *save)
{
    for (size_t i = 0; i < save->n_dead; i++) {
        const hark_store_dead *d = &save->dead[i];
        hk_mem_letter *l = &s->letters[s->n_letters++ % HK_MEM_LETTERS];
        letter_clear(l);
        *l = (hk_mem_letter){.consumer = consumer,
                             .event = hark_event_ref(d->event),
                             .reason = hk_strdup(d->reason),
                             .error = hk_strdup(d->error),
                             .attempts = d->attempts,
                             .first_ns = d->first_ns,
                             .dead_ns = d->dead_ns};
    }
}

hark_err hk_mem_consumer_save(hark_store *s, const hark_store_save *save, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->ledger_lock);
    hk_mem_consumer *m = s->consumers;
    while (m && m->id != save->consumer)
        m = m->next;
    hark_err err = HARK_OK;
    hark_store_range *settled = NULL;
    if (!m || m->generation != save->generation)
        err = hk_fail(ei, HARK_ENOTFOUND, "consumer %llu, generation %llu is not registered",
                      (unsigned long long)save->consumer, (unsigned long long)save->generation);
    else if (!(settled = calloc(save->n_settled + 1, sizeof *settled)))
        err = HARK_ENOMEM;
    if (!err)
        err = save_rows(m, save);
    if (err) {
        free(settled);
    } else {
        save_letters(s, m->id, save);
        if (save->n_settled)
            memcpy(settled, save->settled, save->n_settled * sizeof *settled);
        free(m->settled);
        m->settled = settled;
        m->n_settled = save->n_settled;
        m->floor = save->floor;
        m->highest = save->highest;
    }
    pthread_mutex_unlock(&s->ledger_lock);
    return err;
}
