/* See fake_bus.h. */
#include "fake_bus.h"

#include "base/base.h"

#include <hark/tx.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    struct job *next;
    hark_published_fn fn;
    void *ud;
    hark_err err;
    uint64_t seq;
} job;

struct hark_bus {
    hk_ref refs;
    fake_mode mode;
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t writer;
    bool stopping, released;
    job *first, *last;
    size_t waiting;
    hark_err outcome;
    uint64_t seq;
    size_t n_types;
    struct {
        char type[64];
        size_t count;
    } types[16];
    char last_type[64], last_source[64], correlation[160], causation[160], data[2048];
};

static void answer(job *j)
{
    for (job *next; j; j = next) {
        next = j->next;
        hark_receipt r = {.sequence = j->seq, .durability = HARK_DISK};
        j->fn(j->err, j->err ? NULL : &r, j->ud);
        free(j);
    }
}

static bool ready(const hark_bus *b)
{
    return b->first && (b->mode == FAKE_ASYNC || b->released || b->stopping);
}

static void *writer_main(void *arg)
{
    hark_bus *b = arg;
    hk_role_set(HK_ROLE_WRITER);
    pthread_mutex_lock(&b->lock);
    while (!b->stopping || b->first) {
        if (!ready(b)) {
            pthread_cond_wait(&b->more, &b->lock);
            continue;
        }
        job *batch = b->first;
        b->first = b->last = NULL;
        b->waiting = 0;
        b->released = false;
        pthread_mutex_unlock(&b->lock);
        answer(batch);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

hark_bus *fake_bus_new(fake_mode mode)
{
    hark_bus *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    hk_ref_init(&b->refs, 1);
    b->mode = mode;
    pthread_mutex_init(&b->lock, NULL);
    hk_cond_init(&b->more);
    if (hk_thread_start(&b->writer, "fake-writer", writer_main, b))
        abort();
    return b;
}

hark_bus *hark_bus_ref(hark_bus *b)
{
    if (b)
        hk_ref_get(&b->refs, 1);
    return b;
}

hark_bus *hark_bus_unref(hark_bus *b)
{
    if (!b || !hk_ref_put(&b->refs))
        return NULL;
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_cond_broadcast(&b->more);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->writer, NULL);
    pthread_cond_destroy(&b->more);
    pthread_mutex_destroy(&b->lock);
    free(b);
    return NULL;
}

static void put(char *out, size_t size, const char *s)
{
    snprintf(out, size, "%s", s ? s : "");
}

static void remember(hark_bus *b, const hark_event_spec *spec)
{
    size_t i = 0;
    while (i < b->n_types && strcmp(b->types[i].type, spec->type) != 0)
        i++;
    if (i < HK_COUNTOF(b->types)) {
        put(b->types[i].type, sizeof b->types[i].type, spec->type);
        b->types[i].count++;
        b->n_types += i == b->n_types;
    }
    put(b->last_type, sizeof b->last_type, spec->type);
    put(b->last_source, sizeof b->last_source, spec->source);
    put(b->correlation, sizeof b->correlation, spec->correlationid);
    put(b->causation, sizeof b->causation, spec->causationid);
    if (spec->json)
        put(b->data, sizeof b->data, spec->json);
    else
        snprintf(b->data, sizeof b->data, "%.*s", (int)spec->data_len,
                 spec->data ? (const char *)spec->data : "");
}

static void enqueue(hark_bus *b, job *j)
{
    if (b->last)
        b->last->next = j;
    else
        b->first = j;
    b->last = j;
    b->waiting++;
    pthread_cond_broadcast(&b->more);
}

hark_err hark_publish_async(hark_bus *b, const hark_event_spec *spec, hark_published_fn fn,
                            void *ud)
{
    job *j = calloc(1, sizeof *j);
    if (!j || b->mode == FAKE_FULL || !spec->type) {
        free(j);
        return b->mode == FAKE_FULL ? HARK_EAGAIN : HARK_EINVAL;
    }
    *j = (job){NULL, fn, ud, HARK_OK, 0};
    pthread_mutex_lock(&b->lock);
    remember(b, spec);
    j->err = b->outcome;
    j->seq = ++b->seq;
    if (b->mode != FAKE_SYNC)
        enqueue(b, j);
    pthread_mutex_unlock(&b->lock);
    if (b->mode == FAKE_SYNC)
        answer(j);
    return HARK_OK;
}

void fake_bus_outcome(hark_bus *b, hark_err err)
{
    pthread_mutex_lock(&b->lock);
    b->outcome = err;
    pthread_mutex_unlock(&b->lock);
}

void fake_bus_release(hark_bus *b)
{
    pthread_mutex_lock(&b->lock);
    b->released = true;
    pthread_cond_broadcast(&b->more);
    pthread_mutex_unlock(&b->lock);
}

size_t fake_bus_waiting(hark_bus *b)
{
    pthread_mutex_lock(&b->lock);
    size_t n = b->waiting;
    pthread_mutex_unlock(&b->lock);
    return n;
}

size_t fake_bus_count(hark_bus *b, const char *type)
{
    size_t n = 0;
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n_types; i++)
        if (strcmp(b->types[i].type, type) == 0)
            n = b->types[i].count;
    pthread_mutex_unlock(&b->lock);
    return n;
}

