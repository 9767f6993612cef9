/* retain.c: rules that say how long events are kept, and applying them. The store removes, in slices
 * of a few milliseconds between the writer's groups, oldest first, and knows which consumers still
 * need what; this file knows the rules, the running replays, and hands out gaps that `force` made.
 * What was removed may be read for a while yet from the bus's tail in memory. */
#include "bus/party_i.h"

#include <stdlib.h>
#include <string.h>

enum { GAPS_MAX = 256 };
#define PASS_NS  INT64_C(1000000000)
#define SLICE_NS (INT64_C(2) * 1000000)
/* hark_retain_now, while another process trims: how often it tries, and for how long. */
#define LOCKED_NS (INT64_C(20) * 1000000)
#define TURN_NS   INT64_C(10000000000)

typedef struct rule {
    struct rule *next;
    uint64_t number; /* ascending along the list: where a pass stands */
    int64_t max_age_ns;
    uint64_t max_events;
    bool force;
    char pattern[];
} rule;

struct hk_retains {
    pthread_mutex_t lock; /* everything below */
    rule *rules;
    uint64_t last_number;
    uint64_t at;       /* rules up to this number are done in this pass */
    bool passing;      /* a pass is under way */
    int64_t next_pass; /* mono */
    /* the writer's */
    bool failed;
};

/* What is asked of the store for one rule, with room for what it tells. */
typedef struct slice {
    hark_store_trim trim;
    uint64_t number;
    char *pattern;
    hark_store_gap gaps[GAPS_MAX];
} slice;

/* ---- rules ----------------------------------------------------------------------------------- */

static hk_retains *retains_of(hark_bus *bus, bool make)
{
    pthread_mutex_lock(&bus->lock);
    hk_retains *rs = bus->retains;
    if (!rs && make && (rs = calloc(1, sizeof *rs))) {
        pthread_mutex_init(&rs->lock, NULL);
        bus->retains = rs;
    }
    pthread_mutex_unlock(&bus->lock);
    return rs;
}

static hark_err check(hark_bus *bus, const hark_retention *o, hark_errinfo *ei)
{
    if (bus->info.live_only)
        return hk_no_log(bus, "hark_retain", ei);
    if (!bus->ops->trim)
        return hk_fail(ei, HARK_ENOTSUP,
                       "%s: keeps the newest tail_events; set hark_bus_opts.tail_events and "
                       "tail_bytes instead",
                       bus->ops->scheme);
    if (!o->pattern)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_retention.pattern is not given; \"**\" is every type but hark's own");
    if (o->max_age_ms < 0)
        return hk_fail(ei, HARK_EINVAL, "hark_retention.max_age_ms is %lld; 0 = no limit",
                       (long long)o->max_age_ms);
    if (!hk_bus_accepts(bus))
        return hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
    return hark_pattern_check(o->pattern, ei);
}

static rule *rule_new(const hark_retention *o)
{
    size_t len = strlen(o->pattern);
    rule *r = calloc(1, sizeof *r + len + 1);
    if (!r)
        return NULL;
    r->max_age_ns = hk_ms_to_ns(o->max_age_ms);
    r->max_events = o->max_events;
    r->force = o->force != 0;
    memcpy(r->pattern, o->pattern, len);
    return r;
}

/* Under the lock: takes `fresh` (NULL = none) in place of the rule with this pattern, which is
 * returned. */
static rule *replace(hk_retains *rs, const char *pattern, rule *fresh)
{
    rule **link = &rs->rules;
    while (*link && strcmp((*link)->pattern, pattern) != 0)
        link = &(*link)->next;
    rule *old = *link;
    if (old)
        *link = old->next;
    while (*link)
        link = &(*link)->next;
    if (fresh) {
        fresh->number = ++rs->last_number;
        *link = fresh;
    }
    rs->next_pass = 0;
    return old;
}

hark_err hark_retain(hark_bus *bus, const hark_retention *given, hark_errinfo *ei)
{
    hark_retention o;
    hark_err err = hk_opts_take(given, &o, sizeof o, "hark_retention", ei);
    if (!err)
        err = check(bus, &o, ei);
    if (err)
        return err;
    bool limits = o.max_age_ms || o.max_events;
    rule *fresh = limits ? rule_new(&o) : NULL;
    hk_retains *rs = retains_of(bus, true);
    if (!rs || (limits && !fresh)) {
        free(fresh);
        return hk_fail(ei, HARK_ENOMEM, "no memory for a rule of retention");
    }
    pthread_mutex_lock(&rs->lock);
    rule *old = replace(rs, o.pattern, fresh);
    pthread_mutex_unlock(&rs->lock);
    free(old);
    hk_inbox_wake(&bus->writer.inbox);
    return HARK_OK;
}

