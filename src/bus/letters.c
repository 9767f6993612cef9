/* letters.c: dead letters: the event that announces one, listing, redriving, discarding. Redriving
 * and discarding are jobs of the writer; when the consumer is open here its core is told after the
 * commit, both under the bus's `admin` lock, so that a consumer which is being opened sees either
 * none of it or all. A redrive at a rate is fed by the calling thread: letters are redriven only when
 * they are due, so that they hold up nothing until then. */
#include "bus/bus_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- the announcement ------------------------------------------------------------------------ */

/* Originals up to this size are part of the announcement. */
enum { ORIGINAL_MAX = 64 << 10 };

static void add_string(hk_buf *b, const char *name, const char *value)
{
    hk_buf_addf(b, ",\"%s\":", name);
    if (value)
        hk_buf_add_json_string(b, value, strlen(value));
    else
        hk_buf_addf(b, "null");
}

/* The original as CloudEvents JSON, or where to find it. */
static bool add_event(hk_buf *b, const hark_event *e)
{
    size_t len = 0, json_len = 0;
    char *json = NULL;
    (void)hark_event_data(e, &len);
    if (len <= ORIGINAL_MAX) {
        if (hark_event_to_json(e, &json, &json_len))
            return false;
        hk_buf_addf(b, ",\"event\":");
        hk_buf_add(b, json, json_len);
        free(json);
        return true;
    }
    hk_buf_addf(b, ",\"event_reference\":{\"sequence\":%llu,\"bytes\":%zu",
                (unsigned long long)hark_event_sequence(e), len);
    add_string(b, "id", hark_event_id(e));
    add_string(b, "source", hark_event_source(e));
    add_string(b, "type", hark_event_type(e));
    hk_buf_addc(b, '}');
    return true;
}

/* The data of such an event. False: none is to be made of it (it is one itself), or no memory. */
static bool obituary_json(const hk_obituary *o, hk_buf *ret)
{
    if (strcmp(hark_event_type(o->event), HK_DEAD_LETTER_TYPE) == 0)
        return false;
    hk_buf_addf(ret, "{\"reason\":");
    hk_buf_add_json_string(ret, o->reason, strlen(o->reason));
    add_string(ret, "consumer", o->consumer);
    add_string(ret, "error", o->error);
    hk_buf_addf(ret, ",\"attempts\":%lld,\"crashes\":%lld,\"interruptions\":%lld",
                (long long)o->attempts, (long long)o->crashes, (long long)o->interruptions);
    if (o->letter)
        hk_buf_addf(ret, ",\"dead_letter\":%llu", (unsigned long long)o->letter);
    if (hark_event_sequence(o->event))
        hk_buf_addf(ret, ",\"sequence\":%llu", (unsigned long long)hark_event_sequence(o->event));
    bool ok = add_event(ret, o->event);
    hk_buf_addc(ret, '}');
    return ok && !ret->failed;
}

static hark_event_spec obituary_spec(const hk_obituary *o, const hk_buf *json)
{
    const char *correlation = hark_event_correlationid(o->event);
    return (hark_event_spec){.size = sizeof(hark_event_spec),
                             .type = HK_DEAD_LETTER_TYPE,
                             .subject = o->consumer,
                             .correlationid = correlation ? correlation : hark_event_id(o->event),
                             .causationid = hark_event_id(o->event),
                             .datacontenttype = "application/json",
                             .data = json->data,
                             .data_len = json->len};
}

hk_request *hk_obituary_request(hark_bus *bus, const hk_obituary *o)
{
    hk_buf json = {0};
    hk_request *r = NULL;
    if (obituary_json(o, &json)) {
        hark_event_spec spec = obituary_spec(o, &json);
        hark_errinfo ei = {0};
        hark_err err = hk_request_inside(bus, &spec, hk_request_ignore, NULL, &r, &ei);
        if (err)
            hk_log(HK_WARN, "a dead letter is not announced: %s", hk_err_says(err, &ei));
    }
    hk_buf_free(&json);
    return r;
}

