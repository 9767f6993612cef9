/* class.c: what a server is, asked at every connect, since it may be another one by then, or set otherwise: may a log be
 * kept on it at all, and what is a commit on it worth?
 *
 * disk    appendonly with appendfsync always, also while the file is rewritten: synced before the reply.
 * os      appendfsync no: written before the reply, so that it outlives the server's process.
 * memory  everything else; also everysec: while a sync is under way the server puts even the write off, for up to two
 *         seconds, and replies all the same. A server that is killed then has forgotten what it had confirmed,
 *         which is what HARK_OS promises not to happen. Also a server that does not let us look. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* A field of INFO, up to the end of its line; NULL when it is not there. */
static const char *info_field(const char *info, const char *name, size_t *ret_len)
{
    size_t len = strlen(name);
    for (const char *p = info; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, name, len) == 0 && p[len] == ':') {
            *ret_len = strcspn(p + len + 1, "\r\n");
            return p + len + 1;
        }
    }
    return NULL;
}

static void copy_field(const char *info, const char *name, char *ret, size_t size)
{
    size_t len = 0;
    const char *p = info_field(info, name, &len);
    (void)snprintf(ret, size, "%.*s", (int)len, p ? p : "");
}

/* 6.2 is the first that trims streams by id. */
static hark_err check_version(const hark_store *s, const char *version, hark_errinfo *ei)
{
    int major = 0, minor = 0;
    if (!*version) /* it does not say: it finds out by itself */
        return HARK_OK;
    major = atoi(version);
    const char *dot = strchr(version, '.');
    minor = dot ? atoi(dot + 1) : 0;
    if (major > 6 || (major == 6 && minor >= 2))
        return HARK_OK;
    return hk_fail(ei, HARK_EFORMAT,
                   "%s is Redis %.20s, and a log needs 6.2 or newer; use a newer server", s->where,
                   version);
}

static hark_err look_at_info(hark_store *s, const char *info, hk_rs_class *ret, hark_errinfo *ei)
{
    char version[24], role[24];
    copy_field(info, "redis_version", version, sizeof version);
    copy_field(info, "role", role, sizeof role);
    copy_field(info, "run_id", ret->run, sizeof ret->run);
    hark_err err = check_version(s, version, ei);
    if (!err && strcmp(role, "slave") == 0)
        err =
            hk_fail(ei, HARK_EREADONLY,
                    "%s is a replica, which takes no writes; name its master in the URL", s->where);
    return err;
}

static const redisReply *setting(const redisReply *r, const char *name)
{
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements; i += 2)
        if (r->element[i]->type == REDIS_REPLY_STRING && strcmp(r->element[i]->str, name) == 0 &&
            r->element[i + 1]->type == REDIS_REPLY_STRING)
            return r->element[i + 1];
    return NULL;
}

static bool is_set(const redisReply *r, const char *name, const char *value)
{
    const redisReply *x = setting(r, name);
    return x && strcmp(x->str, value) == 0;
}

/* No key of ours expires, so that the volatile- ones throw away nothing of ours; but then they throw away nothing at
 * all, or other programs' keys: who sets them wants a cache, and gets one of his own. */
static hark_err check_memory(const hark_store *s, const redisReply *r, hark_errinfo *ei)
{
    const redisReply *most = setting(r, "maxmemory"), *policy = setting(r, "maxmemory-policy");
    if (!most || !policy || strcmp(most->str, "0") == 0 || strcmp(policy->str, "noeviction") == 0)
        return HARK_OK;
    return hk_fail(ei, HARK_EINVAL,
                   "%s may throw keys away when its memory is full (maxmemory %.24s, "
                   "maxmemory-policy %.40s), and a log with them; set maxmemory-policy to "
                   "noeviction, or maxmemory to 0",
                   s->where, most->str, policy->str);
}

static hark_durability class_of(const redisReply *r)
{
    if (!is_set(r, "appendonly", "yes"))
        return HARK_MEMORY;
    if (is_set(r, "appendfsync", "always") && is_set(r, "no-appendfsync-on-rewrite", "no"))
        return HARK_DISK;
    return is_set(r, "appendfsync", "no") ? HARK_OS : HARK_MEMORY;
}

static hark_err ask_info(hark_store *s, hk_link *l, hk_rs_class *ret, hark_errinfo *ei)
{
    static const char *const words[] = {"INFO"};
    redisReply *r = NULL;
    hark_err err = hk_link_command(l, words, 1, &r, ei);
    if (err)
        return err;
    if (hk_redis_is_error(r, "NOPERM"))
        err = HARK_OK; /* what it does not tell is not counted on */
    else if (r->type == REDIS_REPLY_ERROR)
        err = hk_link_refused(s, l, r, ei);
    else if (r->type == REDIS_REPLY_STRING)
        err = look_at_info(s, r->str, ret, ei);
    else
        err = hk_redis_strange(&l->conn, "INFO", ei);
    freeReplyObject(r);
    return err;
}

/* A list of names is one pattern each only from Redis 7 on: all of them come by their patterns. */
static hark_err ask_config(hark_store *s, hk_link *l, const char *pattern, redisReply **ret,
                           hark_errinfo *ei)
{
    const char *const words[] = {"CONFIG", "GET", pattern};
    redisReply *r = NULL;
    hark_err err = hk_link_command(l, words, 3, &r, ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ARRAY) {
        *ret = r;
        return HARK_OK;
    }
    if (hk_redis_is_error(r, "LOADING"))
        err = hk_link_refused(s, l, r, ei);
    freeReplyObject(r);
    return err;
}

hark_err hk_rs_class_look(hark_store *s, hk_link *l, hk_rs_class *ret, hark_errinfo *ei)
{
    redisReply *sync = NULL, *memory = NULL;
    *ret = (hk_rs_class){.durability = HARK_MEMORY};
    hark_err err = ask_info(s, l, ret, ei);
    if (!err)
        err = ask_config(s, l, "*append*", &sync, ei);
    if (!err)
        err = ask_config(s, l, "maxmemory*", &memory, ei);
    if (!err && memory)
        err = check_memory(s, memory, ei);
    if (!err && sync)
        ret->durability = class_of(sync);
    if (sync)
        freeReplyObject(sync);
    if (memory)
        freeReplyObject(memory);
    return err;
}