void hk_retains_free(hark_bus *bus)
{
    hk_retains *rs = bus->retains;
    if (!rs)
        return;
    for (rule *r = rs->rules, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    pthread_mutex_destroy(&rs->lock);
    free(rs);
    bus->retains = NULL;
}

/* ---- one slice ------------------------------------------------------------------------------- */

/* Fills in what the first rule behind `number` asks for. HARK_ENOTFOUND: there is none. */
static hark_err next_slice(hark_bus *bus, hk_retains *rs, uint64_t number, slice *ret)
{
    int64_t now = hk_bus_now(bus).wall;
    hark_err err = HARK_ENOTFOUND;
    pthread_mutex_lock(&rs->lock);
    rule *r = rs->rules;
    while (r && r->number <= number)
        r = r->next;
    if (r) {
        int64_t before = r->max_age_ns ? now - r->max_age_ns : 0;
        ret->number = r->number;
        ret->pattern = hk_strdup(r->pattern);
        ret->trim = (hark_store_trim){.size = sizeof ret->trim,
                                      .pattern = ret->pattern,
                                      .before_ns = before > 0 ? before : 0,
                                      .keep = r->max_events,
                                      .force = r->force,
                                      .budget_ns = SLICE_NS,
                                      .gaps = ret->gaps,
                                      .cap_gaps = GAPS_MAX};
        err = ret->pattern ? HARK_OK : HARK_ENOMEM;
    }
    pthread_mutex_unlock(&rs->lock);
    return err;
}

static hark_err trim(hark_bus *bus, slice *s, hark_errinfo *ei)
{
    s->trim.ret_removed = 0;
    s->trim.ret_n_gaps = 0;
    s->trim.ret_more = 0;
    s->trim.hold = hk_replays_hold(bus);
    if (!s->trim.before_ns && !s->trim.keep) /* so old that nothing can be older */
        return HARK_OK;
    return bus->ops->trim(bus->store, &s->trim, ei);
}

/* A consumer that is being opened has perhaps been loaded without a gap that is made now, and is not
 * found yet when it is told of: opening holds `admin`. */
static void keep_out(hark_bus *bus, const slice *s)
{
    if (s->trim.force)
        pthread_mutex_lock(&bus->admin);
}

/* The writer does not wait for it: who has it may wait for the writer. */
static bool try_keep_out(hark_bus *bus, const slice *s)
{
    return !s->trim.force || pthread_mutex_trylock(&bus->admin) == 0;
}

static void let_in(hark_bus *bus, const slice *s)
{
    if (s->trim.force)
        pthread_mutex_unlock(&bus->admin);
}

/* After the commit: consumers that are open here hand out the gaps; the store keeps them for all. */
static void tell_consumers(hark_bus *bus, const slice *s)
{
    for (size_t i = 0; i < s->trim.ret_n_gaps; i++) {
        const hark_store_gap *gap = &s->gaps[i];
        hark_sub *sub = hk_consumer_find_id(bus, gap->consumer);
        if (!sub)
            continue;
        hk_consumer_gap(sub, gap->from, gap->to);
        hk_sub_release(sub);
    }
}

/* ---- between groups -------------------------------------------------------------------------- */

/* Is a pass under way, or due? */
static bool begin_pass(hk_retains *rs, uint64_t *ret_at)
{
    int64_t now = hk_mono_ns();
    pthread_mutex_lock(&rs->lock);
    if (!rs->passing && rs->rules && now >= rs->next_pass) {
        rs->passing = true;
        rs->at = 0;
        rs->next_pass = now + PASS_NS;
    }
    bool passing = rs->passing;
    *ret_at = rs->at;
    pthread_mutex_unlock(&rs->lock);
    return passing;
}

static void end_slice(hk_retains *rs, uint64_t at, bool passing)
{
    pthread_mutex_lock(&rs->lock);
    rs->at = at;
    rs->passing = passing;
    pthread_mutex_unlock(&rs->lock);
}

static hark_err trim_in_group(hark_bus *bus, slice *s, hark_errinfo *ei)
{
    hark_err err = bus->ops->begin(bus->store, ei);
    if (err)
        return err;
    err = trim(bus, s, ei);
    if (!err)
        return bus->ops->commit(bus->store, ei);
    bus->ops->rollback(bus->store);
    return err;
}

static void note_failure(hark_bus *bus, hk_retains *rs, hark_err err, const hark_errinfo *ei)
{
    hark_class class = hark_err_class(err);
    if (!rs->failed)
        hk_log(HK_WARN, "retention removes nothing just now: %s", hk_err_says(err, ei));
    rs->failed = true;
    if (class == HARK_CLASS_FATAL || (class == HARK_CLASS_UNKNOWN && !bus->info.shared))
        hk_mark_set(&bus->read_only, 1);
}

/* False when nothing more can be done in this turn. */
static bool run_slice(hark_bus *bus, hk_retains *rs, slice *s)
{
    hark_errinfo ei = {0};
    if (!try_keep_out(bus, s)) /* the pass goes on in a later turn */
        return false;
    hark_err err = trim_in_group(bus, s, &ei);
    if (!err)
        tell_consumers(bus, s);
    let_in(bus, s);
    rs->failed &= err != HARK_OK;
    if (err) {
        if (err != HARK_ELOCKED) /* on a shared store: another process is at it */
            note_failure(bus, rs, err, &ei);
        end_slice(rs, 0, false);
    } else {
        end_slice(rs, s->trim.ret_more ? s->number - 1 : s->number, true);
    }
    return !err;
}

bool hk_retain_turn(hark_bus *bus)
{
    hk_retains *rs = retains_of(bus, false);
    uint64_t at;
    if (HK_LIKELY(!rs) || hk_mark_get(&bus->read_only) || !begin_pass(rs, &at))
        return false;
    slice s;
    const hark_errinfo none = {0};
    hark_err err = next_slice(bus, rs, at, &s);
    if (err) {
        if (err != HARK_ENOTFOUND)
            note_failure(bus, rs, err, &none);
        end_slice(rs, 0, false);
        return false;
    }
    bool more = run_slice(bus, rs, &s);
    free(s.pattern);
    return more;
}

bool hk_retains_any(hark_bus *bus)
{
    hk_retains *rs = retains_of(bus, false);
    if (HK_LIKELY(!rs))
        return false;
    pthread_mutex_lock(&rs->lock);
    bool any = rs->rules != NULL;
    pthread_mutex_unlock(&rs->lock);
    return any;
}

/* ---- now ------------------------------------------------------------------------------------- */

static hark_err trim_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    return trim(bus, ud, ei);
}

