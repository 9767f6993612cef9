/* The keys of requests that run, in memory only: a process that dies frees them all. A hash table
 * with lists, under one lock that is held for a few comparisons. */
#include "http/middleware/idempotency_i.h"

#include <stdlib.h>
#include <string.h>

struct hk_running {
    hk_running *next;
    uint64_t hash;
    char key[];
};

static hk_running **bucket(const hk_running_set *s, uint64_t hash)
{
    return &s->buckets[hash & (s->n_buckets - 1)];
}

static uint64_t hash_of(const hk_running_set *s, const char *key)
{
    uint8_t out[16];
    uint64_t hash;
    hk_sip sip;
    hk_sip_init(&sip, s->secret);
    hk_sip_add(&sip, key, strlen(key));
    hk_sip_end(&sip, out);
    memcpy(&hash, out, sizeof hash);
    return hash;
}

hark_err hk_running_init(hk_running_set *s)
{
    *s = (hk_running_set){.n_buckets = 64};
    s->buckets = calloc(s->n_buckets, sizeof *s->buckets);
    if (!s->buckets)
        return HARK_ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    hk_random(s->secret, sizeof s->secret);
    return HARK_OK;
}

void hk_running_clear(hk_running_set *s)
{
    if (!s->buckets)
        return;
    for (size_t i = 0; i < s->n_buckets; i++)
        for (hk_running *r = s->buckets[i], *next; r; r = next) {
            next = r->next;
            free(r);
        }
    free(s->buckets);
    pthread_mutex_destroy(&s->lock);
}

/* Without memory the lists get longer. */
static void grow_locked(hk_running_set *s)
{
    hk_running_set more = *s;
    more.n_buckets = s->n_buckets * 2;
    more.buckets = calloc(more.n_buckets, sizeof *more.buckets);
    if (!more.buckets)
        return;
    for (size_t i = 0; i < s->n_buckets; i++)
        for (hk_running *r = s->buckets[i], *next; r; r = next) {
            next = r->next;
            r->next = *bucket(&more, r->hash);
            *bucket(&more, r->hash) = r;
        }
    free(s->buckets);
    s->buckets = more.buckets;
    s->n_buckets = more.n_buckets;
}

static bool runs_locked(const hk_running_set *s, const hk_running *want)
{
    for (const hk_running *r = *bucket(s, want->hash); r; r = r->next)
        if (r->hash == want->hash && strcmp(r->key, want->key) == 0)
            return true;
    return false;
}

hark_err hk_running_enter(hk_running_set *s, const char *key, hk_running **ret)
{
    size_t len = strlen(key);
    hk_running *r = malloc(sizeof *r + len + 1);
    if (!r)
        return HARK_ENOMEM;
    r->hash = hash_of(s, key);
    memcpy(r->key, key, len + 1);
    pthread_mutex_lock(&s->lock);
    bool there = runs_locked(s, r);
    if (!there) {
        if (s->n >= s->n_buckets)
            grow_locked(s);
        r->next = *bucket(s, r->hash);
        *bucket(s, r->hash) = r;
        s->n++;
    }
    pthread_mutex_unlock(&s->lock);
    if (there) {
        free(r);
        return HARK_EEXIST;
    }
    *ret = r;
    return HARK_OK;
}

void hk_running_leave(hk_running_set *s, hk_running *r)
{
    pthread_mutex_lock(&s->lock);
    hk_running **at = bucket(s, r->hash);
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    s->n--;
    pthread_mutex_unlock(&s->lock);
    free(r);
}