void hk_obituary_publish(hark_bus *bus, const hk_obituary *o)
{
    hk_buf json = {0};
    if (obituary_json(o, &json)) {
        hark_event_spec spec = obituary_spec(o, &json);
        hark_errinfo ei = {0};
        hark_err err = hk_publish(bus, &spec, HK_PUB_INSIDE | HK_PUB_PAST_ALL, NULL, &ei);
        if (err)
            hk_log(HK_WARN, "a dead letter is not announced: %s", hk_err_says(err, &ei));
    }
    hk_buf_free(&json);
}

/* ---- listing --------------------------------------------------------------------------------- */

typedef struct listing {
    hark_dead_fn fn;
    void *ud;
    const hark_attempt *log;
    size_t n_log;
    uint64_t found;
} listing;

static bool list_one(void *ud, const hark_store_letter *l)
{
    listing *x = ud;
    const hark_dead_letter letter = {.size = sizeof letter,
                                     .id = l->id,
                                     .consumer = l->consumer,
                                     .sequence = l->sequence,
                                     .generation = l->generation,
                                     .reason = l->reason,
                                     .error = l->error,
                                     .attempts = l->attempts,
                                     .crashes = l->crashes,
                                     .interruptions = l->interruptions,
                                     .first_ns = l->first_ns,
                                     .dead_ns = l->dead_ns,
                                     .redriven = l->state == HARK_LETTER_REDRIVEN,
                                     .event = l->event,
                                     .log = x->log,
                                     .n_log = x->n_log};
    x->found++;
    return x->fn(&letter, x->ud);
}

static hark_err check_reason(const char *reason, hark_errinfo *ei)
{
    static const char *const known[] = {"rejected", "max_attempts", "crash", "interrupted",
                                        "upcast"};
    if (!reason)
        return HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(known); i++)
        if (strcmp(reason, known[i]) == 0)
            return HARK_OK;
    return hk_fail(
        ei, HARK_EINVAL,
        "hark_dead_filter.reason is '%.40s'; rejected, max_attempts, crash, interrupted, "
        "or upcast",
        reason);
}

static hark_err take_filter(const hark_dead_filter *given, hark_store_letters_query *q,
                            hark_errinfo *ei)
{
    hark_dead_filter f;
    hark_err err = hk_opts_take(given, &f, sizeof f, "hark_dead_filter", ei);
    if (!err && f.type)
        err = hark_pattern_check(f.type, ei);
    if (!err)
        err = check_reason(f.reason, ei);
    if (err)
        return err;
    *q = (hark_store_letters_query){.size = sizeof *q,
                                    .consumer = f.consumer,
                                    .pattern = f.type,
                                    .reason = f.reason,
                                    .state = f.redriven ? 0 : HARK_LETTER_DEAD,
                                    .from_ns = f.from_ns,
                                    .to_ns = f.to_ns,
                                    .after_id = f.after_id,
                                    .limit = f.limit};
    return HARK_OK;
}

/* Reads letters while the store is open. */
static hark_err read_letters(hark_bus *bus, const hark_store_letters_query *q,
                             hark_store_letter_fn fn, void *ud, hark_errinfo *ei)
{
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->letters(bus->store, q, fn, ud, ei);
    hk_store_leave(bus);
    return err;
}

typedef struct sought {
    const char *name;
    bool found;
} sought;

static bool is_sought(void *ud, const hark_store_consumer_row *row)
{
    sought *x = ud;
    x->found = strcmp(row->name, x->name) == 0;
    return !x->found;
}

/* When a filter has found nothing: is it because nobody has this name? Of those that are open here we
 * know, without a look at the store. */
static hark_err check_consumer(hark_bus *bus, const char *name, hark_errinfo *ei)
{
    hark_sub *s = name ? hk_consumer_find(bus, name) : NULL;
    sought x = {.name = name, .found = s || !name};
    if (s)
        hk_sub_release(s);
    if (x.found)
        return HARK_OK;
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->consumers(bus->store, is_sought, &x, ei);
    hk_store_leave(bus);
    if (err || x.found)
        return err;
    return hk_fail(ei, HARK_ENOTFOUND,
                   "hark_dead_filter.consumer is '%.128s', and the store knows no consumer of that "
                   "name; hark_consumers lists them",
                   name);
}

