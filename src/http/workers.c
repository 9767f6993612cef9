/* The pool for blocking routes: a bounded queue of contexts and threads that run their chains. */
#include "http/http_i.h"

#include <stdio.h>
#include <stdlib.h>

static hark_ctx *take(hk_workers *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->stopping)
        pthread_cond_wait(&w->more, &w->lock);
    hark_ctx *c = w->first;
    if (c) {
        w->first = c->work_next;
        if (!w->first)
            w->last = NULL;
        w->queued--;
    }
    pthread_mutex_unlock(&w->lock);
    return c;
}

static void *worker_main(void *arg)
{
    hk_workers *w = arg;
    (void)hk_role_set(HK_ROLE_WORKER);
    for (hark_ctx *c; (c = take(w));) {
        hk_ctx_chain(c);
        hk_loop_post(c->loop, &c->work_mail);
    }
    return NULL;
}

hark_err hk_workers_start(hk_workers *w, size_t n, size_t limit)
{
    w->threads = calloc(n, sizeof *w->threads);
    if (!w->threads)
        return HARK_ENOMEM;
    pthread_mutex_init(&w->lock, NULL);
    hk_cond_init(&w->more);
    w->limit = limit;
    for (size_t i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "hark-work-%u", (unsigned)i % 1000);
        hark_err err = hk_thread_start(&w->threads[i], name, worker_main, w);
        if (err)
            return err;
        w->n_threads++;
    }
    return HARK_OK;
}

bool hk_workers_push(hk_workers *w, hark_ctx *c)
{
    pthread_mutex_lock(&w->lock);
    bool room = w->threads && !w->stopping && w->queued < w->limit;
    if (room) {
        c->work_next = NULL;
        if (w->last)
            w->last->work_next = c;
        else
            w->first = c;
        w->last = c;
        w->queued++;
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    return room;
}

/* What is still queued goes back undone: its connection has been cut. */
static void give_back(hark_ctx *c)
{
    for (hark_ctx *next; c; c = next) {
        next = c->work_next;
        c->err = HARK_ECLOSED;
        hk_loop_post(c->loop, &c->work_mail);
    }
}

void hk_workers_stop(hk_workers *w)
{
    if (!w->threads)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    hark_ctx *left = w->first;
    w->first = w->last = NULL;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    give_back(left);
    for (size_t i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w->threads);
    w->threads = NULL;
}
