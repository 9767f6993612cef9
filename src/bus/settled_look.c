/* settled_look.c: how far a consumer is with one event. Of one that is open here its core tells; of
 * any other what the store has committed, looked at every 50 ms. A dead letter counts from its commit on. Nothing here
 * waits but for reading the event, and for a job of the writer where the list of consumers does not tell enough.
 *
 * On a shared store the event's key decides which share it belongs to, so the event is read once. If that share is here,
 * its core tells; else the store, of that share alone, as if the consumer were not open. */
#include "bus/bus_i.h"

#include <string.h>

#define AGAIN_NS (INT64_C(50) * 1000000)

/* ---- the consumer of a round ----------------------------------------------------------------- */

/* Most wait for the same consumer: it is looked up once in a round. Borrowed. */
static hark_sub *find(hk_settled_round *r, const char *name)
{
    if (r->sub && strcmp(r->sub->name, name) == 0)
        return r->sub;
    hk_settled_round_end(r);
    return r->sub = hk_consumer_find(r->bus, name);
}

void hk_settled_round_end(hk_settled_round *r)
{
    if (r->sub)
        hk_sub_release(r->sub);
    r->sub = NULL;
}

/* ---- dead letters, patterns ------------------------------------------------------------------ */

typedef struct letters {
    uint64_t dead; /* the newest that was not redriven; 0 = none */
    bool redriven; /* one is being delivered again */
} letters;

static bool take_letter(void *ud, const hark_store_letter *l)
{
    letters *x = ud;
    if (l->state == HARK_LETTER_DEAD)
        x->dead = l->id;
    else
        x->redriven = true;
    return true;
}

static hark_err find_letters(hark_bus *bus, hk_sought *x, letters *ret)
{
    const hark_store_letters_query q = {
        .size = sizeof q, .consumer = x->consumer, .sequence = x->seq};
    *ret = (letters){0};
    if (x->seq == 0) /* before all events */
        return HARK_OK;
    hark_err err = hk_store_enter(bus, &x->ei);
    if (err)
        return err;
    err = bus->ops->letters(bus->store, &q, take_letter, ret, &x->ei);
    hk_store_leave(bus);
    return err;
}

/* Is the event one for this consumer? What the log no longer has comes to it as a gap. */
static hark_err matches(hark_bus *bus, const char *pattern, hk_sought *x, bool *ret)
{
    hark_event *e = NULL;
    const hark_store_query q = {.size = sizeof q,
                                .pattern = pattern,
                                .after = x->seq - 1,
                                .before = x->seq + 1,
                                .limit = 1};
    hark_store_page page = {.events = &e};
    hark_err err = hk_bus_read(bus, &q, &page, &x->ei);
    if (err)
        return err;
    *ret = page.n > 0 || page.gap >= x->seq;
    hk_page_drop(&page);
    return HARK_OK;
}

/* ---- which share -------------------------------------------------------------------------------- */

typedef struct placing {
    hk_sought *x;
    uint32_t shares;
} placing;

static void place_event(const placing *p, const hark_event *e)
{
    p->x->share = hark_store_share_of(hark_event_key(e), p->x->seq, p->shares);
    p->x->placing = HK_PLACED;
}

static bool place_letter(void *ud, const hark_store_letter *l)
{
    place_event(ud, l->event);
    return false;
}

/* By a dead letter, which has a copy of the event. */
static hark_err place_by_letter(hark_bus *bus, placing *p)
{
    const hark_store_letters_query q = {
        .size = sizeof q, .consumer = p->x->consumer, .sequence = p->x->seq, .limit = 1};
    hark_err err = hk_store_enter(bus, &p->x->ei);
    if (err)
        return err;
    err = bus->ops->letters(bus->store, &q, place_letter, p, &p->x->ei);
    hk_store_leave(bus);
    return err;
}

