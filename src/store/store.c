/* store.c: from a URL to a backend, and what the ledger's structs need. */
#include "store/store.h"

#include "store/memory/memory.h"
#include "store/sqlite/sqlite.h"

#include <stdlib.h>
#include <string.h>

static const hark_store_ops *const backends[] = {&hk_store_memory, &hk_store_sqlite};

hark_err hk_store_find(const char *url, const hark_store_ops **ret, const char **ret_rest,
                       hark_errinfo *ei)
{
    if (!url)
        return hk_fail(ei, HARK_EINVAL, "the store URL is NULL; use memory: or sqlite:PATH");
    for (size_t i = 0; i < HK_COUNTOF(backends); i++) {
        size_t n = strlen(backends[i]->scheme);
        if (strncmp(url, backends[i]->scheme, n) == 0 && url[n] == ':') {
            *ret = backends[i];
            *ret_rest = url + n + 1;
            return HARK_OK;
        }
    }
    return hk_fail(ei, HARK_EINVAL, "unknown store URL '%.120s'; use memory: or sqlite:PATH", url);
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
