/* See trail.h. */
#include "trail.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void trail_open(trail *t, const crew *c, const crew_speaker *said)
{
    *t = (trail){.said = said, .workers = c->how.workers, .echo_every = c->how.echo_every};
    t->file = open(c->path, O_RDONLY | O_CLOEXEC);
    KIT_CHECK(t->file >= 0, "cannot open %s", c->path);
}

void trail_close(trail *t)
{
    for (uint32_t k = 0; k < CREW_KEYS_MAX; k++)
        free(t->keys[k].events);
    (void)close(t->file);
}

/* ---- one handling ------------------------------------------------------------------------------ */

typedef struct handling {
    uint32_t who, key, n;
    uint64_t seq;
    int32_t attempt;
} handling;

#define WHAT     "process %u, key %u, number %u (sequence %llu, attempt %d): "
#define ABOUT(h) (h)->who, (h)->key, (h)->n, (unsigned long long)(h)->seq, (h)->attempt

static trail_event *event_of(trail *t, uint32_t key, uint32_t n)
{
    trail_key *k = &t->keys[key];
    while (n >= k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 64;
        k->events = realloc(k->events, cap * sizeof *k->events);
        KIT_CHECK(k->events, "out of memory");
        memset(k->events + k->cap, 0, (cap - k->cap) * sizeof *k->events);
        k->cap = cap;
    }
    return &k->events[n];
}

/* What it handled may come again: it was killed, or stood still since. */
static bool has_lapsed(const trail *t, const trail_event *e)
{
    return t->of[e->who].state || t->of[e->who].life != e->life;
}

/* It was in hand before the stop, or just about to be; all that it does now has to be without
 * consequences. */
static bool is_late(trail *t, const handling *h)
{
    const trail_key *k = &t->keys[h->key];
    const trail_event *e = event_of(t, h->key, h->n);
    trail_process *p = &t->of[h->who];
    if (!p->late || h->n > k->top || has_lapsed(t, e))
        return false;
    p->late--;
    t->late++;
    return true;
}

static void check_sequence(trail *t, const handling *h)
{
    trail_event *e = event_of(t, h->key, h->n);
    KIT_CHECK(!e->seq || e->seq == h->seq, WHAT "it had sequence %llu", ABOUT(h),
              (unsigned long long)e->seq);
    const trail_event *before = event_of(t, h->key, h->n - 1);
    KIT_CHECK(before->seq < h->seq, WHAT "the number before it has sequence %llu", ABOUT(h),
              (unsigned long long)before->seq);
    event_of(t, h->key, h->n)->seq = h->seq;
    t->newest = h->seq > t->newest ? h->seq : t->newest;
}

static void check_alone(trail *t, const handling *h)
{
    const trail_key *k = &t->keys[h->key];
    if (!k->open)
        return;
    const trail_event *e = event_of(t, h->key, k->open);
    KIT_CHECK(has_lapsed(t, e),
              WHAT
              "process %u has not ended with number %u of this key, lives and never stood still",
              ABOUT(h), e->who, k->open);
}

static void check_again(trail *t, const handling *h)
{
    const trail_key *k = &t->keys[h->key];
    const trail_event *e = event_of(t, h->key, h->n);
    if (h->n == k->at && e->end == 'R') {
        bool again = has_lapsed(t, e) && h->attempt == e->attempt;
        KIT_CHECK(h->attempt == e->attempt + 1 || again,
                  WHAT "attempt %d, which process %u answered with a retry, was the last before",
                  ABOUT(h), e->attempt, e->who);
        t->retries++;
        return;
    }
    for (uint32_t n = h->n; n <= k->at; n++) {
        const trail_event *x = event_of(t, h->key, n);
        KIT_CHECK(has_lapsed(t, x),
                  WHAT "it comes again, though number %u was handled by process %u (end %c), which "
                       "lives and never stood still; the last was number %u",
                  ABOUT(h), n, x->who, x->end ? x->end : '-', k->at);
    }
    t->repeats++;
}

static void check_order(trail *t, const handling *h)
{
    const trail_key *k = &t->keys[h->key];
    KIT_CHECK(h->n <= k->at + 1, WHAT "after number %u of this key it leaves some out", ABOUT(h),
              k->at);
    if (h->n <= k->at) {
        check_again(t, h);
        return;
    }
    const trail_event *before = event_of(t, h->key, k->at);
    KIT_CHECK(k->at == 0 || before->acked, WHAT "number %u before it, process %u, ended with %c",
              ABOUT(h), k->at, before->who, before->end ? before->end : '-');
    if (h->n <= k->top)
        t->repeats++;
    else
        KIT_CHECK(h->attempt == 1, WHAT "the first time it comes it should be attempt 1", ABOUT(h));
}

