/* consumer.c: the state of a durable consumer: opening it, taking over another state after a reset. Its deliveries are in
 * consume.c, the way to the store in consumer_save.c. The pure cores (src/delivery) are stepped under the consumer's
 * lock. Their changes ride in the writer's groups: while one is on its way (`queued`) the next ones gather.
 *
 * On a store that is not shared there is one core, loaded here, for as long as the consumer is open. On a shared one
 * there are none at first: shares come and go by party.c and shares.c. */
#include "bus/party_i.h"
#include "bus/versions_i.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_WINDOW = 1024, DEFAULT_DEFERRED = 100000, DEFAULT_ATTEMPTS = 10 };
enum { DEFAULT_CRASHES = 3, DEFAULT_INTERRUPTIONS = 20 };
#define DEFAULT_RETRY_MS     1000
#define DEFAULT_RETRY_MAX_MS 300000
#define DEFAULT_HOLD_MS      30000

static void drop_event(void *payload)
{
    hark_event_unref(payload);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int64_t or_default(int64_t given, int64_t standard)
{
    return given ? given : standard;
}

/* Options with defaults filled in. */
static hark_sub_opts settled_opts(const hark_sub_opts *given)
{
    hark_sub_opts o = *given;
    o.workers = o.workers ? o.workers : 1;
    o.in_flight = o.in_flight ? o.in_flight : o.workers;
    o.window = o.window ? o.window : DEFAULT_WINDOW;
    o.max_deferred = o.max_deferred ? o.max_deferred : DEFAULT_DEFERRED;
    o.retry_delay_ms = or_default(o.retry_delay_ms, DEFAULT_RETRY_MS);
    o.retry_max_ms = or_default(o.retry_max_ms, DEFAULT_RETRY_MAX_MS);
    o.max_attempts = or_default(o.max_attempts, DEFAULT_ATTEMPTS);
    o.max_crashes = or_default(o.max_crashes, DEFAULT_CRASHES);
    o.max_interruptions = or_default(o.max_interruptions, DEFAULT_INTERRUPTIONS);
    o.hold_ms = or_default(o.hold_ms, DEFAULT_HOLD_MS);
    return o;
}

static void policy_part(hk_buf *b, const char *name, int64_t value, int64_t standard)
{
    if (value != standard)
        hk_buf_addf(b, "\"%s\":%lld,", name, (long long)value);
}

/* Canonical: fixed order, and what is default is left out, so that later settings change nothing
 * for consumers that do not use them. */
static void policy_text(const hark_sub_opts *o, hk_buf *b)
{
    hk_buf_addc(b, '{');
    if (o->dead_policy == HARK_DEAD_PARK)
        hk_buf_addf(b, "\"dead_policy\":\"park\",");
    policy_part(b, "max_attempts", o->max_attempts, DEFAULT_ATTEMPTS);
    policy_part(b, "max_crashes", o->max_crashes, DEFAULT_CRASHES);
    policy_part(b, "max_deferred", (int64_t)o->max_deferred, DEFAULT_DEFERRED);
    policy_part(b, "max_interruptions", o->max_interruptions, DEFAULT_INTERRUPTIONS);
    policy_part(b, "retry_delay_ms", o->retry_delay_ms, DEFAULT_RETRY_MS);
    policy_part(b, "retry_max_ms", o->retry_max_ms, DEFAULT_RETRY_MAX_MS);
    if (b->len > 1)
        b->len--;
    hk_buf_addc(b, '}');
}

hark_err hk_consumer_open_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    hark_store_consumer_clear(ud); /* of an earlier run */
    return bus->ops->consumer_open(bus->store, ud, ei);
}

static void set_core_opts(hk_consumer *c, const hark_sub_opts *o)
{
    uint64_t seed;
    hk_random(&seed, sizeof seed);
    c->workers = o->workers;
    c->in_flight = o->in_flight;
    c->hold_ns = o->hold_ms < 0 ? -1 : hk_ms_to_ns(o->hold_ms);
    c->handler_ns = o->handler_ms <= 0 ? -1 : hk_ms_to_ns(o->handler_ms);
    c->core_opts = (hk_core_opts){.workers = o->in_flight,
                                  .window = o->window,
                                  .max_deferred = o->max_deferred,
                                  .retry_delay_ns = hk_ms_to_ns(o->retry_delay_ms),
                                  .retry_max_ns = hk_ms_to_ns(o->retry_max_ms),
                                  .max_attempts = o->max_attempts,
                                  .max_crashes = o->max_crashes,
                                  .max_interruptions = o->max_interruptions,
                                  .park = o->dead_policy == HARK_DEAD_PARK,
                                  .seed = seed,
                                  .drop = drop_event};
}

hk_now hk_consumer_now(const hk_consumer *c)
{
    return hk_bus_now(c->sub->bus);
}

bool hk_consumer_tells_gaps(const hk_consumer *c)
{
    return !hk_consumer_shared(c) || hk_cores_has(c->cores, 0, NULL);
}