/* Once. */
static hark_err place(hark_bus *bus, hk_sought *x, uint32_t shares)
{
    placing p = {.x = x, .shares = shares};
    hark_event *e = NULL;
    hark_err err = HARK_OK;
    if (!bus->info.shared || x->placing != HK_NOT_PLACED)
        return HARK_OK;
    if (x->seq > 0)
        err = hk_bus_read_one(bus, x->seq, &e, &x->ei);
    if (!err && e)
        place_event(&p, e);
    else if (!err && x->seq > 0)
        err = place_by_letter(bus, &p);
    if (!err && x->placing == HK_NOT_PLACED)
        x->placing = HK_NOWHERE;
    hark_event_unref(e);
    return err;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

static bool over(hk_sought *x, hark_err err)
{
    x->err = err;
    return true;
}

static bool is_dead(hk_sought *x, uint64_t letter)
{
    x->ret.dead_letter = letter;
    return over(x, hk_fail(&x->ei, HARK_EDEAD,
                           "consumer %.128s gave up on event %llu: dead letter %llu; hark_redrive "
                           "has it tried again",
                           x->consumer, (unsigned long long)x->seq, (unsigned long long)letter));
}

/* What a stage means. The letters are looked at after the stage: a redrive marks the letter first
 * and tells the core then, so what is about to come again is not taken for settled. */
static bool weigh(hark_bus *bus, hk_sought *x, const char *pattern, hk_stage stage, uint64_t floor)
{
    hark_err err = HARK_OK;
    letters l;
    x->ret.lag = x->seq > floor ? x->seq - floor : 1;
    if (stage == HK_STAGE_AHEAD && !x->matches) {
        err = matches(bus, pattern, x, &x->matches);
        stage = x->matches ? stage : HK_STAGE_DONE;
    }
    if (!err && (stage == HK_STAGE_OPEN || stage == HK_STAGE_AHEAD))
        return false;
    if (!err && stage == HK_STAGE_DEAD && hk_mono_ns() < x->again)
        return false; /* parked behind another one when it was looked at last */
    if (!err)
        err = find_letters(bus, x, &l);
    if (err)
        return over(x, err);
    if (l.dead)
        return is_dead(x, l.dead);
    if (stage == HK_STAGE_DEAD)
        x->again = hk_mono_ns() + AGAIN_NS;
    if (stage == HK_STAGE_DEAD || l.redriven)
        return false;
    x->ret.lag = 0;
    return over(x, HARK_OK);
}

static bool look_closed(hark_bus *bus, hk_sought *x);

/* ---- open here ------------------------------------------------------------------------------- */

/* Under the lock. False: its share is another process's. One that is being reset goes on here or elsewhere. */
static bool stage_here(const hk_consumer *c, const hk_sought *x, hk_stage *ret)
{
    *ret = HK_STAGE_OPEN;
    if (c->stale)
        return true;
    return x->placing != HK_NOWHERE && hk_cores_stage_in(c->cores, x->share, x->seq, ret);
}

static bool look_open(hk_settled_round *r, hk_sought *x)
{
    hk_consumer *c = r->sub->consumer;
    hk_core_facts facts;
    hk_stage stage;
    hark_err err = place(r->bus, x, c->shares);
    if (err)
        return over(x, err);
    pthread_mutex_lock(&c->lock);
    bool here = stage_here(c, x, &stage);
    hk_cores_facts_get(c->cores, &facts);
    pthread_mutex_unlock(&c->lock);
    if (!here)
        return look_closed(r->bus, x);
    x->state[0] = 0; /* what was known of it while it was not open is no longer so */
    if (stage != HK_STAGE_DEAD)
        x->again = -1;
    return weigh(r->bus, x, r->sub->pattern, stage, facts.floor);
}

/* ---- not here --------------------------------------------------------------------------- */

/* A consumer as the store lists it; `state` has the figures that tell whether it has moved. */
typedef struct listed {
    const char *name;
    bool found;
    uint64_t state[HK_SETTLED_STATE];
    uint64_t floor, highest;
    bool rows; /* it has open ones */
} listed;

static bool take_row(void *ud, const hark_store_consumer_row *row)
{
    listed *x = ud;
    if (strcmp(row->name, x->name) != 0)
        return true;
    const uint64_t state[HK_SETTLED_STATE] = {row->id,      row->generation, row->floor,
                                              row->highest, row->retrying,   row->behind,
                                              row->parked,  row->dead};
    memcpy(x->state, state, sizeof state);
    x->floor = row->floor;
    x->highest = row->highest;
    x->rows = row->retrying || row->behind || row->parked || row->dead;
    x->found = true;
    return false;
}

static hark_err list(hark_bus *bus, hk_sought *x, listed *ret)
{
    *ret = (listed){.name = x->consumer};
    hark_err err = hk_store_enter(bus, &x->ei);
    if (err)
        return err;
    err = bus->ops->consumers(bus->store, take_row, ret, &x->ei);
    hk_store_leave(bus);
    if (err || ret->found)
        return err;
    return hk_fail(&x->ei, HARK_ENOTFOUND,
                   "the store knows no consumer '%.128s'; hark_consumers lists them", x->consumer);
}

/* By its whole state. */
static hk_stage stage_of(const hark_store_consumer *s, uint64_t seq)
{
    for (size_t i = 0; i < s->ret_n_rows && s->ret_rows[i].sequence <= seq; i++)
        if (s->ret_rows[i].sequence == seq)
            return s->ret_rows[i].state == HARK_ROW_DEAD || s->ret_rows[i].state == HARK_ROW_PARKED
                       ? HK_STAGE_DEAD
                       : HK_STAGE_OPEN;
    for (size_t i = 0; i < s->ret_n_settled; i++)
        if (seq >= s->ret_settled[i].first && seq <= s->ret_settled[i].last)
            return HK_STAGE_DONE;
    return seq <= s->ret_floor ? HK_STAGE_DONE : HK_STAGE_AHEAD;
}

/* The state of the share that it belongs to. How many there are is not known before one was loaded. */
static hark_err load(hark_bus *bus, hk_sought *x, hark_store_consumer *ret)
{
    hark_err err = hk_consumer_look(bus, x->consumer, x->share, ret, &x->ei);
    if (err || x->placing != HK_NOT_PLACED)
        return err;
    err = place(bus, x, ret->ret_shares);
    if (!err && x->share == 0)
        return HARK_OK;
    hark_store_consumer_clear(ret);
    return err ? err : hk_consumer_look(bus, x->consumer, x->share, ret, &x->ei);
}

/* In which share is not known, the first was loaded: if one has it open, that counts; else it is settled when it is in
 * all of them. */
static hark_err stage_in_others(hark_bus *bus, hk_sought *x, const hark_store_consumer *first,
                                hk_stage *stage)
{
    hark_err err = HARK_OK;
    bool open = *stage == HK_STAGE_OPEN || *stage == HK_STAGE_DEAD;
    for (uint32_t i = 1; !err && !open && i < first->ret_shares; i++) {
        hark_store_consumer s;
        err = hk_consumer_look(bus, x->consumer, i, &s, &x->ei);
        if (err)
            break;
        hk_stage one = stage_of(&s, x->seq);
        open = one == HK_STAGE_OPEN || one == HK_STAGE_DEAD;
        *stage = open || one == HK_STAGE_AHEAD ? one : *stage;
        hark_store_consumer_clear(&s);
    }
    return err;
}

/* Only where the list cannot tell its whole state is loaded, which is a job of the writer's. */
static bool look_listed(hark_bus *bus, hk_sought *x, const listed *l)
{
    hark_store_consumer s;
    hark_err err = hk_writer_start(bus);
    if (!err)
        err = load(bus, x, &s);
    else
        (void)hk_fail(&x->ei, err, "the writer cannot be started: %s", hark_err_text(err));
    if (err)
        return over(x, err);
    hk_stage stage = stage_of(&s, x->seq);
    if (x->placing == HK_NOWHERE)
        err = stage_in_others(bus, x, &s, &stage);
    if (stage == HK_STAGE_DEAD)
        x->again = 0; /* its letters are looked at now */
    bool is_over = err ? over(x, err) : weigh(bus, x, s.ret_pattern, stage, l->floor);
    hark_store_consumer_clear(&s);
    return is_over;
}

/* Nothing has changed since it was looked at. With several shares the list does not tell. */
static bool is_as_before(const hark_bus *bus, const hk_sought *x, const listed *l)
{
    return !bus->info.shared && memcmp(l->state, x->state, sizeof l->state) == 0;
}

static bool look_closed(hark_bus *bus, hk_sought *x)
{
    listed l;
    int64_t now = hk_mono_ns();
    if (now < x->again)
        return false;
    hark_err err = list(bus, x, &l);
    if (err)
        return over(x, err);
    x->again = now + AGAIN_NS;
    if (is_as_before(bus, x, &l))
        return false;
    memcpy(x->state, l.state, sizeof l.state);
    if (x->seq <= l.floor && !l.rows)
        return weigh(bus, x, NULL, HK_STAGE_DONE, l.floor);
    bool is_over = look_listed(bus, x, &l);
    x->again = now + AGAIN_NS;
    return is_over;
}

bool hk_settled_look(hk_settled_round *r, hk_sought *x)
{
    return find(r, x->consumer) ? look_open(r, x) : look_closed(r->bus, x);
}
