/* store.c: from a URL to a backend, and what the ledger's structs need. */
#include "store/store.h"

#include "base/base.h"

#include "store/memory/memory.h"
#include "store/postgres/postgres.h"
#include "store/redis/redis.h"
#include "store/sqlite/sqlite.h"

#include <stdlib.h>
#include <string.h>

static const hark_store_ops *const backends[] = {&hk_store_memory, &hk_store_sqlite,
                                                 &hk_store_postgres, &hk_store_redis,
                                                 &hk_store_redis_pubsub};

#define KNOWN                                                                                      \
    "memory:, sqlite:PATH, postgresql://HOST/DATABASE, redis://HOST or redis+pubsub://HOST"

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

static void free_rows(hark_store_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)(uintptr_t)rows[i].key);
        free((char *)(uintptr_t)rows[i].error);
    }
    free(rows);
}

void hark_store_consumer_clear(hark_store_consumer *c)
{
    free_rows(c->ret_rows, c->ret_n_rows);
    free(c->ret_settled);
    free(c->ret_pattern);
    free(c->ret_policy);
    c->ret_rows = NULL;
    c->ret_settled = NULL;
    c->ret_pattern = c->ret_policy = NULL;
    c->ret_n_rows = c->ret_n_settled = 0;
}

/* ---- shares ---------------------------------------------------------------------------------- */

uint32_t hark_store_share_of(const char *key, uint64_t sequence, uint32_t n)
{
    return hk_share_of(key, sequence, n);
}

void hark_store_shares_clear(hark_store_shares *x)
{
    for (size_t i = 0; i < x->n_claimed; i++) {
        free_rows(x->claimed[i].rows, x->claimed[i].n_rows);
        free(x->claimed[i].settled);
    }
    for (size_t i = 0; i < x->n_news; i++)
        free(x->news[i].key);
    free(x->owned);
    free(x->give);
    free(x->claimed);
    free(x->news);
    x->owned = NULL;
    x->give = NULL;
    x->claimed = NULL;
    x->news = NULL;
    x->n_owned = x->n_give = x->n_claimed = x->n_news = 0;
}