static hark_err new_cores(hk_consumer *c, const hark_store_consumer *state, hk_cores **ret)
{
    hk_core_opts o = c->core_opts;
    o.paused = state->ret_paused != 0;
    hk_cores *cores = hk_cores_new(&o, c->shares);
    if (!cores)
        return HARK_ENOMEM;
    hark_err err = HARK_OK;
    if (!hk_consumer_shared(c))
        err =
            hk_cores_claim(cores, (hark_store_owned){0}, state, (hk_reach){0}, hk_consumer_now(c));
    if (err)
        hk_cores_free(cores);
    else
        *ret = cores;
    return err;
}

/* Under the lock: from here on it is this one. */
static void take_state(hk_consumer *c, const hark_store_consumer *state, hk_cores *cores)
{
    c->cores = cores;
    c->generation = state->ret_generation;
    c->rerun = state->ret_rerun;
    c->gap_from = c->gap_to = c->told_from = c->told_to = 0;
    hk_consumer_outlived(c);     /* no time limit of the new cores ends what the old ones started */
    if (hk_consumer_shared(c)) { /* a gap is told with share 0 */
        if (hk_mark_get(&c->sub->closed) == 1)
            hk_cores_finish(cores);
        return;
    }
    if (state->ret_gap_to)
        hk_consumer_note_gap(c, state->ret_gap_from, state->ret_gap_to);
    if (!(c->sub->flags & HARK_SUB_GAPS))
        hk_cores_gap_done(cores, state->ret_gap_to);
}

hark_err hk_consumer_anew(hk_consumer *c, const hark_store_consumer *state, hk_cores **ret_old)
{
    hk_cores *cores;
    hark_err err = new_cores(c, state, &cores);
    if (err)
        return err;
    *ret_old = c->cores;
    take_state(c, state, cores);
    c->stale = false;
    return HARK_OK;
}

/* More than are in flight: a handler that has timed out keeps its own. */
static hark_err take_slots(hk_consumer *c, hark_errinfo *ei)
{
    hark_bus *bus = c->sub->bus;
    size_t n = c->in_flight + c->workers;
    if (!bus->ops->slots_take)
        return HARK_OK;
    c->free_slots = calloc(n, sizeof(hark_store_slot *));
    if (!c->free_slots)
        return hk_fail(ei, HARK_ENOMEM, "no memory for the crash guard of consumer %s",
                       c->sub->name);
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->slots_take(bus->store, n, &c->slots, ei);
    hk_store_leave(bus);
    for (size_t i = 0; !err && c->slots && i < n; i++)
        c->free_slots[c->n_free_slots++] = &c->slots[i];
    c->n_slots = c->slots ? n : 0;
    return err;
}

static hark_err take_shares(hk_consumer *c, const hark_store_consumer *state, hark_errinfo *ei)
{
    c->shares = hk_consumer_shared(c) ? state->ret_shares : 1;
    if (c->shares >= 1 && c->shares <= HARK_SHARES_MAX)
        return HARK_OK;
    return hk_fail(ei, HARK_ECORRUPT,
                   "the store says that consumer %s has %u shares; 1 to %d: restore the log from a "
                   "backup",
                   c->sub->name, (unsigned)c->shares, HARK_SHARES_MAX);
}

static hark_err load(hk_consumer *c, const hark_store_consumer *state, hark_errinfo *ei)
{
    hk_cores *cores;
    hark_err err = take_shares(c, state, ei);
    if (!err)
        err = new_cores(c, state, &cores);
    if (!err) {
        pthread_mutex_lock(&c->lock);
        c->id = state->ret_id;
        take_state(c, state, cores);
        pthread_mutex_unlock(&c->lock);
        err = take_slots(c, ei);
    }
    if (!err && hk_consumer_shared(c))
        err = hk_party_join(c->sub, ei);
    return err;
}

/* What loading found out must be in the store before anybody may redrive: rows that are dropped now
 * and made again by a redrive would be dropped once more. */
static hark_err save_first(hk_consumer *c, hark_errinfo *ei)
{
    int64_t end = hk_mono_ns() + INT64_C(5000000000);
    for (;;) {
        unsigned seen = hk_gate_look(&c->sub->gate);
        pthread_mutex_lock(&c->lock);
        bool clean = !c->queued && hk_consumer_dirt_locked(c) == HK_CLEAN;
        hk_consumer_unlock(c);
        if (clean)
            return HARK_OK;
        if (hk_mono_ns() > end || hk_mark_get(&c->sub->bus->gate) == HK_CLOSED)
            return hk_fail(ei, HARK_ESTORE, "consumer %s: its state cannot be saved; see hark_why",
                           c->sub->name);
        (void)hk_gate_wait(&c->sub->gate, seen, INT64_C(10000000));
    }
}

