/* link.c: a connection that is ready for calls: logged in, in the right database, to a server that can have a log, with
 * the script there. It belongs to one thread at a time. Readers take theirs from a small stock. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void hk_link_init(hk_link *l, const char *what)
{
    (void)snprintf(l->name, sizeof l->name, "hark-%s-%ld", what, (long)getpid());
    l->conn.wake = -1;
}

void hk_link_close(hk_link *l)
{
    hk_redis_close(&l->conn);
    l->ready = false;
}

/* ---- one command ------------------------------------------------------------------------------- */

hark_err hk_link_ask(hk_link *l, redisReply **ret, hark_errinfo *ei)
{
    int64_t deadline = hk_mono_ns() + HK_REDIS_TIMEOUT_NS;
    hark_err err = hk_redis_flush(&l->conn, deadline, ei);
    hk_redis_forget(&l->conn);
    if (!err)
        err = hk_redis_reply(&l->conn, deadline, ret, ei);
    if (err)
        hk_link_close(l);
    return hk_redis_in_time(err, ei);
}

hark_err hk_link_command(hk_link *l, const char *const *words, size_t n, redisReply **ret,
                         hark_errinfo *ei)
{
    hk_redis_arg args[12];
    for (size_t i = 0; i < n && i < HK_COUNTOF(args); i++)
        args[i] = (hk_redis_arg){words[i], strlen(words[i])};
    hk_redis_add(&l->conn, args, n);
    return hk_link_ask(l, ret, ei);
}

uint64_t hk_rs_number(const redisReply *r)
{
    uint64_t n = 0;
    if (r->type == REDIS_REPLY_STRING)
        (void)hk_parse_u64(r->str, r->len, &n);
    return n;
}

hark_err hk_link_refused(const hark_store *s, const hk_link *l, const redisReply *r,
                         hark_errinfo *ei)
{
    if (hk_redis_is_error(r, "OOM"))
        return hk_fail(
            ei, HARK_EFULL,
            "%s has used its memory (maxmemory); raise it, or let retention remove events",
            s->where);
    if (hk_redis_is_error(r, "MISCONF"))
        return hk_fail(ei, HARK_EFULL, "%s cannot write its files: %.300s", s->where, r->str);
    if (hk_redis_is_error(r, "READONLY"))
        return hk_fail(ei, HARK_EREADONLY,
                       "%s is a replica by now, which takes no writes; name its master in the URL",
                       s->where);
    if (hk_redis_is_error(r, "MOVED") || hk_redis_is_error(r, "CLUSTERDOWN"))
        return hk_fail(
            ei, HARK_ESTORE,
            "%s is a node of a cluster and does not have the log (%.100s); name the node "
            "that has in the URL",
            s->where, r->str);
    return hk_redis_refused(&l->conn, r, ei);
}

/* ---- getting ready ----------------------------------------------------------------------------- */

static hark_err select_db(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    const char *const words[] = {"SELECT", s->db};
    redisReply *r = NULL;
    if (!s->db[0])
        return HARK_OK;
    hark_err err = hk_link_command(l, words, 2, &r, ei);
    if (err)
        return err;
    if (hk_redis_is_error(r, "ERR"))
        err = hk_fail(ei, HARK_ENOTFOUND, "%s has no database %s (%.100s); mend the URL", s->where,
                      s->db, r->str);
    else if (r->type == REDIS_REPLY_ERROR)
        err = hk_link_refused(s, l, r, ei);
    freeReplyObject(r);
    return err;
}

static hark_err load_one(hark_store *s, hk_link *l, const hk_rs_script *script, char sha[48],
                         hark_errinfo *ei)
{
    const hk_redis_arg args[] = {{"SCRIPT", 6}, {"LOAD", 4}, {script->text, script->len}};
    redisReply *r = NULL;
    hk_redis_add(&l->conn, args, HK_COUNTOF(args));
    hark_err err = hk_link_ask(l, &r, ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ERROR)
        err = hk_link_refused(s, l, r, ei);
    else if (r->type != REDIS_REPLY_STRING || r->len >= 48)
        err = hk_redis_strange(&l->conn, "SCRIPT LOAD", ei);
    else if (!sha[0]) /* by the one that opens the store: it stays the same */
        (void)snprintf(sha, 48, "%s", r->str);
    freeReplyObject(r);
    return err;
}