static hark_err apply_once(hark_bus *bus, slice *s, hark_errinfo *ei)
{
    keep_out(bus, s);
    hark_err err = hk_writer_insist(bus, trim_job, s, ei);
    if (!err)
        tell_consumers(bus, s);
    let_in(bus, s);
    return err;
}

/* On a shared store another process may be at it: its slices are short. */
static hark_err apply_in_turn(hark_bus *bus, slice *s, hark_errinfo *ei)
{
    int64_t patience = hk_mono_ns() + TURN_NS;
    for (;;) {
        hark_err err = apply_once(bus, s, ei);
        int64_t now = hk_mono_ns();
        if (err != HARK_ELOCKED || now >= patience || !hk_bus_rest(bus, now + LOCKED_NS))
            return err;
    }
}

/* Everything that one rule asks for. */
static hark_err apply(hark_bus *bus, slice *s, uint64_t *removed, hark_errinfo *ei)
{
    hark_err err;
    do {
        err = apply_in_turn(bus, s, ei);
        if (!err)
            *removed += s->trim.ret_removed;
    } while (!err && s->trim.ret_more);
    return err;
}

hark_err hark_retain_now(hark_bus *bus, uint64_t *ret_removed, hark_errinfo *ei)
{
    hark_err err = hk_may_operate(bus, "hark_retain_now", ei);
    if (!err && !bus->ops->trim)
        err = hk_fail(ei, HARK_ENOTSUP, "%s: keeps the newest tail_events; there are no rules",
                      bus->ops->scheme);
    if (err)
        return err;
    hk_retains *rs = retains_of(bus, false);
    uint64_t removed = 0;
    slice *s = malloc(sizeof *s);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory to apply rules of retention");
    for (uint64_t at = 0; rs && !err && !(err = next_slice(bus, rs, at, s)); at = s->number) {
        err = apply(bus, s, &removed, ei);
        free(s->pattern);
    }
    if (err == HARK_ENOTFOUND) /* no further rule */
        err = HARK_OK;
    free(s);
    if (ret_removed)
        *ret_removed = removed;
    return err;
}
