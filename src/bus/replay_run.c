/* replay_run.c: the thread of a replay: reads pages of the log, hands out events one by one, at the
 * rate asked for, and stores where it stands. It waits on one gate only, so that a cancel or a drain
 * ends every wait at once; what its handler runs is waited for. */
#include "bus/party_i.h"
#include "bus/replay_i.h"
#include "bus/versions_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 256, REPEATS = 10, SAVE_EVENTS = 1000 };
#define SAVE_NS     (INT64_C(200) * 1000000)
#define FIRST_NS    (INT64_C(50) * 1000000) /* pauses of repeats, growing */
#define LONGEST_NS  (INT64_C(5000) * 1000000)
#define DOUBT_NS    (INT64_C(100) * 1000000)
#define CATCH_UP_NS (INT64_C(20) * 1000000) /* a rate is made up for after a pause this long */

typedef struct run {
    hk_replay *r;
    uint64_t rng;
    uint64_t unsaved;      /* events, and pages, since the last save */
    int64_t save_at;       /* mono */
    int64_t step, next_at; /* between events at the rate; 0 = no rate */
    int64_t delay_ms;      /* what the last handler asked for; -1 = nothing */
    int failures;          /* reads in a row */
    uint64_t lapses;       /* of the lease, when it was last known to be this process's */
    bool broken, save_failed;
    bool taken;      /* another process has taken it up */
    char error[256]; /* of the last failure */
} run;

static bool goes(run *w)
{
    return hk_mark_get(&w->r->how) == HK_REPLAY_GOES;
}

static void breaks(run *w, const char *what, uint64_t seq, int64_t times)
{
    char why[sizeof w->error];
    (void)snprintf(why, sizeof why, "%s", w->error);
    (void)snprintf(w->error, sizeof w->error, "%s sequence %llu failed %lld times: %.180s", what,
                   (unsigned long long)seq, (long long)times, why[0] ? why : "it gave no reason");
    w->error[hk_utf8_valid(w->error, sizeof w->error - 1)] = '\0';
    w->broken = true;
}

/* ---- among other processes ------------------------------------------------------------------- */

static void is_taken(run *w)
{
    w->taken = true;
    if (!hk_mark_move(&w->r->how, HK_REPLAY_GOES, HK_REPLAY_DRAINED))
        return;
    hk_log(
        HK_WARN,
        "replay %s ends here: the lease of this process was over, and another one has taken it up",
        w->r->row.id);
}

