/* why.c: why a consumer stands where it stands. Facts are gathered first, of the cores under the
 * consumer's lock or of the store for one that is not open here; what they mean is decided from them
 * alone (judge); then it is said as fields and as one sentence (tell). On a shared store that is told of the shares that
 * are here; of one that is not open here, of all. */
#include "bus/party_i.h"

#include <stdio.h>
#include <string.h>

enum { KEY_MAX = sizeof(((hark_why_info *)0)->key), ERROR_MAX = 160 };
#define SECOND INT64_C(1000000000)
#define SLOW   SECOND /* a handler that runs for so long is worth telling of */

typedef struct facts {
    const char *name;
    bool open_here, stale, pull;
    bool gap; /* one is to be handed out */
    bool read_only;
    bool lapsed;         /* shared stores: the lease of this process is over */
    size_t shares, here; /* it has, and those that are in this process */
    hark_err read_err;   /* of the last read */
    hark_err commit_err; /* of the last group; HARK_OK = not known */
    int64_t failed_ns;   /* wall; 0 = the last group was committed */
    bool unsaved;        /* it waits for a commit */
    bool unread;         /* the log has more for it than was read */
    size_t workers;
    size_t stuck; /* handlers that have timed out, when no thread is left beside them */
    uint64_t lag;
    int64_t due; /* mono; hk_core_due */
    hark_store_rerun rerun;
    hk_core_facts core; /* its keys point to those below, or are NULL */
    char running_key[KEY_MAX], retry_key[KEY_MAX], parked_key[KEY_MAX];
    char retry_error[ERROR_MAX];
    hk_now now;
} facts;

/* ---- deciding -------------------------------------------------------------------------------- */

static int64_t to_wall(const facts *f, int64_t mono)
{
    return f->now.wall + (mono - f->now.mono);
}

static int64_t running_for(const facts *f)
{
    return f->core.running ? f->now.mono - f->core.running_since : 0;
}

/* Both a slow handler and a lane that retries: what has stood longer is told. */
static bool slow_before_retry(const facts *f)
{
    return running_for(f) >= SLOW && to_wall(f, f->core.running_since) < f->core.retry_first_wall;
}

static hark_why_code judge_closed(const facts *f)
{
    if (f->core.paused)
        return HARK_WHY_PAUSED;
    bool waits = f->unread || f->core.waiting > 0;
    return f->core.parked_keys > 0 && !waits ? HARK_WHY_PARKED : HARK_WHY_NOT_OPEN;
}

/* What holds up the whole consumer, the farthest-reaching cause first. HARK_WHY_IDLE: nothing does. */
static hark_why_code judge_stop(const facts *f)
{
    const hk_core_facts *c = &f->core;
    if (f->read_only)
        return HARK_WHY_STORE_FAILING;
    if (c->paused)
        return HARK_WHY_PAUSED;
    if (f->lapsed || f->read_err || (f->failed_ns && f->unsaved))
        return HARK_WHY_STORE_FAILING;
    if (f->stale || f->here == 0)
        return HARK_WHY_NOT_OPEN;
    if (c->ledger_full && f->unread)
        return HARK_WHY_LEDGER_FULL;
    if (f->stuck || ((c->running >= f->workers || c->alone) && running_for(f) >= SLOW))
        return HARK_WHY_WORKER_BUSY;
    if (c->window_full && f->unread && c->ready == 0 && c->running > 0 && c->running < f->workers)
        return HARK_WHY_WINDOW_FULL;
    return c->throttled ? HARK_WHY_THROTTLED : HARK_WHY_IDLE;
}

static hark_why_code judge(const facts *f)
{
    const hk_core_facts *c = &f->core;
    if (!f->open_here)
        return judge_closed(f);
    hark_why_code stop = judge_stop(f);
    if (stop)
        return stop;
    if (c->ready > 0 || f->unread || f->gap)
        return HARK_WHY_CATCHING_UP;
    if (c->waiting > 0 && !slow_before_retry(f))
        return HARK_WHY_LANE_WAITING;
    if (running_for(f) >= SLOW)
        return HARK_WHY_WORKER_BUSY;
    if (c->running > 0 || c->in_memory > 0)
        return HARK_WHY_CATCHING_UP;
    if (c->parked_keys > 0)
        return HARK_WHY_PARKED;
    return c->deferred > 0 ? HARK_WHY_CATCHING_UP : HARK_WHY_IDLE; /* a row is being saved */
}

