/* Living a story: see story.h. */
#include "story.h"

#include "kit.h"
#include "story_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct session {
    story *s;
    hark_bus *bus;
    hark_sub *live, *letters, *subs[2];
    story_taker takers[2];
} session;

static char buf[STORY_DATA];

/* ---- publishing ---- */

static void told(story *s, size_t n, hark_err err, const hark_receipt *r)
{
    story_lock();
    story_event *e = &s->events[n];
    e->answered = true;
    e->err = err;
    if (!err) {
        e->seq = r->sequence;
        if (e->told == STORY_NEVER)
            e->told = s->now();
    }
    story_unlock();
}

static hark_event_spec ask(story *s, size_t n, size_t first, size_t count, char id[16], char key[8],
                           char *data)
{
    hark_event_spec spec = story_spec(n, s->big, id, key, data);
    story_lock();
    s->events[n].asked = s->now();
    s->events[n].first = first;
    s->events[n].count = count;
    story_unlock();
    return spec;
}

static void publish(session *x, size_t from, size_t to)
{
    char id[16], key[8];
    hark_receipt r;
    for (size_t n = from; n < to; n++) {
        hark_event_spec spec = ask(x->s, n, n, 1, id, key, buf);
        hark_err err = hark_publish(x->bus, &spec, &r);
        told(x->s, n, err, &r);
    }
}

static void publish_batch(session *x, size_t from, size_t to)
{
    enum { MOST = 8, ROOM = 8192 };
    static char ids[MOST][16], keys[MOST][8];
    hark_event_spec specs[MOST];
    const hark_event_spec *list[MOST] = {NULL};
    hark_receipt r[MOST];
    size_t n = to - from;
    KIT_CHECK(n <= MOST && MOST * ROOM <= sizeof buf, "a batch of %zu", n);
    for (size_t i = 0; i < n; i++) {
        specs[i] = ask(x->s, from + i, from, n, ids[i], keys[i], buf + i * ROOM);
        list[i] = &specs[i];
    }
    hark_err err = hark_publish_batch(x->bus, list, n, r, NULL);
    for (size_t i = 0; i < n; i++)
        told(x->s, from + i, err, &r[i]);
}

typedef struct placing {
    size_t n;
    hark_event_spec spec;
} placing;

static hark_err place(hark_tx *tx, void *ud)
{
    const placing *p = ud;
    hark_err err = story_row(tx, STORY_ROWS, p->n);
    return err ? err : hark_tx_publish(tx, &p->spec, NULL);
}

/* Each with a row, in one transaction. */
static void transact(session *x, size_t from, size_t to)
{
    char id[16], key[8];
    hark_receipt r;
    for (size_t n = from; n < to; n++) {
        placing p = {.n = n, .spec = ask(x->s, n, n, 1, id, key, buf)};
        const hark_tx_opts *patient = HARK_OPTS(hark_tx_opts, .deadline_ms = 10000);
        hark_err err = hark_transact(x->bus, place, &p, patient, &r, NULL);
        told(x->s, n, err, &r);
    }
}

static session *current; /* async receipts carry only a number */

static void on_published(hark_err err, const hark_receipt *r, void *ud)
{
    told(current->s, (size_t)ud, err, r);
}

static bool all_answered(story *s, void *ud)
{
    (void)ud;
    for (size_t n = 0; n < STORY_EVENTS; n++)
        if (s->events[n].asked != STORY_NEVER && !s->events[n].answered)
            return false;
    return true;
}

static void publish_async(session *x, size_t from, size_t to)
{
    char id[16], key[8];
    for (size_t n = from; n < to; n++) {
        hark_event_spec spec = ask(x->s, n, n, 1, id, key, buf);
        hark_err err = hark_publish_async(x->bus, &spec, on_published, (void *)n);
        if (err)
            told(x->s, n, err, NULL);
    }
}

/* ---- what a live subscriber sees is in the log ---- */

static hark_verdict on_live(hark_delivery *d, void *ud)
{
    story *s = ud;
    size_t n = story_number(hark_delivery_event(d));
    if (n == STORY_NEVER)
        return HARK_ACK;
    story_lock();
    story_event *e = &s->events[n];
    KIT_CHECK(!e->seq || e->seq == hark_delivery_sequence(d), "event %zu was seen at %llu", n,
              (unsigned long long)hark_delivery_sequence(d));
    e->seq = hark_delivery_sequence(d);
    if (e->told == STORY_NEVER)
        e->told = s->now();
    story_unlock();
    return HARK_ACK;
}