/* While the lease is over another process may take it up, and even be through with it. False: not now, or it is taken. */
static bool is_ours(run *w)
{
    hk_replay *r = w->r;
    hk_replay_row now;
    if (!hk_party_lives(r->bus) || w->taken)
        return false;
    uint64_t lapses = hk_party_lapses(r->bus);
    if (HK_LIKELY(lapses == w->lapses))
        return true;
    hark_err err = hk_replay_row_find(r->bus, r->row.id, &now, NULL);
    if (err && err != HARK_ENOTFOUND)
        return false;
    if (err || now.r.elsewhere || now.r.state != HARK_REPLAYING ||
        now.r.position > hk_mark_get(&r->position)) {
        is_taken(w);
        return false;
    }
    w->lapses = lapses;
    return true;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static void save(run *w)
{
    hark_errinfo ei = {0};
    if (!is_ours(w)) {
        w->save_at = hk_mono_ns() + SAVE_NS;
        return;
    }
    hark_err err = hk_replay_save(w->r, &ei);
    w->save_at = hk_mono_ns() + (err ? SAVE_NS * 5 : SAVE_NS);
    if (!err)
        w->unsaved = 0;
    else if (!w->save_failed && err != HARK_ECLOSED)
        hk_log(HK_WARN, "replay %s goes on, but where it stands is not stored: %s", w->r->row.id,
               hk_err_says(err, &ei));
    w->save_failed = err != HARK_OK;
}

static void save_if_due(run *w)
{
    bool full = w->unsaved >= SAVE_EVENTS && !w->save_failed;
    if (full || (w->unsaved && hk_mono_ns() >= w->save_at))
        save(w);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Until then (mono), and saves meanwhile if that is due. False when the replay is to end. */
static bool wait_until(run *w, int64_t until)
{
    for (;;) {
        unsigned seen = hk_gate_look(&w->r->gate);
        if (!goes(w))
            return false;
        int64_t now = hk_mono_ns();
        if (now >= until)
            return true;
        int64_t next = w->unsaved && w->save_at < until ? w->save_at : until;
        if (next <= now)
            save(w);
        else
            (void)hk_gate_wait(&w->r->gate, seen, next - now);
    }
}

/* The next event's turn at the rate. */
static bool pace(run *w)
{
    if (!w->step)
        return goes(w);
    int64_t now = hk_mono_ns();
    if (w->next_at < now - CATCH_UP_NS)
        w->next_at = now - CATCH_UP_NS;
    if (!wait_until(w, w->next_at))
        return false;
    w->next_at += w->step;
    return true;
}

static bool pause_after(run *w, int64_t failures)
{
    int64_t ns = w->delay_ms >= 0 ? hk_ms_to_ns(w->delay_ms)
                                  : hk_backoff(FIRST_NS, LONGEST_NS, failures, &w->rng);
    return wait_until(w, hk_mono_ns() + ns);
}

/* ---- handing out ----------------------------------------------------------------------------- */

static void note_error(run *w, const char *text)
{
    size_t len = hk_utf8_valid(text, strnlen(text, sizeof w->error - 1));
    memcpy(w->error, text, len);
    w->error[len] = '\0';
}

/* The delivery's event in the version wanted. False: *ret is what comes of it. */
static bool fits(run *w, hark_delivery *d, hark_verdict *ret)
{
    hk_replay *r = w->r;
    hark_errinfo why = {0};
    if (!hk_upcast_matters(r->bus, r->dataversion) ||
        hk_upcast_event(r->bus, &d->event, r->dataversion, &why) != HK_FIT_NONE)
        return true;
    note_error(w, why.text);
    *ret = why.err == HARK_ENOMEM ? HARK_RETRY : HARK_REJECT;
    return false;
}

static hark_verdict call(run *w, hark_event *e, int64_t attempt)
{
    hk_replay *r = w->r;
    hark_delivery *d = malloc(sizeof *d);
    w->delay_ms = -1;
    if (!d) {
        note_error(w, "no memory for a delivery");
        return HARK_RETRY;
    }
    hk_sub_deliver(r->sub, d, hark_event_ref(e));
    d->attempt = attempt;
    (void)snprintf(d->replay_id, sizeof d->replay_id, "%s", r->row.id);
    hark_verdict v;
    if (!fits(w, d, &v)) {
        hk_delivery_clear(d);
        free(d);
        return v;
    }
    v = r->fn(d, r->ud);
    if (v == HARK_LATER) { /* the delivery is the handler's now */
        note_error(w, "the handler answered HARK_LATER, which a replay does not take");
        return HARK_RETRY;
    }
    w->delay_ms = d->delay_ms;
    note_error(w, d->error ? d->error : "");
    hk_delivery_clear(d);
    free(d);
    return v;
}

static void is_done(run *w, uint64_t seq, bool rejected)
{
    hk_replay *r = w->r;
    hk_count_bump(&r->rejected, rejected);
    hk_count_bump(&r->done, 1);
    hk_mark_set(&r->position, seq);
    w->unsaved++;
    save_if_due(w);
}

static bool wait_until_ours(run *w)
{
    while (!is_ours(w))
        if (!wait_until(w, hk_mono_ns() + DOUBT_NS))
            return false;
    return true;
}

/* False when the replay ends here. */
static bool hand_out(run *w, hark_event *e)
{
    uint64_t seq = hark_event_sequence(e);
    for (int64_t attempt = 1; pace(w) && wait_until_ours(w); attempt++) {
        hark_verdict v = call(w, e, attempt);
        if (v == HARK_ACK || v == HARK_REJECT) {
            is_done(w, seq, v == HARK_REJECT);
            return true;
        }
        if (attempt > REPEATS) {
            breaks(w, "the handler of", seq, attempt);
            return false;
        }
        if (!pause_after(w, attempt))
            return false;
    }
    return false;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A read failed. False when the replay ends by it. */
static bool try_reading_again(run *w, hark_err err, const hark_errinfo *ei)
{
    hk_replay *r = w->r;
    if (err == HARK_ECLOSED) {
        (void)hk_mark_move(&r->how, HK_REPLAY_GOES, HK_REPLAY_DRAINED);
        return false;
    }
    note_error(w, hk_err_says(err, ei));
    w->failures++;
    if (hark_err_class(err) != HARK_CLASS_TRANSIENT || w->failures > REPEATS) {
        breaks(w, "reading after", hk_mark_get(&r->position), w->failures);
        return false;
    }
    w->delay_ms = -1;
    return pause_after(w, w->failures);
}

/* Part of what it is to hand out is gone from the log. What is in hand is not: it may have gone
 * since. */
static void note_gap(run *w, const hark_store_page *page)
{
    hk_replay *r = w->r;
    uint64_t left, covered = page->end ? r->row.r.last : page->covered;
    if (hk_replay_count(r->bus, &r->row.r, covered + 1, r->row.r.last, &left, NULL) == HARK_OK)
        hk_mark_set(&r->missing, hk_replay_lost(&r->row.r, hk_count_get(&r->done), page->n + left));
}

static bool read_page(run *w, hark_event **events, hark_store_page *page)
{
    hk_replay *r = w->r;
    const hark_store_query q = {.size = sizeof q,
                                .pattern = r->row.pattern,
                                .after = hk_mark_get(&r->position),
                                .before = r->row.r.last + 1,
                                .from_ns = r->row.r.from_ns,
                                .to_ns = r->row.r.to_ns,
                                .limit = PAGE,
                                .limit_bytes = (size_t)4 << 20};
    for (;;) {
        hark_errinfo ei = {0};
        *page = (hark_store_page){.events = events};
        hark_err err = hk_bus_read(r->bus, &q, page, &ei);
        if (!err)
            break;
        if (!try_reading_again(w, err, &ei))
            return false;
    }
    w->failures = 0;
    return true;
}

/* A page of it. False when that was the last, or the replay ends. */
static bool one_page(run *w)
{
    hk_replay *r = w->r;
    hark_event *events[PAGE];
    hark_store_page page;
    if (!read_page(w, events, &page))
        return false;
    if (page.gap > hk_mark_get(&r->position))
        note_gap(w, &page);
    bool on = true;
    for (size_t i = 0; i < page.n; i++) {
        on = on && hand_out(w, events[i]);
        hark_event_unref(events[i]);
    }
    if (!on)
        return false;
    uint64_t covered = page.end ? r->row.r.last : page.covered;
    if (covered > hk_mark_get(&r->position)) {
        hk_mark_set(&r->position, covered);
        w->unsaved++;
        save_if_due(w);
    }
    return true;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* It has come to its end: what it was to hand out and did not is gone. */
static void tell_missing(run *w)
{
    hk_replay *r = w->r;
    uint64_t missing = hk_replay_lost(&r->row.r, hk_count_get(&r->done), 0);
    hk_mark_set(&r->missing, missing);
    w->error[0] = '\0';
    if (!missing)
        return;
    (void)snprintf(w->error, sizeof w->error,
                   "%llu of %llu events were no longer in the log when their turn came: keep more "
                   "of them (retention, tail_events), or replay them sooner",
                   (unsigned long long)missing, (unsigned long long)r->row.r.total);
    hk_log(HK_WARN, "replay %s: %s", r->row.id, w->error);
}

/* What has become of it; decided once, also against a cancel that comes just now. */
static void conclude(run *w)
{
    hk_replay *r = w->r;
    hk_replays *rs = hk_replays_of(r->bus, false);
    bool all = hk_mark_get(&r->position) >= r->row.r.last;
    if (all || w->broken)
        (void)hk_mark_move(&r->how, HK_REPLAY_GOES, HK_REPLAY_OVER);
    if (all)
        tell_missing(w);
    bool cancelled = hk_mark_get(&r->how) == HK_REPLAY_CANCELLED;
    hark_store_replay end = r->row.r;
    if (cancelled)
        end.state = HARK_REPLAY_STOPPED;
    else if (all)
        end.state = HARK_REPLAYED;
    else if (w->broken)
        end.state = HARK_REPLAY_BROKEN;
    end.error = (all || w->broken) && !cancelled && w->error[0] ? w->error : NULL;
    pthread_mutex_lock(&rs->lock);
    hk_replay_row_set(&r->row, &end);
    pthread_mutex_unlock(&rs->lock);
}

/* While the store fails it is tried again, unless the bus is being closed. */
static void save_end(run *w)
{
    hk_replay *r = w->r;
    hark_errinfo ei = {0};
    hark_err err;
    for (int64_t n = 1;; n++) {
        unsigned seen = hk_gate_look(&r->gate);
        err = is_ours(w) ? hk_replay_save(r, &ei)
              : w->taken ? hk_fail(&ei, HARK_EEXIST, "it is another process's")
                         : hk_fail(&ei, HARK_ESTORE, "the lease of this process is over");
        hark_class class = hark_err_class(err);
        if (!err || class == HARK_CLASS_FATAL || class == HARK_CLASS_REFUSED ||
            !hk_bus_accepts(r->bus))
            break;
        (void)hk_gate_wait(&r->gate, seen, hk_backoff(FIRST_NS * 4, LONGEST_NS, n, &w->rng));
    }
    if (!err)
        return;
    if (!w->taken)
        hk_log(HK_WARN, "replay %s: how it ended is not stored (%s); it can be gone on with",
               r->row.id, hk_err_says(err, &ei));
    hk_replays *rs = hk_replays_of(r->bus, false);
    pthread_mutex_lock(&rs->lock);
    r->lost = true;
    pthread_mutex_unlock(&rs->lock);
}

static void reads(run *w)
{
    hk_replay *r = w->r;
    while (goes(w) && hk_mark_get(&r->position) < r->row.r.last)
        if (!one_page(w))
            return;
}

void *hk_replay_main(void *arg)
{
    hk_replay *r = arg;
    hark_bus *bus = r->bus;
    (void)hk_role_set(HK_ROLE_HANDLER);
    hk_guard_thread();
    hk_replays *rs = hk_replays_of(bus, false);
    pthread_mutex_lock(&rs->lock);
    r->thread = pthread_self();
    pthread_mutex_unlock(&rs->lock);
    int64_t now = hk_mono_ns();
    run w = {.r = r, .save_at = now + SAVE_NS, .next_at = now, .delay_ms = -1};
    w.lapses = r->lapses;
    hk_random(&w.rng, sizeof w.rng);
    w.step = r->row.r.rate > 0 ? INT64_C(1000000000) / r->row.r.rate : 0;
    reads(&w);
    conclude(&w);
    save_end(&w);
    if (r->free_ud)
        r->free_ud(r->ud);
    hk_replay_drop(r);
    hk_replay_release(r);
    hk_guard_thread_end();
    hk_bus_thread_end(bus);
    return NULL;
}
