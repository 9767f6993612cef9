/* rest.c: threads that wait, until a time or the end of the shop, whichever comes first. So nobody
 * keeps it from ending: neither a slow payment provider nor who does something once a second. */
#include "shop.h"

#include <time.h>

enum { SECOND = 1000000000 };

void rest_open(shop *s)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->rest.ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->rest.lock, NULL);
}

void rest_end(shop *s)
{
    pthread_mutex_lock(&s->rest.lock);
    s->rest.over = true;
    pthread_cond_broadcast(&s->rest.ended);
    pthread_mutex_unlock(&s->rest.lock);
}

void rest_close(shop *s)
{
    pthread_cond_destroy(&s->rest.ended);
    pthread_mutex_destroy(&s->rest.lock);
}

int64_t mono_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

bool rest_until(shop *s, int64_t mono_ns)
{
    struct timespec t = {.tv_sec = mono_ns / SECOND, .tv_nsec = mono_ns % SECOND};
    pthread_mutex_lock(&s->rest.lock);
    while (!s->rest.over && mono_now() < mono_ns)
        pthread_cond_timedwait(&s->rest.ended, &s->rest.lock, &t);
    bool go_on = !s->rest.over;
    pthread_mutex_unlock(&s->rest.lock);
    return go_on;
}

bool take_time(shop *s, int64_t ms)
{
    return ms <= 0 || rest_until(s, mono_now() + ms * (SECOND / 1000));
}