/* A dead letter is announced by its consumer's name and the event's sequence. */
static hark_verdict on_letter(hark_delivery *d, void *ud)
{
    story *s = ud;
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    const char *at = data ? strstr(data, "\"sequence\":") : NULL;
    int c = data && strstr(data, "\"consumer\":\"parks\"") ? 1 : 0;
    KIT_CHECK(at != NULL, "a strange dead_letter: %.100s", data ? data : "no data");
    uint64_t seq = strtoull(at + strlen("\"sequence\":"), NULL, 10);
    story_lock();
    for (size_t n = 0; n < STORY_EVENTS; n++)
        if (s->events[n].seq == seq && s->announced[c][n] == STORY_NEVER)
            s->announced[c][n] = s->now();
    story_unlock();
    return HARK_ACK;
}

/* ---- waiting for consumers ---- */

/* In a parked lane everything behind a dead letter waits. */
static bool behind_a_dead_letter(const story *s, size_t n)
{
    for (size_t m = 0; m < STORY_EVENTS; m++) {
        if (m % STORY_KEYS != n % STORY_KEYS || story_is_big(m) || !s->events[m].seq ||
            s->events[m].seq >= s->events[n].seq)
            continue;
        if (story_end(s, 1, m, STORY_NEVER) == HARK_REJECT)
            return true;
    }
    return false;
}

static bool all_decided(story *s, void *ud)
{
    const session *x = ud;
    for (int c = 0; c < 2; c++)
        for (size_t n = 0; x->subs[c] && n < STORY_EVENTS; n++) {
            const story_event *e = &s->events[n];
            if (!e->seq || story_is_big(n) || story_end(s, c, n, STORY_NEVER) != HARK_RETRY)
                continue;
            if (c == 0 || !behind_a_dead_letter(s, n))
                return false;
        }
    return true;
}

/* ---- schedules, dead letters, replay ---- */

static hark_schedule_id schedule(session *x, size_t n, int64_t after_ms)
{
    char id[16], key[8];
    hark_schedule_id sid = 0;
    hark_event_spec spec = ask(x->s, n, n, 1, id, key, buf);
    story_lock();
    x->s->events[n].scheduled = true;
    story_unlock();
    hark_err err = hark_schedule(x->bus, &spec, hark_after(after_ms), &sid, NULL);
    story_lock();
    x->s->events[n].answered = true;
    x->s->events[n].err = err;
    if (!err)
        x->s->events[n].kept_at = x->s->now();
    story_unlock();
    return err ? 0 : sid;
}

static void cancel(session *x, size_t n, hark_schedule_id sid)
{
    story_lock();
    x->s->events[n].cancel_asked = x->s->now();
    story_unlock();
    hark_err err = hark_schedule_cancel(x->bus, sid, NULL);
    story_lock();
    if (!err)
        x->s->events[n].cancelled_at = x->s->now();
    story_unlock();
}

static bool scheduled_came(story *s, void *ud)
{
    size_t n = *(const size_t *)ud;
    return s->events[n].told != STORY_NEVER;
}

typedef struct pick {
    const story *s;
    int consumer;
    uint64_t id;
    size_t n;
} pick;

static bool pick_first(const hark_dead_letter *l, void *ud)
{
    pick *p = ud;
    p->id = l->id;
    p->n = story_number(l->event);
    return false;
}

static void mend(session *x, int consumer, bool discard)
{
    pick p = {.s = x->s, .consumer = consumer, .n = STORY_NEVER};
    hark_err err = hark_dead_letters(
        x->bus, HARK_OPTS(hark_dead_filter, .consumer = story_consumers[consumer], .limit = 1),
        pick_first, &p, NULL);
    if (err || !p.id || p.n == STORY_NEVER)
        return;
    story_lock();
    story_mend *m = &x->s->mends[x->s->n_mends++];
    *m = (story_mend){.consumer = consumer,
                      .n = p.n,
                      .discard = discard,
                      .asked = x->s->now(),
                      .told = STORY_NEVER};
    story_unlock();
    err = discard ? hark_discard(x->bus, p.id, NULL) : hark_redrive(x->bus, p.id, NULL);
    story_lock();
    if (!err)
        m->told = x->s->now();
    story_unlock();
}

