/* A shelf: deferred contexts lie on it until a thread of the test takes them. */
#ifndef HK_TEST_SHELF_H
#define HK_TEST_SHELF_H

#include <hark/http.h>

#include <pthread.h>

enum { SHELF_MAX = 4096 };
typedef struct shelf {
    pthread_mutex_t lock;
    pthread_cond_t more; /* something has changed */
    hark_ctx *held[SHELF_MAX];
    size_t n;
    bool closed;
} shelf;
#define SHELF_INIT                                                                                 \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER                        \
    }

static inline void shelf_put(shelf *s, hark_ctx *c)
{
    pthread_mutex_lock(&s->lock);
    s->held[s->n++] = c;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
}

/* The last one put there; waits for it. NULL: it is closed and empty. */
static inline hark_ctx *shelf_take(shelf *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->n == 0 && !s->closed)
        pthread_cond_wait(&s->more, &s->lock);
    hark_ctx *c = s->n ? s->held[--s->n] : NULL;
    pthread_mutex_unlock(&s->lock);
    return c;
}

static inline void shelf_close(shelf *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
}

/* Defers the request; it lies on the shelf then. */
static inline hark_err shelf_defer(shelf *s, hark_ctx *c)
{
    hark_err err = hark_ctx_defer(c);
    if (!err)
        shelf_put(s, c);
    return err;
}

#endif