hark_err hark_dead_letters(hark_bus *bus, const hark_dead_filter *filter, hark_dead_fn fn, void *ud,
                           hark_errinfo *ei)
{
    hark_store_letters_query q;
    listing x = {.fn = fn, .ud = ud};
    hark_err err = hk_may_operate(bus, "hark_dead_letters", ei);
    if (!err)
        err = take_filter(filter, &q, ei);
    if (!err)
        err = read_letters(bus, &q, list_one, &x, ei);
    return err || x.found ? err : check_consumer(bus, q.consumer, ei);
}

/* The attempts of a letter, gathered before the letter is handed out. */
typedef struct gathered {
    uint64_t consumer, sequence;
    hark_attempt *log;
    size_t n, cap;
    bool failed;
} gathered;

static bool gather_place(void *ud, const hark_store_letter *l)
{
    gathered *g = ud;
    g->consumer = l->consumer_id;
    g->sequence = l->sequence;
    return false;
}

static bool gather_attempt(void *ud, const hark_store_attempt *a)
{
    gathered *g = ud;
    hark_attempt *log = hk_array_room(g->log, g->n, &g->cap, 16, sizeof *log);
    g->failed = !log;
    if (!log)
        return false;
    g->log = log;
    hark_attempt *to = &g->log[g->n++];
    *to = (hark_attempt){.number = a->number,
                         .started_ns = a->started_ns,
                         .ended_ns = a->ended_ns,
                         .outcome = hk_strdup(a->outcome),
                         .error = hk_strdup(a->error)};
    g->failed |= !to->outcome || (a->error && !to->error);
    return !g->failed;
}

static hark_err gather(hark_bus *bus, const hark_store_letters_query *q, gathered *g,
                       hark_errinfo *ei)
{
    hark_err err = read_letters(bus, q, gather_place, g, ei);
    if (err)
        return err;
    if (!g->sequence)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "there is no dead letter %llu; hark_dead_letters lists them",
                       (unsigned long long)q->id);
    err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->attempts(bus->store, g->consumer, g->sequence, gather_attempt, g, ei);
    hk_store_leave(bus);
    return !err && g->failed ? hk_fail(ei, HARK_ENOMEM, "no memory for the attempts") : err;
}

hark_err hark_dead_letter_get(hark_bus *bus, uint64_t id, hark_dead_fn fn, void *ud,
                              hark_errinfo *ei)
{
    const hark_store_letters_query q = {.size = sizeof q, .id = id, .limit = 1};
    gathered g = {0};
    listing x = {.fn = fn, .ud = ud};
    hark_err err = hk_may_operate(bus, "hark_dead_letter_get", ei);
    if (!err)
        err = gather(bus, &q, &g, ei);
    x.log = g.log;
    x.n_log = g.n;
    if (!err)
        err = read_letters(bus, &q, list_one, &x, ei);
    if (!err && !x.found)
        err = hk_fail(ei, HARK_ENOTFOUND, "dead letter %llu has gone meanwhile",
                      (unsigned long long)id);
    for (size_t i = 0; i < g.n; i++) {
        free((char *)(uintptr_t)g.log[i].outcome);
        free((char *)(uintptr_t)g.log[i].error);
    }
    free(g.log);
    return err;
}

/* ---- redriving and discarding ---------------------------------------------------------------- */

enum { UNIT = 256 };

/* What is done to some letters in one commit. */
typedef struct unit {
    bool discard;
    uint64_t ids[UNIT];
    size_t n;
    hk_now now; /* when those that are redriven are due */
    hark_store_letter_done done[UNIT];
    hark_err errs[UNIT];
    hark_errinfo passed; /* why the last of these was passed over */
    uint64_t count;      /* done so far, over all units */
} unit;