/* ---- saying it ------------------------------------------------------------------------------- */

/* Adds to the text; what does not fit is cut, at a character. */
static void HARK_PRINTF(2, 3) say(hark_why_info *r, const char *fmt, ...)
{
    size_t at = strlen(r->text);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(r->text + at, sizeof r->text - at, fmt, ap);
    va_end(ap);
    r->text[hk_utf8_valid(r->text, strlen(r->text))] = '\0';
}

typedef struct words {
    char s[40];
} words;

/* "2 keys", "1 key" */
static words many(uint64_t n, const char *what)
{
    words w;
    (void)snprintf(w.s, sizeof w.s, "%llu %s%s", (unsigned long long)n, what, n == 1 ? "" : "s");
    return w;
}

static words two_units(int64_t big, const char *big_unit, int64_t small, const char *small_unit)
{
    words w;
    (void)snprintf(w.s, sizeof w.s, small ? "%lld %s %lld %s" : "%lld %s", (long long)big, big_unit,
                   (long long)small, small_unit);
    return w;
}

/* "4.2 s", "3 min 10 s" */
static words span(int64_t ns)
{
    words w;
    int64_t s = ns / SECOND;
    if (ns < SECOND)
        (void)snprintf(w.s, sizeof w.s, "%lld ms", (long long)(ns > 0 ? ns / 1000000 : 0));
    else if (s < 60)
        (void)snprintf(w.s, sizeof w.s, "%lld.%lld s", (long long)s,
                       (long long)(ns % SECOND / (SECOND / 10)));
    else if (s < 3600)
        w = two_units(s / 60, "min", s % 60, "s");
    else if (s < 86400)
        w = two_units(s / 3600, "h", s % 3600 / 60, "min");
    else
        w = two_units(s / 86400, "d", s % 86400 / 3600, "h");
    return w;
}

static words ago(const facts *f, int64_t wall)
{
    return span(f->now.wall - wall);
}

/* What the sentence is about: an event, in its lane. */
static void about(hark_why_info *r, uint64_t seq, const char *key)
{
    r->sequence = seq;
    (void)snprintf(r->key, sizeof r->key, "%s", key ? key : "");
}

/* `sequence 41 of key "k"` */
static void say_event(hark_why_info *r, uint64_t seq, const char *key)
{
    say(r, key ? "sequence %llu of key \"%s\"" : "sequence %llu, which has no key,",
        (unsigned long long)seq, key);
}

static void say_running(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    about(r, c->oldest_running, c->running_key);
    r->since_ns = to_wall(f, c->running_since);
    r->attempts = c->running_attempts;
    say_event(r, c->oldest_running, c->running_key);
    say(r, " has been %s for %s", f->pull ? "out" : "running", span(running_for(f)).s);
    if (c->running_attempts)
        say(r, " (attempt %lld)", (long long)c->running_attempts + 1);
}

static void say_retry(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    int64_t left = c->retry_due - f->now.mono;
    about(r, c->next_retry, c->retry_key);
    r->since_ns = c->retry_first_wall;
    r->next_ns = to_wall(f, c->retry_due);
    r->attempts = c->retry_attempts;
    say_event(r, c->next_retry, c->retry_key);
    say(r, c->retry_attempts ? " failed %s" : " waits for its first attempt",
        many((uint64_t)c->retry_attempts, "time").s);
    if (c->retry_first_wall)
        say(r, ", first tried %s ago", ago(f, c->retry_first_wall).s);
    if (left > 0)
        say(r, "; next attempt in %s", span(left).s);
    else
        say(r, "; its next attempt is due");
    if (c->retry_error)
        say(r, "; %s", c->retry_error);
}

static void say_parked(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    about(r, c->first_parked, c->parked_key);
    r->since_ns = c->parked_since_wall;
    say(r, "%s parked behind dead letters", many(c->parked_keys, "key").s);
    say(r, ", the first is ");
    say_event(r, c->first_parked, c->parked_key);
    if (c->parked_since_wall)
        say(r, " for %s", ago(f, c->parked_since_wall).s);
    say(r, "; redrive or discard its dead letter");
}

/* What is so beside the cause that was told. */
static void say_also(const facts *f, hark_why_info *r, bool retries)
{
    const hk_core_facts *c = &f->core;
    if (retries && c->waiting > 0)
        say(r, "; %s waiting for a retry", many(c->waiting, "event").s);
    if (c->behind > 0)
        say(r, "; %s behind retries", many(c->behind, "event").s);
    if (c->parked_keys > 0)
        say(r, "; %s parked", many(c->parked_keys, "key").s);
}