hark_err hk_link_load(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    hark_err err = load_one(s, l, &hk_rs_script_whole, s->sha[0], ei);
    return err ? err : load_one(s, l, &hk_rs_script_append, s->sha[1], ei);
}

/* While a server reads its data again it lets nobody look. */
static hark_err prepare(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    hk_rs_class class;
    hark_err err = select_db(s, l, ei);
    if (!err)
        err = hk_rs_class_look(s, l, &class, ei);
    if (!err)
        err = hk_link_load(s, l, ei);
    if (!err)
        hk_mark_set(&s->durability, (uint64_t) class.durability);
    return err ? err : hk_rs_hello(s, l, class.run, ei);
}

hark_err hk_link_ready(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    if (hk_mark_get(&s->replaced))
        return hk_fail(ei, HARK_EREADONLY,
                       "%s: another log has taken the place of this one; open it again", s->where);
    if (l->ready && !hk_redis_is_stale(&l->conn))
        return HARK_OK;
    l->ready = false;
    hark_err err = hk_redis_connect(&l->conn, &s->url, l->name, l->conn.wake, ei);
    if (!err)
        err = prepare(s, l, ei);
    l->ready = err == HARK_OK;
    if (err)
        hk_link_close(l);
    return err;
}

/* ---- readers ----------------------------------------------------------------------------------- */

hark_err hk_rs_reader_take(hark_store *s, hk_link **ret, hark_errinfo *ei)
{
    hk_link *l = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->n_readers > 0)
        l = s->readers[--s->n_readers];
    pthread_mutex_unlock(&s->lock);
    if (!l) {
        l = calloc(1, sizeof *l);
        if (!l)
            return hk_rs_no_memory(s, ei);
        hk_link_init(l, "read");
    }
    hark_err err = hk_link_ready(s, l, ei);
    if (err)
        hk_rs_reader_give(s, l);
    else
        *ret = l;
    return err;
}

void hk_rs_reader_give(hark_store *s, hk_link *l)
{
    pthread_mutex_lock(&s->lock);
    bool keeps = l->ready && s->n_readers < HK_RS_READERS;
    if (keeps)
        s->readers[s->n_readers++] = l;
    pthread_mutex_unlock(&s->lock);
    if (keeps)
        return;
    hk_link_close(l);
    free(l);
}

void hk_rs_readers_close(hark_store *s)
{
    while (s->n_readers > 0) {
        hk_link *l = s->readers[--s->n_readers];
        hk_link_close(l);
        free(l);
    }
}

/* ---- plain commands of readers ---------------------------------------------------------------------------- */

static hark_err ask_once(hark_store *s, const hk_redis_arg *args, size_t n, redisReply **ret,
                         hark_errinfo *ei)
{
    hk_link *l;
    hark_err err = hk_rs_reader_take(s, &l, ei);
    if (err)
        return err;
    hk_redis_add(&l->conn, args, n);
    err = hk_link_ask(l, ret, ei);
    if (!err && (*ret)->type == REDIS_REPLY_ERROR) {
        err = hk_link_refused(s, l, *ret, ei);
        freeReplyObject(*ret);
        *ret = NULL;
    }
    hk_rs_reader_give(s, l);
    return err;
}

hark_err hk_rs_ask(hark_store *s, const char *command, const char *key, const char *const *more,
                   size_t n, redisReply **ret, hark_errinfo *ei)
{
    char full[HK_RS_NAME + 300];
    hk_redis_arg args[2 + HK_RS_ASK_MOST];
    hark_err err = HARK_ESTORE;
    (void)snprintf(full, sizeof full, "{hark:%s}:%s", s->log, key);
    args[0] = (hk_redis_arg){command, strlen(command)};
    args[1] = (hk_redis_arg){full, strlen(full)};
    for (size_t i = 0; i < n && i + 2 < HK_COUNTOF(args); i++)
        args[i + 2] = (hk_redis_arg){more[i], strlen(more[i])};
    for (int i = 0; i < 2 && err == HARK_ESTORE; i++) /* again when the connection was lost */
        err = ask_once(s, args, n + 2, ret, ei);
    return err;
}