/* Errors that are about one letter; any other is the group's. */
static bool passes_over(hark_err err)
{
    return err == HARK_ENOTFOUND || err == HARK_ECONFLICT || err == HARK_EAGAIN ||
           err == HARK_ECORRUPT;
}

static hark_err unit_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    unit *u = ud;
    for (size_t i = 0; i < u->n; i++) {
        hark_errinfo own = {0};
        free(u->done[i].key); /* of an earlier run */
        u->done[i].key = NULL;
        hark_err err =
            u->discard
                ? bus->ops->letter_discard(bus->store, u->ids[i], &u->done[i], &own)
                : bus->ops->letter_redrive(bus->store, u->ids[i], u->now.wall, &u->done[i], &own);
        u->errs[i] = err;
        if (!err)
            continue;
        if (passes_over(err)) {
            u->passed = own;
            continue;
        }
        if (ei)
            *ei = own;
        return err;
    }
    return HARK_OK;
}

/* The core learns what the store has committed; when its share is another process's, that one learns of it from the
 * store. A discarded letter that parked nothing is none of its
 * business: the same event may have a later one, and that parks its key still. */
static void tell(hark_bus *bus, const unit *u, size_t i)
{
    const hark_store_letter_done *done = &u->done[i];
    if (done->remote || (u->discard && !done->parked))
        return;
    hark_sub *s = hk_consumer_find_id(bus, done->consumer);
    if (!s)
        return; /* not open here: it is loaded when it is */
    hk_consumer *c = s->consumer;
    hark_err err = HARK_OK;
    pthread_mutex_lock(&c->lock);
    if (c->generation == done->generation && !c->stale) {
        if (u->discard)
            hk_cores_discarded(c->cores, done->sequence, done->key);
        else
            err = hk_cores_redriven(c->cores, done->sequence, done->key, u->now.mono, u->now.wall);
    }
    hk_consumer_unlock(c);
    if (err)
        hk_log(HK_ERROR,
               "consumer %s: no memory for redriven event %llu; it comes when the "
               "consumer is opened again",
               s->name, (unsigned long long)done->sequence);
    hk_gate_open(&s->gate);
    hk_sub_release(s);
}

static hark_err run_unit(hark_bus *bus, unit *u, hark_errinfo *ei)
{
    memset(u->done, 0, sizeof u->done);
    u->now = hk_bus_now(bus);
    pthread_mutex_lock(&bus->admin);
    hark_err err = hk_writer_insist(bus, unit_job, u, ei);
    for (size_t i = 0; i < u->n; i++) {
        if (!err && !u->errs[i]) {
            tell(bus, u, i);
            u->count++;
        }
        free(u->done[i].key);
    }
    pthread_mutex_unlock(&bus->admin);
    return err;
}

static hark_err one(hark_bus *bus, uint64_t id, bool discard, const char *call, hark_errinfo *ei)
{
    hark_err err = hk_may_operate(bus, call, ei);
    unit *u = err ? NULL : calloc(1, sizeof *u);
    if (!u)
        return err ? err : hk_fail(ei, HARK_ENOMEM, "no memory for %s", call);
    u->discard = discard;
    u->ids[u->n++] = id;
    err = run_unit(bus, u, ei);
    if (!err && u->errs[0]) {
        err = u->errs[0];
        if (ei)
            *ei = u->passed;
    }
    free(u);
    return err;
}

hark_err hark_redrive(hark_bus *bus, uint64_t id, hark_errinfo *ei)
{
    return one(bus, id, false, "hark_redrive", ei);
}

hark_err hark_discard(hark_bus *bus, uint64_t id, hark_errinfo *ei)
{
    return one(bus, id, true, "hark_discard", ei);
}

/* What a filter finds, before anything is done: a letter redriven dies again under a higher id, and is
 * not to be redriven in the same call. */
typedef struct ids {
    uint64_t *list;
    size_t n, cap;
    bool failed;
} ids;

static bool add_id(void *ud, const hark_store_letter *l)
{
    ids *x = ud;
    uint64_t *list = hk_array_room(x->list, x->n, &x->cap, UNIT, sizeof *list);
    x->failed = !list;
    if (!list)
        return false;
    x->list = list;
    x->list[x->n++] = l->id;
    return true;
}