static void take_begin(trail *t, const handling *h)
{
    trail_process *p = &t->of[h->who];
    KIT_CHECK(h->key < t->said->keys && h->n >= 1 && h->n <= t->said->said[h->key],
              WHAT "it was never published", ABOUT(h));
    KIT_CHECK(p->state != 'G' && p->state != 'P', WHAT "that process is %s", ABOUT(h),
              p->state == 'G' ? "gone" : "standing still");
    p->handled++;
    if (is_late(t, h))
        return;
    check_sequence(t, h);
    check_alone(t, h);
    check_order(t, h);
    trail_key *k = &t->keys[h->key];
    trail_event *e = event_of(t, h->key, h->n);
    e->who = h->who;
    e->life = p->life;
    e->attempt = h->attempt;
    e->end = '\0';
    k->open = k->at = h->n;
    k->top = h->n > k->top ? h->n : k->top;
}

static void take_end(trail *t, uint32_t who, uint32_t key, uint32_t n, char end)
{
    KIT_CHECK(key < t->said->keys && n >= 1 && n <= t->said->said[key],
              "process %u ended with number %u of key %u, which was never published", who, n, key);
    trail_key *k = &t->keys[key];
    trail_event *e = event_of(t, key, n);
    if (k->open != n || e->who != who || e->life != t->of[who].life) {
        KIT_CHECK(t->of[who].state || t->of[who].life,
                  "process %u ended with number %u of key %u, which it did not have", who, n, key);
        return; /* late */
    }
    KIT_CHECK(end != 'X', "process %u rejected number %u of key %u without having stood still", who,
              n, key);
    k->open = 0;
    e->end = end;
    if (end == 'A' && !e->acked) {
        e->acked = true;
        t->handled++;
        t->echoes += t->echo_every && n % t->echo_every == 0;
    }
}

/* ---- lines ------------------------------------------------------------------------------------- */

static void take_note(trail *t, char kind, uint32_t who)
{
    trail_process *p = &t->of[who];
    uint32_t in_hand = trail_in_hand(t, who);
    if (kind == 'P')
        p->late = t->workers > in_hand ? t->workers - in_hand : 0;
    if (kind == 'C')
        p->life++;
    p->state = kind == 'C' ? '\0' : kind;
}

static void take_line(void *ud, const char *line)
{
    trail *t = ud;
    handling h;
    char kind;
    int pid;
    unsigned long long seq;
    long long us;
    if (sscanf(line, "H %u %d %u %u %llu %d %lld", &h.who, &pid, &h.key, &h.n, &seq, &h.attempt,
               &us) == 7) {
        KIT_CHECK(h.who < TRAIL_WHO_MAX, "too many processes");
        h.seq = seq;
        t->first_us = t->first_us ? t->first_us : us;
        t->last_us = us;
        take_begin(t, &h);
        return;
    }
    int n = sscanf(line, "%c %u %u %u", &kind, &h.who, &h.key, &h.n);
    KIT_CHECK(n >= 2 && h.who < TRAIL_WHO_MAX, "a strange line: %s", line);
    if (n == 2 && strchr("KGPC", kind))
        take_note(t, kind, h.who);
    else if (n == 4 && strchr("ARX", kind))
        take_end(t, h.who, h.key, h.n, kind);
    else if (n == 4 && kind == 'S')
        t->stale++;
    else
        kit_fail("a strange line: %s", line);
}

void trail_read(trail *t)
{
    while (kit_read_lines(&t->lines, t->file, take_line, t))
        continue;
}

uint32_t trail_in_hand(const trail *t, uint32_t who)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->said->keys; i++) {
        const trail_key *k = &t->keys[i];
        n += k->open && k->events[k->open].who == who && k->events[k->open].life == t->of[who].life;
    }
    return n;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static _Noreturn void tell_missing(const trail *t)
{
    unsigned missing = 0, left = 10;
    for (uint32_t i = 0; i < t->said->keys; i++) {
        const trail_key *k = &t->keys[i];
        missing += k->top < t->said->said[i];
        if (k->top < t->said->said[i] && left && left--)
            (void)fprintf(stderr, "key %u: handled up to number %u of %u%s\n", i, k->top,
                          t->said->said[i], k->open ? ", one is in hand" : "");
    }
    kit_fail("%llu of %llu events were handled to their end within %d s; %u keys are not through",
             (unsigned long long)t->handled, (unsigned long long)t->said->total, KIT_HUNG_MS / 1000,
             missing);
}

void trail_all_handled(trail *t, crew *c)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    uint64_t before = t->handled;
    for (trail_read(t); t->handled < t->said->total; trail_read(t)) {
        if (t->handled != before) /* it moves */
            end = kit_ms() + KIT_HUNG_MS;
        before = t->handled;
        if (kit_ms() > end)
            tell_missing(t);
        crew_wait(c, 5);
    }
}

void trail_print(const trail *t, const char *what)
{
    uint32_t n = 0;
    uint64_t most = 0;
    for (uint32_t who = 1; who < TRAIL_WHO_MAX; who++) {
        n += t->of[who].handled > 0;
        most = t->of[who].handled > most ? t->of[who].handled : most;
    }
    printf("%s: %llu events by %u processes (one did %llu of them), %llu repeats, %llu retries, "
           "%llu begun late, %llu told stale\n",
           what, (unsigned long long)t->handled, n, (unsigned long long)most,
           (unsigned long long)t->repeats, (unsigned long long)t->retries,
           (unsigned long long)t->late, (unsigned long long)t->stale);
}
