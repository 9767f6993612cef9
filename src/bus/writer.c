/* writer.c: the one thread that writes. It takes everything that has queued up, makes one group of
 * it (group.c), and by the time that group is committed the next one has queued up: no timer. Only
 * what nobody waits for, plain acks of consumers, waits up to LAZY_NS for company. */
#include "bus/bus_i.h"

#define LAZY_NS         (INT64_C(5) * 1000000)
#define MAINTAIN_NS     (INT64_C(2) * 1000000)
#define MAINTAIN_MAX_NS (INT64_C(20) * 1000000) /* where groups are long */
/* For how long a job is repeated that other processes overtake, and its rests */
#define INSIST_NS    (INT64_C(5) * 1000000000)
#define REST_NS      (INT64_C(1) * 1000000)
#define REST_MOST_NS (INT64_C(50) * 1000000)

void hk_list_append(hk_list *l, hk_work *work)
{
    work->node.next = NULL;
    if (l->last)
        l->last->next = &work->node;
    else
        l->first = &work->node;
    l->last = &work->node;
}

hk_work *hk_list_shift(hk_list *l)
{
    hk_node *n = l->first;
    if (!n)
        return NULL;
    l->first = n->next;
    if (!l->first)
        l->last = NULL;
    return (hk_work *)(void *)n;
}

static void sort_in(hk_writer *w, hk_node *n)
{
    for (hk_node *next; n; n = next) {
        next = n->next;
        hk_work *work = (hk_work *)(void *)n;
        hk_list_append(work->kind == HK_PUBLISH ? &w->backlog
                       : work->kind == HK_JOB   ? &w->jobs
                                                : &w->saves,
                       work);
        if (work->kind == HK_SAVE && !w->saves_since_ns)
            w->saves_since_ns = hk_mono_ns();
    }
}

static bool urgent_saves(hk_writer *w)
{
    for (hk_node *n = w->saves.first; n; n = n->next)
        if (hk_consumer_dirt((hk_consumer *)(void *)n) == HK_DIRTY_URGENT)
            return true;
    return false;
}

/* How long the group may wait: 0 = not at all, -1 = nothing is there. */
static int64_t patience(hk_writer *w)
{
    if (w->backlog.first || w->jobs.first)
        return 0;
    if (!w->saves.first)
        return -1;
    int64_t now = hk_mono_ns();
    if (now < w->retry_at_ns)
        return w->retry_at_ns - now;
    if (urgent_saves(w) || hk_mark_get(&w->stopping))
        return 0;
    int64_t left = w->saves_since_ns + LAZY_NS - now;
    return left > 0 ? left : 0;
}

/* Housekeeping may take as long as two groups: whoever waits, waits for those as well, and large
 * slices of it are cheaper. */
static int64_t maintain_ns(const hk_writer *w)
{
    int64_t ns = w->group_ns * 2;
    return ns < MAINTAIN_NS ? MAINTAIN_NS : ns > MAINTAIN_MAX_NS ? MAINTAIN_MAX_NS : ns;
}

/* Housekeeping between groups. False when there is none left. */
static bool maintain(hark_bus *bus)
{
    if (hk_mark_get(&bus->read_only))
        return false;
    bool more = bus->ops->maintain && bus->ops->maintain(bus->store, maintain_ns(&bus->writer));
    return hk_retain_turn(bus) || more;
}

/* Rules of retention and what could not be announced ask for a look now and then. */
static int64_t look_again(hark_bus *bus, int64_t wait)
{
    int64_t most = hk_given_up_any(bus)  ? INT64_C(500000000)
                   : hk_retains_any(bus) ? INT64_C(1000000000)
                                         : -1;
    return most >= 0 && (wait < 0 || wait > most) ? most : wait;
}

static void refuse(hark_bus *bus, hk_work *work)
{
    if (work->kind == HK_PUBLISH) {
        hk_request_done(bus, (hk_request *)(void *)work, HARK_ECLOSED);
    } else if (work->kind == HK_JOB) {
        hk_job *job = (hk_job *)(void *)work;
        job->err = hk_fail(job->ei, HARK_ECLOSED, "the bus is closed");
        hk_gate_open(&job->done);
    } else {
        hk_consumer_saved((hk_consumer *)(void *)work, HARK_ECLOSED);
    }
}

/* Everything that comes when the writer is gone. Whoever pushes after that calls it too. */
static void refuse_all(hark_bus *bus)
{
    hk_node *n = hk_inbox_take(&bus->writer.inbox);
    for (hk_node *next; n; n = next) {
        next = n->next;
        refuse(bus, (hk_work *)(void *)n);
    }
}

void hk_writer_push(hark_bus *bus, hk_work *work)
{
    hk_inbox_push(&bus->writer.inbox, &work->node);
    if (HK_UNLIKELY(hk_mark_get_strong(&bus->gate) == HK_CLOSED))
        refuse_all(bus);
}

static void group(hark_bus *bus)
{
    int64_t began = hk_mono_ns();
    hk_group(bus);
    bus->writer.group_ns = hk_mono_ns() - began;
}