/* At no rate 256 in a commit, one commit after the other. At a rate, every 100 ms as many as it allows
 * (no less than one, no more than 256 at a time); a commit that took longer is not made up for. */
typedef struct pace {
    size_t most;
    int64_t step_ns, due; /* mono */
} pace;

static pace pace_of(int64_t rate)
{
    int64_t most = rate / 10 < 1 ? 1 : rate / 10;
    if (!rate || most > UNIT)
        most = UNIT;
    return (pace){.most = (size_t)most,
                  .step_ns = rate ? most * INT64_C(1000000000) / rate : 0,
                  .due = hk_mono_ns()};
}

static void next_turn(pace *p)
{
    int64_t now = hk_mono_ns();
    p->due += p->step_ns;
    p->due = p->due < now ? now : p->due;
}

static hark_err feed(hark_bus *bus, const ids *x, int64_t rate, unit *u, hark_errinfo *ei)
{
    pace p = pace_of(rate);
    hark_err err = HARK_OK;
    for (size_t at = 0; !err && at < x->n; at += u->n) {
        if (rate && !hk_bus_rest(bus, p.due)) {
            err = HARK_ECLOSED;
            break;
        }
        u->n = x->n - at < p.most ? x->n - at : p.most;
        memcpy(u->ids, x->list + at, u->n * sizeof *u->ids);
        err = run_unit(bus, u, ei);
        next_turn(&p);
    }
    if (err != HARK_ECLOSED)
        return err;
    return hk_fail(
        ei, err,
        "the bus was closed when %llu of %zu dead letters were done; call it again on an "
        "open bus for the rest",
        (unsigned long long)u->count, x->n);
}

/* What was found before the listing failed is done all the same. */
static hark_err all(hark_bus *bus, const hark_store_letters_query *q, int64_t rate, unit *u,
                    hark_errinfo *ei)
{
    ids x = {0};
    hark_errinfo listed = {0};
    hark_err cut = read_letters(bus, q, add_id, &x, &listed);
    if (!cut && x.failed)
        cut = hk_fail(&listed, HARK_ENOMEM, "no memory for a list of more than %zu dead letters",
                      x.n);
    if (!cut && x.n == 0)
        cut = check_consumer(bus, q->consumer, &listed);
    hark_err err = feed(bus, &x, rate, u, ei);
    free(x.list);
    if (!err && cut && ei)
        *ei = listed;
    return err ? err : cut;
}

static hark_err by_filter(hark_bus *bus, const hark_dead_filter *filter, bool discard, int64_t rate,
                          uint64_t *ret_count, const char *call, hark_errinfo *ei)
{
    hark_store_letters_query q;
    if (ret_count)
        *ret_count = 0;
    hark_err err = hk_may_operate(bus, call, ei);
    if (!err)
        err = take_filter(filter, &q, ei);
    if (!err && rate < 0)
        err = hk_fail(ei, HARK_EINVAL, "%s: rate is %lld; 0 (at once) or more a second", call,
                      (long long)rate);
    unit *u = err ? NULL : calloc(1, sizeof *u);
    if (!u)
        return err ? err : hk_fail(ei, HARK_ENOMEM, "no memory for %s", call);
    q.state = HARK_LETTER_DEAD;
    u->discard = discard;
    err = all(bus, &q, rate, u, ei);
    if (ret_count)
        *ret_count = u->count;
    free(u);
    return err;
}

hark_err hark_redrive_all(hark_bus *bus, const hark_dead_filter *filter, int64_t rate,
                          uint64_t *ret_count, hark_errinfo *ei)
{
    return by_filter(bus, filter, false, rate, ret_count, "hark_redrive_all", ei);
}

hark_err hark_discard_all(hark_bus *bus, const hark_dead_filter *filter, uint64_t *ret_count,
                          hark_errinfo *ei)
{
    return by_filter(bus, filter, true, 0, ret_count, "hark_discard_all", ei);
}