static void tell_idle(const facts *f, hark_why_info *r)
{
    say(r, "is idle: all up to sequence %llu is settled", (unsigned long long)f->core.floor);
}

static void tell_catching_up(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    say(r, "is at work: %s of the log to go", many(r->lag, "position").s);
    say(r, ", %zu running, %zu ready", c->running, c->ready);
    if (f->pull && c->running < f->workers)
        say(r, "; the program takes them with hark_next");
    say_also(f, r, true);
}

static void tell_not_open(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    if (f->open_here && !f->stale) {
        say(r,
            "has nothing to do here: none of its %zu shares is this process's; other processes "
            "have them, or they come within seconds",
            f->shares);
        return;
    }
    if (f->open_here) {
        say(r,
            "starts nothing while it is reset; if that lasts, it was reset or removed by somebody "
            "else: subscribe again");
        return;
    }
    uint64_t rows = c->waiting + c->behind + c->parked + c->parked_keys;
    say(r, "is not open: nobody in this process subscribes with this name; ");
    if (f->unread)
        say(r, "events wait from sequence %llu on", (unsigned long long)c->floor + 1);
    if (rows)
        say(r, "%s%s of its ledger wait", f->unread ? ", and " : "", many(rows, "row").s);
    if (!rows && !f->unread)
        say(r, "nothing waits for it");
}

static void tell_paused(const facts *f, hark_why_info *r)
{
    say(r, "is paused, until hark_consumer_resume; %s of the log to go",
        many(r->lag, "position").s);
    if (f->core.running)
        say(r, ", %zu still running", f->core.running);
    if (!f->open_here)
        say(r, "; it is not open in this process either");
    say_also(f, r, true);
}

static void tell_store_failing(const facts *f, hark_why_info *r)
{
    r->since_ns = f->failed_ns;
    if (f->lapsed && !f->read_only) {
        say(r, "starts nothing: the lease of this process is over, since the store did not answer "
               "in time; other processes may take its shares over, and it goes on when the store "
               "answers");
    } else if (f->read_only) {
        say(r, "cannot save what it does: the store takes no more writes since a failure; mend its "
               "cause (see the log) and open the bus again");
    } else if (f->read_err) {
        say(r, "cannot read the log: %s; it tries again ten times a second",
            hark_err_text(f->read_err));
    } else {
        say(r, "cannot save what it does: commits fail, the last one %s ago",
            ago(f, f->failed_ns).s);
        say(r, ": %s", f->commit_err ? hark_err_text(f->commit_err) : "see the log for the reason");
    }
}

static void tell_ledger_full(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    say(r,
        "reads no further: its ledger is full (max_deferred) with %s that retry, wait behind "
        "retries or are parked; ",
        many(c->deferred, "event").s);
    if (c->waiting > 0)
        say_retry(f, r);
    else if (c->parked_keys > 0)
        say_parked(f, r);
    else
        say(r, "%zu running", c->running);
}

static void tell_window_full(const facts *f, hark_why_info *r)
{
    say(r, "reads no further: its window is full with %s, all of keys that run already; ",
        many(f->core.in_memory, "event").s);
    say_running(f, r);
}

static void tell_worker_busy(const facts *f, hark_why_info *r)
{
    const hk_core_facts *c = &f->core;
    if (f->stuck) {
        say(r, "has no thread left: %s timed out and did not return", many(f->stuck, "handler").s);
        return;
    }
    say(r, "is busy: %zu of %s at work, ", c->running, many(f->workers, "worker").s);
    say_running(f, r);
    if (c->alone)
        say(r, "; it runs alone, since processes have died beside it");
    say_also(f, r, true);
}

static void tell_lane_waiting(const facts *f, hark_why_info *r)
{
    say(r, "has only retries to do: ");
    say_retry(f, r);
    if (f->core.waiting > 1)
        say(r, "; %zu more events wait for a retry", f->core.waiting - 1);
    say_also(f, r, false);
}

static void tell_parked(const facts *f, hark_why_info *r)
{
    say(r, "has nothing else to do: ");
    say_parked(f, r);
    if (f->core.parked > 0)
        say(r, "; %s behind them", many(f->core.parked, "event").s);
}