void fake_bus_last(hark_bus *b, const char *what, char *ret, size_t size)
{
    pthread_mutex_lock(&b->lock);
    const char *v = strcmp(what, "type") == 0            ? b->last_type
                    : strcmp(what, "source") == 0        ? b->last_source
                    : strcmp(what, "correlationid") == 0 ? b->correlation
                    : strcmp(what, "causationid") == 0   ? b->causation
                                                         : b->data;
    put(ret, size, v);
    pthread_mutex_unlock(&b->lock);
}

/* ---- it has no transactions, so no closure ever runs ---- */

hark_err hark_bus_info_get(hark_bus *b, hark_bus_info *ret)
{
    (void)b;
    *ret = (hark_bus_info){.size = sizeof *ret};
    return HARK_OK;
}

hark_err hark_transact_async(hark_bus *b, hark_tx_fn fn, hark_transacted_fn done, void *ud,
                             const hark_tx_opts *opts, hark_errinfo *ei)
{
    (void)b, (void)fn, (void)done, (void)ud, (void)opts;
    return hk_fail(ei, HARK_ENOTSUP, "this bus has no transactions");
}

bool hark_media_is_json(const char *type)
{
    return !type || strstr(type, "json");
}

void hark_tx_stamp(hark_tx *tx, const char *correlationid, const char *causationid)
{
    (void)tx, (void)correlationid, (void)causationid;
    abort();
}

void hark_tx_then(hark_tx *tx, hark_tx_then_fn fn, void *ud)
{
    (void)tx, (void)fn, (void)ud;
    abort();
}

hark_bus *hark_tx_bus(const hark_tx *tx)
{
    (void)tx;
    abort();
}

const char *hark_tx_error(const hark_tx *tx)
{
    (void)tx;
    abort();
}

hark_err hark_tx_fail(hark_tx *tx, hark_err err, const char *fmt, ...)
{
    (void)tx, (void)err, (void)fmt;
    abort();
}

hark_err hark_tx_keep(hark_tx *tx, const char *key, const void *data, size_t len, int64_t keep_ms)
{
    (void)tx, (void)key, (void)data, (void)len, (void)keep_ms;
    abort();
}

hark_err hark_tx_kept(hark_tx *tx, const char *key, void **ret, size_t *ret_len)
{
    (void)tx, (void)key, (void)ret, (void)ret_len;
    abort();
}

/* ---- nor consumers ---- */

void hark_cursor_format(hark_bus *b, uint64_t seq, char buf[HARK_CURSOR_TEXT])
{
    (void)b;
    (void)snprintf(buf, HARK_CURSOR_TEXT, "0fa4e000.1-%llu", (unsigned long long)seq);
}

hark_err hark_cursor_parse(hark_bus *b, const char *text, uint64_t *ret_seq, hark_errinfo *ei)
{
    (void)b, (void)ret_seq;
    return hk_fail(ei, HARK_ESYNTAX, "'%.80s' is not a cursor of this bus", text);
}

hark_err hark_settled_async(hark_bus *b, const char *consumer, uint64_t sequence,
                            int64_t timeout_ms, hark_settled_fn fn, void *ud, hark_errinfo *ei)
{
    (void)b, (void)sequence, (void)timeout_ms, (void)fn, (void)ud;
    return hk_fail(ei, HARK_ENOTFOUND, "this bus has no consumer '%.128s'", consumer);
}
