/* story.c: what happens to orders, told on the console. Who tells a story may be the thread that
 * writes the log, which must not wait for a slow console: it leaves its lines in memory, from where
 * a thread of their own writes them. */
#include "shop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 20, LINE = 1024 };   /* bytes that wait; of one line */
#define PATIENCE_NS INT64_C(1000000000) /* at the end, with a console that nobody reads */

typedef struct lines {
    char *text;
    size_t len;
    uint64_t left_out; /* after these */
} lines;

struct teller {
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    lines waiting;
    bool stop, done;
    char text[2][MOST]; /* one is filled while the other one is written */
};

/* ---- writing ---- */

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno != EINTR)
            return; /* there is no console any more */
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void write_lines(lines *l)
{
    char more[80];
    write_all(l->text, l->len);
    if (l->left_out) {
        int len = snprintf(more, sizeof more, "... %llu lines were not told: the console is slow\n",
                           (unsigned long long)l->left_out);
        write_all(more, (size_t)len);
    }
    l->len = 0;
    l->left_out = 0;
}

/* Takes what waits, and leaves the buffer of `ret` for more; false: nothing more will come. */
static bool take(teller *t, lines *ret)
{
    lines empty = {.text = ret->text};
    pthread_mutex_lock(&t->lock);
    while (t->waiting.len == 0 && !t->stop)
        pthread_cond_wait(&t->changed, &t->lock);
    *ret = t->waiting;
    t->waiting = empty;
    t->done = ret->len == 0;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return ret->len > 0;
}

static void *work(void *ud)
{
    teller *t = ud;
    lines l = {.text = t->text[1]};
    while (take(t, &l))
        write_lines(&l);
    return NULL;
}

/* ---- telling ---- */

/* What comes after a line that was left out is left out, too, until the thread has said so. */
static void add(lines *l, const char *line, size_t len)
{
    if (l->left_out || len > MOST - l->len) {
        l->left_out++;
        return;
    }
    memcpy(l->text + l->len, line, len);
    l->len += len;
}

void story(const shop *s, const char *fmt, ...)
{
    teller *t = s->teller;
    char line[LINE];
    va_list ap;
    if (!t)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    text_make_plain(line);
    size_t len = strlen(line);
    line[len] = '\n';
    pthread_mutex_lock(&t->lock);
    add(&t->waiting, line, len + 1);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* ---- beginning and end ---- */

static void destroy(teller *t)
{
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

hark_err story_start(shop *s, hark_errinfo *ei)
{
    pthread_condattr_t monotonic;
    teller *t = s->o.quiet ? NULL : calloc(1, sizeof *t);
    if (!t)
        return s->o.quiet ? HARK_OK : hark_errinfo_set(ei, HARK_ENOMEM, "no memory for stories");
    t->waiting.text = t->text[0];
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&t->lock, NULL);
    if (pthread_create(&t->thread, NULL, work, t)) {
        destroy(t);
        return hark_errinfo_set(ei, HARK_ESYS, "no thread is to be had for the stories");
    }
    s->teller = t;
    return HARK_OK;
}

static bool wait_for_end(teller *t)
{
    int64_t end = mono_now() + PATIENCE_NS;
    struct timespec limit = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
    int late = 0;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    while (!t->done && !late)
        late = pthread_cond_timedwait(&t->changed, &t->lock, &limit);
    bool done = t->done;
    pthread_mutex_unlock(&t->lock);
    return done;
}

void story_stop(shop *s)
{
    teller *t = s->teller;
    s->teller = NULL;
    if (!t || !wait_for_end(t))
        return; /* a thread that hangs in a write ends with the process */
    pthread_join(t->thread, NULL);
    destroy(t);
}
