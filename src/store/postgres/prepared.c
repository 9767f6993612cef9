/* prepared: statements of the program's that are kept prepared on the writer's connection, by their text and by which
 * of their arguments are blobs, since types are part of what is prepared. */
#include "store/postgres/program_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const hk_pg_sql hk_pg_q_savepoint = {"q_savepoint", "SAVEPOINT hark_q"};
const hk_pg_sql hk_pg_q_release = {"q_release", "RELEASE hark_q"};
const hk_pg_sql hk_pg_q_rollback_to = {"q_rollback_to", "ROLLBACK TO hark_q"};

static void drop(hk_pg_ready *k)
{
    free(k->text);
    free(k->said.sql);
    free(k->blobs);
    *k = (hk_pg_ready){0};
}

void hk_pg_statements_free(hk_pg_statements *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        drop(&p->kept[i]);
    hk_pg_values_free(&p->values);
    free(p);
}

static bool fits(const hk_pg_ready *k, const hk_pg_ask *ask)
{
    for (size_t i = 0; i < ask->n; i++)
        if (k->blobs[i] != (ask->args[i].kind == HARK_BLOB))
            return false;
    return true;
}

static hk_pg_ready *find(hk_pg_statements *p, const hk_pg_ask *ask, size_t len, uint64_t hash)
{
    for (size_t i = 0; i < p->n; i++) {
        hk_pg_ready *k = &p->kept[i];
        if (k->hash == hash && k->len == len && k->said.params == ask->n &&
            memcmp(k->text, ask->sql, len) == 0 && fits(k, ask))
            return k;
    }
    return NULL;
}

/* Those of another connection are not prepared any more. */
void hk_pg_ready_look(hk_pg_statements *p, const hk_pg *c)
{
    if (p->pg == c->pg && p->pid == c->pid)
        return;
    for (size_t i = 0; i < p->n; i++)
        p->kept[i].prepared = false;
    p->pg = c->pg;
    p->pid = c->pid;
}

void hk_pg_ready_name(const hk_pg_statements *p, const hk_pg_ready *k, char ret[16])
{
    (void)snprintf(ret, 16, "hark_p%d", (int)(k - p->kept));
}

static void ignore(void *ud, const PGresult *r)
{
    (void)ud;
    (void)r;
}

/* Frees the name that it has on the server. It may be gone already: the program has the connection, too. */
hark_err hk_pg_ready_forget(hk_pg_statements *p, hk_pg *c, hk_pg_ready *k, hark_errinfo *ei)
{
    char name[16], text[40];
    hk_pg_theirs t = {.name = "", .prepare = text, .result = ignore};
    if (!k->prepared)
        return HARK_OK;
    hk_pg_ready_name(p, k, name);
    (void)snprintf(text, sizeof text, "DEALLOCATE %s", name);
    k->prepared = false;
    hark_err err = hk_pg_send(c, &hk_pg_q_savepoint, NULL, ei);
    if (!err)
        err = hk_pg_send_theirs(c, &t, ei);
    if (!err)
        err = hk_pg_run(c, &hk_pg_q_release, NULL, NULL, "giving up a statement", ei);
    if (!err || !hk_pg_connected(c))
        return err;
    err = hk_pg_send(c, &hk_pg_q_rollback_to, NULL, ei);
    return err ? err : hk_pg_run(c, &hk_pg_q_release, NULL, NULL, "giving up a statement", ei);
}

/* A place for one more: the one that was not used for the longest time goes. */
static hk_pg_ready *oldest(hk_pg_statements *p)
{
    if (p->n < HK_PG_READY)
        return &p->kept[p->n++];
    hk_pg_ready *old = &p->kept[0];
    for (size_t i = 1; i < p->n; i++)
        if (p->kept[i].used < old->used)
            old = &p->kept[i];
    return old;
}

#define LONG 65536 /* a text that is not kept */

/* Puts it into a place; false: no memory, it is not kept then. */
static bool keep(hk_pg_ready *k, const hk_pg_ask *ask, size_t len, uint64_t hash,
                 hk_pg_statement *said)
{
    char *text = hk_strdup(ask->sql);
    uint8_t *blobs = calloc(ask->n + 1, 1);
    drop(k);
    if (!text || !blobs) {
        free(text);
        free(blobs);
        return false;
    }
    for (size_t i = 0; i < ask->n; i++)
        blobs[i] = ask->args[i].kind == HARK_BLOB;
    *k = (hk_pg_ready){.text = text, .len = len, .hash = hash, .said = *said, .blobs = blobs};
    *said = (hk_pg_statement){0};
    return true;
}

hark_err hk_pg_count_args(const hk_pg_ask *ask, size_t wanted, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    if (ask->n == wanted)
        return HARK_OK;
    return hk_fail(ei, HARK_EINVAL,
                   "the statement has %zu parameter%s, %zu argument%s given, in: %s", wanted,
                   wanted == 1 ? "" : "s", ask->n, ask->n == 1 ? " was" : "s were",
                   hk_sql_beginning(ask->sql, head));
}

/* The statement to be run: one that is kept, or *own, which the caller frees. */
hark_err hk_pg_ready_take(hark_store *s, const hk_pg_ask *ask, hk_pg_ready **ret,
                          hk_pg_statement *own, hark_errinfo *ei)
{
    hk_pg_statements *p = s->program;
    size_t len = strlen(ask->sql);
    uint64_t hash = hk_hash(ask->sql, len);
    hk_pg_ready *k = *ret = find(p, ask, len, hash);
    if (HK_LIKELY(k != NULL)) {
        k->used = ++p->uses;
        return HARK_OK;
    }
    hark_err err = hk_pg_translate(ask->sql, s->schema, false, own, ei);
    if (!err)
        err = hk_pg_count_args(ask, own->params, ei);
    if (err || !own->often || len > LONG)
        return err;
    k = oldest(p);
    err = hk_pg_ready_forget(p, &s->w, k, ei);
    if (!err && keep(k, ask, len, hash, own)) {
        k->used = ++p->uses;
        *ret = k;
    }
    return err;
}
