/* chaos.c: switches that make a consumer fail, dawdle or crash, to see that the others do not mind.
 * They are kept in the table `chaos`, and in memory for the handlers, who look at each delivery. */
#include "consumers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };

struct switches {
    pthread_mutex_t setting; /* one at a time, table and memory; taken before `lock` */
    pthread_mutex_t lock;    /* for what follows */
    chaos of[MOST];          /* as consumer_at */
};

/* ---- in memory ---- */

static size_t place(const char *consumer_name)
{
    size_t i = 0;
    while (consumer_at(i) && strcmp(consumer_at(i)->name, consumer_name) != 0)
        i++;
    return i < MOST && consumer_at(i) ? i : MOST;
}

static void put(switches *w, const chaos *c)
{
    size_t i = place(c->consumer);
    if (i == MOST)
        return; /* of a consumer that there is no more */
    pthread_mutex_lock(&w->lock);
    w->of[i] = *c;
    pthread_mutex_unlock(&w->lock);
}

void chaos_get(shop *s, const char *consumer_name, chaos *ret)
{
    size_t i = place(consumer_name);
    *ret = (chaos){.fail_rate = 0};
    if (i == MOST)
        return;
    pthread_mutex_lock(&s->chaos->lock);
    *ret = s->chaos->of[i];
    pthread_mutex_unlock(&s->chaos->lock);
}

/* ---- in the table ---- */

static bool load_row(const hark_row *row, void *ud)
{
    chaos c = {.fail_rate = hark_row_real(row, 1),
               .delay_ms = hark_row_int(row, 2),
               .crash = hark_row_int(row, 3) != 0,
               .poisoned = (uint64_t)hark_row_int(row, 4)};
    snprintf(c.consumer, sizeof c.consumer, "%s", hark_row_text(row, 0));
    put(ud, &c);
    return true;
}

hark_err chaos_open(shop *s, hark_errinfo *ei)
{
    switches *w = calloc(1, sizeof *w);
    if (!w) {
        *ei = (hark_errinfo){HARK_ENOMEM, "no memory for the switches of chaos"};
        return HARK_ENOMEM;
    }
    pthread_mutex_init(&w->setting, NULL);
    pthread_mutex_init(&w->lock, NULL);
    for (size_t i = 0; i < MOST && consumer_at(i); i++)
        snprintf(w->of[i].consumer, sizeof w->of[i].consumer, "%s", consumer_at(i)->name);
    s->chaos = w;
    return hark_query(s->bus, "SELECT consumer, fail_rate, delay_ms, crash, poisoned FROM chaos",
                      HARK_NO_ARGS, load_row, w, ei);
}

void chaos_close(shop *s)
{
    if (!s->chaos)
        return;
    pthread_mutex_destroy(&s->chaos->setting);
    pthread_mutex_destroy(&s->chaos->lock);
    free(s->chaos);
    s->chaos = NULL;
}

static hark_err save(hark_tx *tx, void *ud)
{
    const chaos *c = ud;
    return hark_tx_exec(
        tx,
        "INSERT INTO chaos(consumer, fail_rate, delay_ms, crash, poisoned) VALUES(?, ?, ?, ?, ?) "
        "ON CONFLICT(consumer) DO UPDATE SET fail_rate = excluded.fail_rate, "
        "delay_ms = excluded.delay_ms, crash = excluded.crash, poisoned = excluded.poisoned",
        HARK_ARGS(hark_text(c->consumer), hark_real(c->fail_rate), hark_int(c->delay_ms),
                  hark_int(c->crash), hark_int((int64_t)c->poisoned)));
}

hark_err chaos_change(shop *s, const char *consumer_name, bool (*fn)(chaos *c, const void *ud),
                      const void *ud, chaos *ret, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->chaos->setting);
    chaos_get(s, consumer_name, ret);
    hark_err err = fn(ret, ud)
                       ? hark_transact(s->bus, save, ret, SHOP_TX, NULL, ei)
                       : hark_errinfo_set(ei, HARK_ECONFLICT, "the switches of %s stay as they are",
                                          consumer_name);
    if (!err)
        put(s->chaos, ret);
    pthread_mutex_unlock(&s->chaos->setting);
    return err;
}

/* ---- striking ---- */

/* The same attempt fails in every run: that makes what went wrong easier to see again. */
static bool unlucky(const chaos *c, const hark_delivery *d)
{
    uint64_t h = hark_delivery_sequence(d) * UINT64_C(0x9e3779b97f4a7c15) +
                 (uint64_t)hark_delivery_attempt(d) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 31)) * UINT64_C(0x94d049bb133111eb);
    h ^= h >> 29;
    return (double)(h >> 11) / 9007199254740992.0 < c->fail_rate; /* 2^53 */
}

static bool bite(chaos *c, const void *ud)
{
    bool first = c->crash; /* two workers may have seen the switch */
    c->crash = false;
    c->poisoned = *(const uint64_t *)ud;
    return first;
}

/* Written down before the crash: after it, this event crashes again, and no other one. */
static void poison(shop *s, const char *consumer_name, uint64_t sequence)
{
    chaos c;
    if (chaos_change(s, consumer_name, bite, &sequence, &c, NULL))
        return;
    fprintf(stderr, "chaos: %s crashes at event %llu\n", consumer_name,
            (unsigned long long)sequence);
    abort();
}

bool chaos_strikes(shop *s, const char *consumer_name, hark_delivery *d)
{
    chaos c;
    chaos_get(s, consumer_name, &c);
    if (c.poisoned && c.poisoned == hark_delivery_sequence(d))
        abort();
    if (c.crash)
        poison(s, consumer_name, hark_delivery_sequence(d));
    if (!take_time(s, c.delay_ms)) {
        hark_delivery_explain(d, "the shop ends");
        return true;
    }
    if (c.fail_rate <= 0 || !unlucky(&c, d))
        return false;
    hark_delivery_explain(d, "chaos: the %s service is down", consumer_name);
    return true;
}
