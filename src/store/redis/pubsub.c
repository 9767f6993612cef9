/* pubsub.c: redis+pubsub://[user:password@]host[:port][/prefix]: fire and forget. An event is sent to
 * the channel <prefix><type> as CloudEvents JSON, and what comes from the channels <prefix>* goes to
 * the live subscriptions of this process, its own events among them. Nothing is kept: no log, no
 * consumers, no schedules; what is lost with a connection is told as a gap. Here is its life. */
#include "store/redis/pubsub_i.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SCHEME "redis+pubsub"

/* ---- failures --------------------------------------------------------------------------------- */

void hk_pubsub_failed(hk_pubsub_side *side, const hark_errinfo *ei)
{
    if (side->failures++ == 0)
        hk_log(HK_WARN, "%s (%s); connecting again", ei->text, side->name);
    side->next_ns = hk_mono_ns() + hk_redis_pause(side->failures);
    (void)snprintf(side->why, sizeof side->why, "%.255s", ei->text);
}

void hk_pubsub_connected(hark_store *s, hk_pubsub_side *side)
{
    if (side->failures)
        hk_log(HK_WARN, "redis at %s is connected again (%s)", s->url.place, side->name);
    side->failures = 0;
    side->next_ns = 0;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static hark_err take_url(hark_store *s, const char *rest, hark_errinfo *ei)
{
    hark_err err = hk_redis_url_take(SCHEME, rest, &s->url, ei);
    if (err)
        return err;
    if (s->url.query)
        return hk_fail(ei, HARK_EINVAL,
                       "store URL " SCHEME "://%s: nothing is known to follow a '?'; leave it out",
                       s->url.place);
    s->prefix = s->url.path ? s->url.path : "";
    s->prefix_len = strlen(s->prefix);
    return HARK_OK;
}

/* Both sides at once, so that what is wrong is told now. Subscribed first: its own events come back. */
static hark_err connect_sides(hark_store *s, hark_errinfo *ei)
{
    (void)snprintf(s->in.name, sizeof s->in.name, "hark-subscribe-%ld", (long)getpid());
    (void)snprintf(s->out.name, sizeof s->out.name, "hark-publish-%ld", (long)getpid());
    s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop < 0)
        return hk_fail(ei, HARK_ESYS, "no descriptor for " SCHEME ": %s", strerror(errno));
    hark_err err = hk_pubsub_subscribe(s, ei);
    return err ? err : hk_redis_connect(&s->out.conn, &s->url, s->out.name, -1, ei);
}

static void pubsub_close(hark_store *s)
{
    const uint64_t one = 1;
    if (s->running) {
        while (write(s->stop, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_join(s->thread, NULL);
    }
    hk_redis_close(&s->in.conn);
    hk_redis_close(&s->out.conn);
    if (s->stop >= 0)
        close(s->stop);
    hk_redis_url_clear(&s->url);
    free(s);
}

static hark_err start(hark_store *s, const char *rest, hark_errinfo *ei)
{
    hark_err err = take_url(s, rest, ei);
    if (!err)
        err = connect_sides(s, ei);
    if (err)
        return err;
    err = hk_thread_start(&s->thread, "hark-pubsub", hk_pubsub_listen, s);
    s->running = err == HARK_OK;
    return err ? hk_fail(ei, err, "no thread for " SCHEME ": %s", hark_err_text(err)) : HARK_OK;
}

static hark_err pubsub_open(const char *rest, const hark_store_opts *opts,
                            const hark_store_host *host, hark_store **ret, hark_errinfo *ei)
{
    if (opts->existing)
        return hk_fail(ei, HARK_ENOTFOUND,
                       SCHEME ": has no log that could be there; leave out HARK_OPEN_EXISTING");
    hark_store *s = hk_zalloc_lines(sizeof *s);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory for the store");
    s->host = *host;
    s->stop = -1;
    hk_random(s->log_id, sizeof s->log_id);
    hark_err err = start(s, rest, ei);
    if (err)
        pubsub_close(s);
    else
        *ret = s;
    return err;
}

static void pubsub_info(hark_store *s, hark_store_info *ret)
{
    *ret = (hark_store_info){.size = sizeof *ret,
                             .epoch = 1,
                             .format = 1,
                             .last_sequence = hk_mark_get(&s->last),
                             .durability = HARK_MEMORY,
                             .live_only = 1};
    memcpy(ret->log_id, s->log_id, sizeof ret->log_id);
}

const hark_store_ops hk_store_redis_pubsub = {
    .size = sizeof(hark_store_ops),
    .scheme = SCHEME,
    .open = pubsub_open,
    .close = pubsub_close,
    .info = pubsub_info,
    .send = hk_pubsub_send,
};
