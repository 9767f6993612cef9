/* store.c: from a URL to a backend, and what the ledger's structs need. */
#include "store/store.h"

#include "store/memory/memory.h"
#include "store/postgres/postgres.h"
#include "store/redis/redis.h"
#include "store/sqlite/sqlite.h"

#include <stdlib.h>
#include <string.h>

static const hark_store_ops *const backends[] = {&hk_store_memory, &hk_store_sqlite,
                                                 &hk_store_postgres, &hk_store_redis_pubsub};

#define KNOWN "memory:, sqlite:PATH, postgresql://HOST/DATABASE or redis+pubsub://HOST"

/* What follows "scheme:", or NULL. */
static const char *behind(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncmp(url, scheme, n) == 0 && url[n] == ':' ? url + n + 1 : NULL;
}

static const char *rest_of(const char *url, const hark_store_ops *ops)
{
    const char *rest = behind(url, ops->scheme);
    if (!rest && ops == &hk_store_postgres) /* libpq knows both, and so do people */
        rest = behind(url, "postgres");
    return rest;
}

hark_err hk_store_find(const char *url, const hark_store_ops **ret, const char **ret_rest,
                       hark_errinfo *ei)
{
    if (!url)
        return hk_fail(ei, HARK_EINVAL, "the store URL is NULL; use " KNOWN);
    for (size_t i = 0; i < HK_COUNTOF(backends); i++) {
        const char *rest = rest_of(url, backends[i]);
        if (rest) {
            *ret = backends[i];
            *ret_rest = rest;
            return HARK_OK;
        }
    }
    size_t n = strchr(url, '@') ? strcspn(url, ":/") : strlen(url); /* a password may be in it */
    return hk_fail(ei, HARK_EINVAL, "unknown store URL '%.*s%s'; use " KNOWN,
                   (int)(n < 120 ? n : 120), url, url[n] ? "…" : "");
}

void hark_store_consumer_clear(hark_store_consumer *c)
{
    for (size_t i = 0; i < c->ret_n_rows; i++) {
        free((char *)(uintptr_t)c->ret_rows[i].key);
        free((char *)(uintptr_t)c->ret_rows[i].error);
    }
    free(c->ret_rows);
    free(c->ret_settled);
    free(c->ret_pattern);
    free(c->ret_policy);
    c->ret_rows = NULL;
    c->ret_settled = NULL;
    c->ret_pattern = c->ret_policy = NULL;
    c->ret_n_rows = c->ret_n_settled = 0;
}