static void tell_throttled(const facts *f, hark_why_info *r)
{
    if (f->due >= 0)
        r->next_ns = to_wall(f, f->due);
    say(r, "is held to %s a second by replay %s; %s of the log to go",
        many((uint64_t)f->rerun.rate, "event").s, f->rerun.id, many(r->lag, "position").s);
    say_also(f, r, true);
}

static const char *const names[] = {
    [HARK_WHY_IDLE] = "idle",
    [HARK_WHY_CATCHING_UP] = "catching-up",
    [HARK_WHY_NOT_OPEN] = "not-open",
    [HARK_WHY_PAUSED] = "paused",
    [HARK_WHY_STORE_FAILING] = "store-failing",
    [HARK_WHY_LEDGER_FULL] = "ledger-full",
    [HARK_WHY_WINDOW_FULL] = "window-full",
    [HARK_WHY_WORKER_BUSY] = "worker-busy",
    [HARK_WHY_LANE_WAITING] = "lane-waiting",
    [HARK_WHY_PARKED] = "parked",
    [HARK_WHY_THROTTLED] = "throttled",
};

const char *hark_why_name(int64_t code)
{
    return code >= 0 && code < (int64_t)HK_COUNTOF(names) ? names[code] : "other";
}

static void (*const tellers[])(const facts *, hark_why_info *) = {
    [HARK_WHY_IDLE] = tell_idle,
    [HARK_WHY_CATCHING_UP] = tell_catching_up,
    [HARK_WHY_NOT_OPEN] = tell_not_open,
    [HARK_WHY_PAUSED] = tell_paused,
    [HARK_WHY_STORE_FAILING] = tell_store_failing,
    [HARK_WHY_LEDGER_FULL] = tell_ledger_full,
    [HARK_WHY_WINDOW_FULL] = tell_window_full,
    [HARK_WHY_WORKER_BUSY] = tell_worker_busy,
    [HARK_WHY_LANE_WAITING] = tell_lane_waiting,
    [HARK_WHY_PARKED] = tell_parked,
    [HARK_WHY_THROTTLED] = tell_throttled,
};

_Static_assert(HK_COUNTOF(names) == HK_COUNTOF(tellers), "each cause has a name");

static void tell(const facts *f, hark_why_code code, hark_why_info *r)
{
    *r = (hark_why_info){.size = sizeof *r,
                         .code = code,
                         .lag = f->lag,
                         .running = f->core.running,
                         .waiting = f->core.waiting,
                         .behind = f->core.behind,
                         .parked = f->core.parked,
                         .parked_keys = f->core.parked_keys};
    say(r, "consumer %s ", f->name);
    tellers[code](f, r);
    if (f->open_here && f->here > 0 && f->here < f->shares)
        say(r, "; %zu of %zu shares are here", f->here, f->shares);
}

/* ---- gathering ------------------------------------------------------------------------------- */

/* A text of the core's, or of the store's, is only lent. */
static const char *keep(const char *text, char *ret, size_t size)
{
    if (!text)
        return NULL;
    (void)snprintf(ret, size, "%s", text);
    ret[hk_utf8_valid(ret, strlen(ret))] = '\0';
    return ret;
}

static void keep_texts(facts *f)
{
    f->core.running_key = keep(f->core.running_key, f->running_key, KEY_MAX);
    f->core.retry_key = keep(f->core.retry_key, f->retry_key, KEY_MAX);
    f->core.parked_key = keep(f->core.parked_key, f->parked_key, KEY_MAX);
    f->core.retry_error = keep(f->core.retry_error, f->retry_error, ERROR_MAX);
}

static void look_at_bus(hark_bus *bus, facts *f)
{
    f->read_only = hk_mark_get(&bus->read_only) != 0;
    f->failed_ns = (int64_t)hk_mark_get(&bus->writer.last_failed_ns);
    f->commit_err = (hark_err)(int64_t)hk_mark_get(&bus->writer.last_error);
    f->now = hk_bus_now(bus);
    if (f->failed_ns && bus->info.shared)
        f->failed_ns += hk_party_ahead(bus);
    f->lapsed = bus->info.shared && !hk_party_lives(bus);
}

/* Does the log have an event for it after this place? What is after it but of other types does not
 * even wake it. */