/* One turn at writing. Returns how long to wait for the next one: 0 = not at all. */
static int64_t turn(hark_bus *bus, bool stopping)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->role);
    sort_in(w, hk_inbox_take(&w->inbox));
    if (stopping && !w->ending) { /* what failed a moment ago is tried once more */
        w->ending = true;
        w->retry_at_ns = 0;
    }
    int64_t due = stopping ? -1 : hk_schedules_due(bus);
    hk_given_up_turn(bus);
    due = stopping ? -1 : hk_sooner(due, hk_sweep_turn(bus));
    int64_t wait = patience(w);
    if (wait == 0)
        group(bus);
    else
        wait = hk_sooner(wait, due);
    if (!stopping && maintain(bus))
        wait = 0; /* more of it to do */
    pthread_mutex_unlock(&w->role);
    return stopping ? wait : look_again(bus, wait);
}

static void *writer_main(void *arg)
{
    hark_bus *bus = arg;
    hk_writer *w = &bus->writer;
    (void)hk_role_set(HK_ROLE_WRITER);
    for (;;) {
        /* Before looking at anything, so that no push, wake or stop in between is slept through,
         * and nothing is left that was pushed before the stop. */
        unsigned seen = hk_gate_look(&w->inbox.gate);
        bool stopping = hk_mark_get(&w->stopping);
        int64_t wait = turn(bus, stopping);
        if (stopping && wait != 0) /* nothing is there, or only saves that keep failing */
            break;
        if (wait != 0)
            (void)hk_gate_wait(&w->inbox.gate, seen, wait);
    }
    pthread_mutex_lock(&w->role);
    hk_mark_set_strong(&bus->gate, HK_CLOSED);
    for (hk_work *work; (work = hk_list_shift(&w->backlog)) || (work = hk_list_shift(&w->jobs)) ||
                        (work = hk_list_shift(&w->saves));) {
        w->unsaved += work->kind == HK_SAVE;
        refuse(bus, work);
    }
    pthread_mutex_unlock(&w->role);
    refuse_all(bus);
    return NULL;
}

/* Groups led by publishers before the writer is woken for housekeeping. */
enum { LED_MAX = 32 };

bool hk_writer_lead(hark_bus *bus, hk_work *work)
{
    hk_writer *w = &bus->writer;
    if (pthread_mutex_trylock(&w->role) != 0)
        return false;
    bool lead = !w->backlog.first && !w->jobs.first && !hk_mark_get(&w->stopping);
    bool wake = false;
    if (lead) {
        hk_role before = hk_role_set(HK_ROLE_WRITER);
        sort_in(w, hk_inbox_take(&w->inbox));
        hk_list_append(&w->backlog, work);
        group(bus);
        (void)hk_role_set(before);
        wake = w->backlog.first || w->jobs.first || w->saves.first || ++w->led % LED_MAX == 0;
    }
    pthread_mutex_unlock(&w->role);
    if (wake)
        hk_inbox_wake(&w->inbox);
    return lead;
}

hark_err hk_writer_start(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    hark_err err = hk_mark_get(&bus->writer.stopping) ? HARK_ECLOSED : HARK_OK;
    if (!err && !bus->writer.running) {
        err = hk_thread_start(&bus->writer.thread, "hark-writer", writer_main, bus);
        bus->writer.running = err == HARK_OK;
    }
    pthread_mutex_unlock(&bus->lock);
    return err;
}

void hk_writer_stop(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    bool running = bus->writer.running;
    bus->writer.running = false;
    hk_mark_set_strong(&bus->writer.stopping, 1); /* from here on none is started */
    pthread_mutex_unlock(&bus->lock);
    if (running) {
        hk_inbox_wake(&bus->writer.inbox);
        pthread_join(bus->writer.thread, NULL);
    } else {
        hk_mark_set_strong(&bus->gate, HK_CLOSED);
        refuse_all(bus);
    }
    hk_gate_open(&bus->writer.room);
}

static hark_err run_once(hark_bus *bus, hark_err (*run)(hark_bus *, void *, hark_errinfo *),
                         void *ud, hark_errinfo *ei)
{
    hk_job job = {.work.kind = HK_JOB, .run = run, .ud = ud, .ei = ei};
    hk_gate_init(&job.done);
    hk_writer_push(bus, &job.work);
    while (hk_gate_look(&job.done) == 0)
        (void)hk_gate_wait(&job.done, 0, -1);
    return job.err;
}

/* Whoever was quicker has committed, so that not all stand still; but one whose job takes long may be overtaken again and
 * again. It rests, longer each time, and not for ever: callers have `admin`, which others wait for. */
hark_err hk_writer_insist(hark_bus *bus, hark_err (*run)(hark_bus *, void *, hark_errinfo *),
                          void *ud, hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + INSIST_NS;
    uint64_t rng = (uint64_t)until;
    for (int64_t n = 1;; n++) {
        hark_err err = run_once(bus, run, ud, ei);
        int64_t now = hk_mono_ns();
        if (err != HARK_EAGAIN || !bus->info.shared || now >= until)
            return err;
        (void)hk_bus_rest(bus, now + hk_backoff(REST_NS, REST_MOST_NS, n, &rng));
    }
}
