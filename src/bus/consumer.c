/* consumer.c: the state of a durable consumer: opening it, carrying its changes to the store,
 * taking over another state after a reset. Its deliveries are in consume.c. The pure core
 * (src/delivery) is stepped under the consumer's lock. Its changes ride in the writer's groups: while
 * one is on its way (`queued`) the next ones gather. */
#include "bus/bus_i.h"
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

static hark_err new_core(hk_consumer *c, const hark_store_consumer *state, hk_core **ret)
{
    hk_core_opts o = c->core_opts;
    o.paused = state->ret_paused != 0;
    hk_core *core = hk_core_new(&o);
    if (!core)
        return HARK_ENOMEM;
    hk_now now = hk_now_get();
    hark_err err = hk_core_load(core, state, now);
    if (err)
        hk_core_free(core);
    else
        *ret = core;
    return err;
}

/* Under the lock: from here on it is this one. */
static void take_state(hk_consumer *c, const hark_store_consumer *state, hk_core *core)
{
    c->core = core;
    c->generation = state->ret_generation;
    c->rerun = state->ret_rerun;
    c->gap_from = c->gap_to = c->told_from = c->told_to = 0;
    hk_consumer_outlived(c); /* no time limit of the new core ends what the old one started */
    if (state->ret_gap_to)
        hk_consumer_note_gap(c, state->ret_gap_from, state->ret_gap_to);
    if (!(c->sub->flags & HARK_SUB_GAPS))
        hk_core_gap_done(core, state->ret_gap_to);
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

static hark_err load(hk_consumer *c, const hark_store_consumer *state, hark_errinfo *ei)
{
    hk_core *core;
    hark_err err = new_core(c, state, &core);
    if (!err) {
        pthread_mutex_lock(&c->lock);
        c->id = state->ret_id;
        take_state(c, state, core);
        pthread_mutex_unlock(&c->lock);
        err = take_slots(c, ei);
    }
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
        bool clean = !c->queued && hk_core_dirt(c->core) == HK_CLEAN;
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
        err = hk_writer_run(s->bus, hk_consumer_open_job, &state, ei);
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
    hk_core_free(c->core);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* Under the lock: must the caller push the consumer to the writer, after unlocking? */
static bool needs_push(hk_consumer *c)
{
    hk_dirt dirt = c->core && !c->stale ? hk_core_dirt(c->core) : HK_CLEAN;
    if (dirt == HK_CLEAN)
        return false;
    if (c->queued) {
        if (dirt == HK_DIRTY_URGENT)
            hk_inbox_wake(&c->sub->bus->writer.inbox);
        return false;
    }
    c->queued = true;
    hk_sub_hold(c->sub);
    return true;
}

bool hk_consumer_ahead(const hk_consumer *c)
{
    return c->unsaved >= c->core_opts.window &&
           hk_mark_get(&c->sub->bus->writer.last_failed_ns) != 0;
}

/* Under the lock: is it closed, nothing runs, and nothing is left to save? */
static bool is_over(hk_consumer *c)
{
    return hk_mark_get(&c->sub->closed) == 1 && c->threads == 0 && c->running == 0 && !c->queued &&
           (!c->core || c->stale || hk_core_dirt(c->core) == HK_CLEAN ||
            hk_mark_get(&c->sub->bus->gate) == HK_CLOSED);
}

/* Threads in place of those that are stuck. */
static void start_threads(hk_consumer *c, size_t n)
{
    for (; n > 0; n--) {
        hark_err err = hk_consumer_thread(c->sub);
        if (err)
            hk_log(HK_WARN, "consumer %s: no thread in place of one whose handler timed out: %s",
                   c->sub->name, hark_err_text(err));
    }
}

void hk_consumer_unlock(hk_consumer *c)
{
    hark_sub *s = c->sub;
    size_t start = hk_mark_get(&s->closed) ? 0 : c->to_start;
    c->to_start = 0;
    c->threads += start;
    bool push = needs_push(c), over = !push && is_over(c);
    pthread_mutex_unlock(&c->lock);
    hk_settled_poke(&s->bus->settled);
    if (push)
        hk_writer_push(s->bus, &c->work);
    if (start)
        start_threads(c, start);
    if (over)
        hk_sub_ended(s);
}

hk_dirt hk_consumer_dirt(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    hk_dirt dirt = c->stale ? HK_DIRTY_URGENT : hk_core_dirt(c->core);
    pthread_mutex_unlock(&c->lock);
    return dirt;
}

void hk_consumer_facts(hark_sub *s, hk_core_facts *ret)
{
    pthread_mutex_lock(&s->consumer->lock);
    hk_core_facts_get(s->consumer->core, ret);
    pthread_mutex_unlock(&s->consumer->lock);
}

hark_err hk_consumer_collect(hk_consumer *c, hark_store_save *save)
{
    pthread_mutex_lock(&c->lock);
    hark_err err = c->stale ? HARK_ESTALE : hk_core_collect(c->core, save);
    c->collected = !err;
    c->saving = c->unsaved;
    c->save_wakes = err || save->n_put || save->n_drop || save->n_dead;
    save->consumer = c->id;
    save->generation = c->generation;
    pthread_mutex_unlock(&c->lock);
    return err;
}

void hk_consumer_saved(hk_consumer *c, hark_err err)
{
    hark_sub *s = c->sub;
    pthread_mutex_lock(&c->lock);
    if (c->collected)
        hk_core_saved(c->core, err == HARK_OK);
    c->stale |= err == HARK_ENOTFOUND;
    c->collected = false;
    c->queued = false;
    bool wake = err || c->unsaved >= c->core_opts.window || c->save_wakes || c->stale ||
                hk_mark_get(&s->closed);
    c->unsaved -= err ? 0 : c->saving;
    if (hk_mark_get(&s->bus->gate) == HK_CLOSED) { /* nobody will save any more */
        bool over = is_over(c);
        pthread_mutex_unlock(&c->lock);
        if (over)
            hk_sub_ended(s);
    } else {
        hk_consumer_unlock(c);
    }
    if (wake)
        hk_gate_open(&s->gate);
    hk_sub_release(s);
}

/* ---- from outside ---------------------------------------------------------------------------- */

void hk_consumer_closed(hark_sub *s)
{
    pthread_mutex_lock(&s->consumer->lock);
    hk_consumer_unlock(s->consumer);
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

hark_err hk_consumer_renew(hark_sub *s, const hark_store_consumer *state)
{
    hk_consumer *c = s->consumer;
    hk_core *core;
    hark_err err = new_core(c, state, &core);
    if (err)
        return err;
    pthread_mutex_lock(&c->lock);
    while (c->collected) { /* the writer uses arrays of the old one */
        unsigned seen = hk_gate_look(&s->gate);
        pthread_mutex_unlock(&c->lock);
        (void)hk_gate_wait(&s->gate, seen, INT64_C(10) * 1000000);
        pthread_mutex_lock(&c->lock);
    }
    hk_core *old = c->core;
    take_state(c, state, core);
    c->stale = false;
    hk_consumer_unlock(c);
    hk_core_free(old);
    hk_gate_open(&s->gate);
    return HARK_OK;
}

void hk_consumer_gap(hark_sub *s, uint64_t from, uint64_t to)
{
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    hk_consumer_note_gap(c, from, to);
    if (!(s->flags & HARK_SUB_GAPS))
        hk_core_gap_done(c->core, to);
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