static hark_err look_for_unread(hark_bus *bus, const char *pattern, uint64_t after, facts *f,
                                hark_errinfo *ei)
{
    hark_event *e;
    hark_err err = hk_bus_first(bus, pattern, after, &e, ei);
    if (err)
        return err;
    f->unread = e != NULL;
    uint64_t upto = f->unread ? hk_bus_visible(bus) : f->core.covered;
    f->lag = upto > f->core.floor ? upto - f->core.floor : 0;
    hark_event_unref(e);
    return HARK_OK;
}

static hark_err look_here(hark_sub *s, facts *f, hark_errinfo *ei)
{
    hk_consumer *c = s->consumer;
    f->open_here = true;
    f->pull = !s->fn;
    f->workers = c->in_flight;
    pthread_mutex_lock(&c->lock);
    hk_cores_facts_get(c->cores, &f->core);
    keep_texts(f);
    f->shares = c->shares;
    f->here = hk_cores_count(c->cores);
    f->stale = c->stale;
    f->gap = c->gap_to != 0;
    f->read_err = c->read_err;
    f->rerun = c->rerun;
    f->due = hk_cores_due(c->cores);
    f->unsaved = c->stale || c->queued || hk_cores_dirt(c->cores, hk_consumer_now(c)) != HK_CLEAN;
    f->stuck = c->stuck >= c->threads + c->to_start ? c->stuck : 0;
    pthread_mutex_unlock(&c->lock);
    look_at_bus(s->bus, f);
    if (f->here == 0) /* what is unread is others' to read */
        return HARK_OK;
    hark_err err = look_for_unread(s->bus, s->pattern, f->core.covered, f, ei);
    if (err == HARK_ECLOSED)
        return err;
    f->read_err = err ? err : f->read_err;
    return HARK_OK;
}

static void count_row(facts *f, const hark_store_row *row)
{
    hk_core_facts *c = &f->core;
    c->waiting += row->state == HARK_ROW_RETRY;
    c->behind += row->state == HARK_ROW_BEHIND;
    c->parked += row->state == HARK_ROW_PARKED;
    if (row->state == HARK_ROW_DEAD && c->parked_keys++ == 0) {
        c->first_parked = row->sequence;
        c->parked_key = keep(row->key, f->parked_key, KEY_MAX);
        c->parked_since_wall = row->due_ns;
    }
}

static hark_err look_at_share(hark_bus *bus, facts *f, uint32_t share, hark_store_consumer *ret,
                              hark_errinfo *ei)
{
    hk_core_facts *c = &f->core;
    hark_err err = hk_consumer_look(bus, f->name, share, ret, ei);
    if (err == HARK_ENOTFOUND)
        return hk_fail(ei, err, "no consumer '%.140s' is registered; hark_consumers lists them",
                       f->name);
    if (err)
        return err;
    c->floor = c->covered = share > 0 && c->floor < ret->ret_floor ? c->floor : ret->ret_floor;
    c->paused = ret->ret_paused != 0;
    for (size_t i = 0; i < ret->ret_n_rows; i++)
        count_row(f, &ret->ret_rows[i]);
    return HARK_OK;
}

static hark_err look_in_store(hark_bus *bus, facts *f, hark_errinfo *ei)
{
    hark_store_consumer state;
    hark_err err = look_at_share(bus, f, 0, &state, ei);
    if (err)
        return err;
    for (uint32_t i = 1; !err && i < state.ret_shares; i++) {
        hark_store_consumer other;
        err = look_at_share(bus, f, i, &other, ei);
        if (!err)
            hark_store_consumer_clear(&other);
    }
    if (!err)
        err = look_for_unread(bus, state.ret_pattern, f->core.floor, f, ei);
    hark_store_consumer_clear(&state);
    look_at_bus(bus, f);
    return err;
}

hark_err hark_why(hark_bus *bus, const char *consumer, hark_why_info *ret, hark_errinfo *ei)
{
    if (!consumer || ret->size != sizeof *ret)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_why: give a consumer's name and set hark_why_info.size to %zu",
                       sizeof *ret);
    hark_err err = hk_may_operate(bus, "hark_why", ei);
    if (err)
        return err;
    facts f = {.name = consumer};
    hark_sub *s = hk_consumer_find(bus, consumer);
    if (s) {
        err = look_here(s, &f, ei);
        hk_sub_release(s);
    } else {
        err = look_in_store(bus, &f, ei);
    }
    if (err)
        return err;
    tell(&f, judge(&f), ret);
    return HARK_OK;
}
