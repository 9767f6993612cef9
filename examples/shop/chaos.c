/* chaos.c: switches that make a consumer fail, dawdle or crash, to see that the others do not mind.
 * They are kept in the table `chaos`, and in memory for the handlers, who look at each delivery. Where
 * several shops share the table, each looks into it again and again. */
#include "consumers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16, FRESH_MS = 100, ALL_KNOW_MS = 300 };

struct switches {
    pthread_mutex_t setting; /* one at a time, table and memory; taken before `lock` */
    int64_t read;            /* when the table was; mono */
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

/* ---- in the table ---- */

static bool take_row(const hark_row *row, void *ud)
{
    chaos *c = ud;
    *c = (chaos){.fail_rate = hark_row_real(row, 1),
                 .delay_ms = hark_row_int(row, 2),
                 .crash = hark_row_int(row, 3) != 0,
                 .poisoned = (uint64_t)hark_row_int(row, 4)};
    snprintf(c->consumer, sizeof c->consumer, "%s", hark_row_text(row, 0));
    return true;
}

static bool load_row(const hark_row *row, void *ud)
{
    chaos c;
    take_row(row, &c);
    put(ud, &c);
    return true;
}

static hark_err load(shop *s, hark_errinfo *ei)
{
    return hark_query(s->bus, "SELECT consumer, fail_rate, delay_ms, crash, poisoned FROM chaos",
                      HARK_NO_ARGS, load_row, s->chaos, ei);
}

/* Who changes a switch knows better. When the table cannot be read, what was known before goes on being
 * true. */
static void load_again(shop *s)
{
    switches *w = s->chaos;
    if (!s->takes_turns || pthread_mutex_trylock(&w->setting) != 0)
        return;
    int64_t now = mono_now();
    if (now - w->read >= FRESH_MS * INT64_C(1000000)) {
        w->read = now;
        (void)!load(s, NULL);
    }
    pthread_mutex_unlock(&w->setting);
}

void chaos_get(shop *s, const char *consumer_name, chaos *ret)
{
    size_t i = place(consumer_name);
    *ret = (chaos){.fail_rate = 0};
    if (i == MOST)
        return;
    load_again(s);
    pthread_mutex_lock(&s->chaos->lock);
    *ret = s->chaos->of[i];
    pthread_mutex_unlock(&s->chaos->lock);
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
    return load(s, ei);
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

/* ---- changing ---- */

typedef struct changing {
    const char *consumer;
    bool (*fn)(chaos *c, const void *ud);
    const void *ud;
    chaos now;
} changing;

/* The row is there then, and no other transaction changes it before this one has ended. */
static hark_err hold_row(hark_tx *tx, changing *ch)
{
    hark_err err = hark_tx_exec(
        tx,
        "INSERT INTO chaos(consumer, fail_rate, delay_ms, crash, poisoned) VALUES(?, 0, 0, 0, 0) "
        "ON CONFLICT(consumer) DO UPDATE SET consumer = excluded.consumer",
        HARK_ARGS(hark_text(ch->consumer)));
    return err ? err
               : hark_tx_query(tx,
                               "SELECT consumer, fail_rate, delay_ms, crash, poisoned FROM chaos "
                               "WHERE consumer = ?",
                               HARK_ARGS(hark_text(ch->consumer)), take_row, &ch->now);
}

static hark_err change(hark_tx *tx, void *ud)
{
    changing *ch = ud;
    chaos *c = &ch->now;
    hark_err err = hold_row(tx, ch);
    if (err)
        return err;
    if (!ch->fn(c, ch->ud))
        return hark_tx_fail(tx, HARK_ECONFLICT, "the switches of %s stay as they are",
                            ch->consumer);
    return hark_tx_exec(tx,
                        "UPDATE chaos SET fail_rate = ?, delay_ms = ?, crash = ?, poisoned = ? "
                        "WHERE consumer = ?",
                        HARK_ARGS(hark_real(c->fail_rate), hark_int(c->delay_ms),
                                  hark_int(c->crash), hark_int((int64_t)c->poisoned),
                                  hark_text(c->consumer)));
}

hark_err chaos_change(shop *s, const char *consumer_name, bool (*fn)(chaos *c, const void *ud),
                      const void *ud, chaos *ret, hark_errinfo *ei)
{
    changing ch = {.consumer = consumer_name, .fn = fn, .ud = ud};
    pthread_mutex_lock(&s->chaos->setting);
    hark_err err = hark_transact(s->bus, change, &ch, SHOP_TX, NULL, ei);
    *ret = ch.now;
    if (!err)
        put(s->chaos, ret);
    pthread_mutex_unlock(&s->chaos->setting);
    if (!err && s->takes_turns)
        (void)take_time(s, ALL_KNOW_MS);
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

/* Written down before the crash, and known to all shops: after it, this event crashes again, wherever
 * it comes, and no other one. */
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