hark_err hk_consumer_open(hark_sub *s, const hark_sub_opts *given, hark_errinfo *ei)
{
    hk_consumer *c = calloc(1, sizeof *c);
    hk_buf text = {0};
    hark_sub_opts o = settled_opts(given);
    policy_text(&o, &text);
    if (!c || text.failed) {
        free(c);
        hk_buf_free(&text);
        return hk_fail(ei, HARK_ENOMEM, "no memory for consumer %s", s->name);
    }
    c->work.kind = HK_SAVE;
    c->sub = s;
    pthread_mutex_init(&c->lock, NULL);
    set_core_opts(c, &o);
    s->consumer = c;
    hark_store_consumer state = {.size = sizeof state,
                                 .name = s->name,
                                 .pattern = s->pattern,
                                 .policy = text.data,
                                 .update = o.update,
                                 .start = o.start,
                                 .start_sequence = o.start_sequence,
                                 .start_time_ns = o.start_time_ns};
    hark_err err = hk_writer_start(s->bus);
    if (!s->bus->info.direct)
        hk_tail_know_types(&s->bus->tail);
    if (!err)
        err = hk_writer_insist(s->bus, hk_consumer_open_job, &state, ei);
    if (!err)
        err = load(c, &state, ei);
    if (!err)
        err = save_first(c, ei);
    hark_store_consumer_clear(&state);
    hk_buf_free(&text);
    return err;
}

void hk_consumer_free(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    hark_bus *bus = s->bus;
    if (hk_store_enter(bus, NULL) == HARK_OK) {
        if (c->slots)
            bus->ops->slots_give(bus->store, c->slots, c->n_slots);
        hk_store_leave(bus);
    }
    free(c->free_slots);
    hk_cores_free(c->cores);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- from outside ---------------------------------------------------------------------------- */

void hk_consumer_closed(hark_sub *s)
{
    pthread_mutex_lock(&s->consumer->lock);
    hk_cores_finish(s->consumer->cores);
    hk_consumer_unlock(s->consumer);
}

bool hk_consumer_facts(hark_sub *s, hk_core_facts *ret)
{
    *ret = (hk_core_facts){0};
    pthread_mutex_lock(&s->consumer->lock);
    bool here = hk_cores_count(s->consumer->cores) > 0;
    if (here)
        hk_cores_facts_get(s->consumer->cores, ret);
    pthread_mutex_unlock(&s->consumer->lock);
    return here;
}

static hark_sub *find(hark_bus *bus, const char *name, uint64_t id)
{
    pthread_mutex_lock(&bus->lock);
    hark_sub *s = bus->subs;
    for (; s; s = s->next)
        if (!hk_mark_get(&s->closed) && s->consumer &&
            (name ? strcmp(s->name, name) == 0 : s->consumer->id == id))
            break;
    if (s)
        hk_sub_hold(s);
    pthread_mutex_unlock(&bus->lock);
    return s;
}

hark_sub *hk_consumer_find(hark_bus *bus, const char *name)
{
    return find(bus, name, 0);
}

hark_sub *hk_consumer_find_id(hark_bus *bus, uint64_t id)
{
    return find(bus, NULL, id);
}

/* The reset is done, whatever comes of this: shares come later then. */
static void join_again(hark_sub *s)
{
    hark_errinfo ei = {0};
    hark_err err = hk_party_join(s, &ei);
    if (!err)
        return;
    hk_log(HK_WARN, "consumer %s has no share yet after its reset: %s", s->name,
           hk_err_says(err, &ei));
    hk_party_doubt(s);
}

hark_err hk_consumer_renew(hark_sub *s, const hark_store_consumer *state)
{
    hk_consumer *c = s->consumer;
    hk_cores *cores;
    hark_err err = new_cores(c, state, &cores);
    if (err)
        return err;
    pthread_mutex_lock(&c->lock);
    while (c->collected) { /* the writer uses arrays of the old ones */
        unsigned seen = hk_gate_look(&s->gate);
        pthread_mutex_unlock(&c->lock);
        (void)hk_gate_wait(&s->gate, seen, INT64_C(10) * 1000000);
        pthread_mutex_lock(&c->lock);
    }
    hk_cores *old = c->cores;
    take_state(c, state, cores);
    c->stale = false;
    hk_consumer_unlock(c);
    hk_cores_free(old);
    hk_gate_open(&s->gate);
    if (s->bus->info.shared)
        join_again(s);
    return HARK_OK;
}

void hk_consumer_gap(hark_sub *s, uint64_t from, uint64_t to)
{
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    if (hk_consumer_tells_gaps(c)) {
        hk_consumer_note_gap(c, from, to);
        if (!(s->flags & HARK_SUB_GAPS))
            hk_cores_gap_done(c->cores, to);
    }
    hk_consumer_unlock(c);
    hk_gate_open(&s->gate);
}

void hk_consumer_abandon(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    c->slots = NULL;
    c->n_free_slots = 0;
    pthread_mutex_unlock(&c->lock);
}