static hark_verdict on_replay(hark_delivery *d, void *ud)
{
    (void)ud;
    return hark_delivery_replay_id(d) ? HARK_ACK : HARK_REJECT;
}

static void replay(session *x)
{
    hark_replay_info info = {.size = sizeof info};
    if (hark_replay(x->bus, on_replay, NULL, HARK_OPTS(hark_replay_opts, .type = STORY_SMALL),
                    &info, NULL))
        return;
    hark_err err = hark_replay_wait(x->bus, info.id, x->s->patience_ms, &info, NULL);
    if (err == HARK_ETIMEDOUT && !(x->s->over && x->s->over()))
        (void)snprintf(x->s->stuck, sizeof x->s->stuck, "the end of a replay");
}

static void read_all(session *x)
{
    hark_page *page = NULL;
    if (hark_read(x->bus, HARK_OPTS(hark_read_opts, .limit = 50), &page, NULL))
        return;
    hark_page_free(page);
}

/* ---- sessions ---- */

static bool begin(session *x, story *s)
{
    *x = (session){.s = s, .takers = {{s, 0}, {s, 1}}};
    current = x;
    if (hark_open(s->url, HARK_OPTS(hark_bus_opts, .drain_ms = 2000), &x->bus, NULL))
        return false;
    s->bus = x->bus;
    if (hark_subscribe(x->bus, "t:*", on_live, s, NULL, &x->live, NULL))
        x->live = NULL;
    if (hark_subscribe(x->bus, "dead_letter", on_letter, s, NULL, &x->letters, NULL))
        x->letters = NULL;
    for (int c = 0; c < 2; c++)
        if (story_consume(&x->takers[c], x->bus, &x->subs[c]))
            x->subs[c] = NULL;
    return true;
}

static void end(session *x)
{
    (void)story_await(x->s, all_answered, NULL, "the receipts of async publishes");
    (void)story_await(x->s, all_decided, x, "the consumers");
    hark_err err = hark_drain(x->bus, x->s->patience_ms, NULL);
    if (err == HARK_ETIMEDOUT)
        (void)snprintf(x->s->stuck, sizeof x->s->stuck, "the drain");
    x->s->bus = NULL;
    for (int c = 0; c < 2; c++)
        hark_sub_unref(x->subs[c]);
    hark_sub_unref(x->live);
    hark_sub_unref(x->letters);
    hark_bus_unref(x->bus);
}

static void first_session(story *s)
{
    session x;
    if (!begin(&x, s))
        return;
    publish(&x, 0, 10);
    publish_batch(&x, 10, 15);
    publish_async(&x, 15, 23);
    if (s->big)
        publish(&x, 23, 37);
    publish(&x, 37, 45);
    transact(&x, 66, 70);
    size_t soon = 45;
    bool kept = schedule(&x, soon, 1) != 0;
    (void)schedule(&x, 46, 3600000);
    hark_schedule_id unwanted = schedule(&x, 47, 3600000);
    if (unwanted)
        cancel(&x, 47, unwanted);
    if (kept && x.live)
        (void)story_await(s, scheduled_came, &soon, "a scheduled event");
    end(&x);
}

static void second_session(story *s)
{
    session x;
    if (!begin(&x, s))
        return;
    publish(&x, 48, 60);
    publish_batch(&x, 60, 65);
    transact(&x, 70, 74);
    read_all(&x);
    (void)story_await(s, all_decided, &x, "the consumers");
    mend(&x, 0, false);
    mend(&x, 1, false);
    mend(&x, 1, true);
    replay(&x);
    end(&x);
}

void story_live(story *s)
{
    for (size_t n = 0; n < STORY_EVENTS; n++) {
        story_event *e = &s->events[n];
        e->asked = e->told = e->kept_at = e->cancel_asked = e->cancelled_at = STORY_NEVER;
        s->announced[0][n] = s->announced[1][n] = STORY_NEVER;
    }
    first_session(s);
    if (s->over && s->over())
        return;
    second_session(s);
}
