/* Numbers for names: a hash table on the writer's side, an array on each reader's. Readers fill
 * theirs from their own snapshot, so nothing is shared between threads; a number is never given to
 * another name once its group has committed, and before that no reader sees it. */
#include "store/sqlite/names_i.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

static size_t slot_of(const hk_intern *t, uint64_t hash, const char *name, size_t len)
{
    size_t i = hash & (t->n_slots - 1);
    for (; t->slots[i]; i = (i + 1) & (t->n_slots - 1)) {
        const struct hk_intern_entry *e = &t->entries[t->slots[i] - 1];
        if (e->hash == hash && e->len == len && memcmp(e->name, name, len) == 0)
            break;
    }
    return i;
}

static void rebuild(hk_intern *t)
{
    memset(t->slots, 0, t->n_slots * sizeof *t->slots);
    for (size_t i = 0; i < t->n; i++) {
        const struct hk_intern_entry *e = &t->entries[i];
        t->slots[slot_of(t, e->hash, e->name, e->len)] = (uint32_t)i + 1;
    }
}

static bool grow(hk_intern *t)
{
    size_t cap = t->cap ? t->cap * 2 : 64;
    struct hk_intern_entry *entries = realloc(t->entries, cap * sizeof *entries);
    if (!entries)
        return false;
    t->entries = entries;
    uint32_t *slots = calloc(cap * 2, sizeof *slots);
    if (!slots)
        return false;
    free(t->slots);
    t->slots = slots;
    t->n_slots = cap * 2;
    t->cap = cap;
    rebuild(t);
    return true;
}

/* Keeps a name; when that is not possible it will be looked up again. */
static void keep(hk_intern *t, uint64_t hash, const char *name, size_t len, int64_t id)
{
    if (t->n >= HK_NAMES_MAX || (t->n == t->cap && !grow(t)))
        return;
    char *copy = hk_strdup(name);
    if (!copy)
        return;
    t->entries[t->n] = (struct hk_intern_entry){.name = copy, .len = len, .hash = hash, .id = id};
    t->slots[slot_of(t, hash, name, len)] = (uint32_t)++t->n;
}

static hark_err find_or_add(hk_name_kind kind, hk_conn *c, const char *name, size_t len,
                            int64_t *ret, hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(c, (hk_sql)(HK_SQL_TYPE_ID + kind), ei);
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_text(st, 1, name, (int)len, SQLITE_STATIC);
    int64_t id;
    hark_err err = hk_conn_int(c, st, 0, &id, ei);
    if (err)
        return err;
    if (id == 0) {
        st = hk_conn_stmt(c, (hk_sql)(HK_SQL_ADD_TYPE + kind), ei);
        if (!st)
            return HARK_ESTORE;
        sqlite3_bind_text(st, 1, name, (int)len, SQLITE_STATIC);
        err = hk_conn_run(c, st, "adding a name", ei);
        if (err)
            return err;
        id = sqlite3_last_insert_rowid(c->db);
    }
    *ret = id;
    return HARK_OK;
}

hark_err hk_intern_id(hk_intern *t, hk_name_kind kind, hk_conn *c, const char *name, int64_t *ret,
                      hark_errinfo *ei)
{
    size_t len = strlen(name);
    uint64_t hash = hk_hash(name, len);
    if (HK_LIKELY(t->n_slots != 0)) {
        size_t i = slot_of(t, hash, name, len);
        if (HK_LIKELY(t->slots[i] != 0)) {
            *ret = t->entries[t->slots[i] - 1].id;
            return HARK_OK;
        }
    }
    hark_err err = find_or_add(kind, c, name, len, ret, ei);
    if (!err)
        keep(t, hash, name, len, *ret);
    return err;
}

void hk_intern_commit(hk_intern *t)
{
    t->n_kept = t->n;
}

size_t hk_intern_mark(const hk_intern *t)
{
    return t->n;
}

void hk_intern_back(hk_intern *t, size_t mark)
{
    if (t->n == mark)
        return;
    while (t->n > mark)
        free(t->entries[--t->n].name);
    rebuild(t);
}

void hk_intern_rollback(hk_intern *t)
{
    hk_intern_back(t, t->n_kept);
}

void hk_intern_free(hk_intern *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->entries[i].name);
    free(t->entries);
    free(t->slots);
}

static bool make_room(hk_names *t, size_t id)
{
    size_t cap = t->cap ? t->cap : 64;
    while (cap <= id)
        cap *= 2;
    char **by_id = realloc(t->by_id, cap * sizeof *by_id);
    if (!by_id)
        return false;
    memset(by_id + t->cap, 0, (cap - t->cap) * sizeof *by_id);
    t->by_id = by_id;
    t->cap = cap;
    return true;
}

static hark_err look_up(hk_name_kind kind, hk_conn *c, int64_t id, char **ret, hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(c, (hk_sql)(HK_SQL_TYPE_NAME + kind), ei);
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_int64(st, 1, id);
    bool row;
    hark_err err = hk_conn_step(c, st, &row, "reading a name", ei);
    const char *name = !err && row ? (const char *)sqlite3_column_text(st, 0) : NULL;
    if (!err && !name)
        err = hk_fail(ei, HARK_ECORRUPT,
                      "the log names %s %lld, which is not there; restore from a backup",
                      kind == HK_NAME_TYPE     ? "type"
                      : kind == HK_NAME_SOURCE ? "source"
                                               : "media type",
                      (long long)id);
    if (!err && !(*ret = hk_strdup(name)))
        err = hk_fail(ei, HARK_ENOMEM, "no memory for a name");
    sqlite3_reset(st);
    return err;
}

hark_err hk_names_get(hk_names *t, hk_name_kind kind, hk_conn *c, int64_t id, const char **ret,
                      hark_errinfo *ei)
{
    if (HK_LIKELY(id >= 0 && (size_t)id < t->cap && t->by_id[id])) {
        *ret = t->by_id[id];
        return HARK_OK;
    }
    char *name = NULL;
    hark_err err = look_up(kind, c, id, &name, ei);
    if (err)
        return err;
    *ret = name;
    if (id >= 0 && id < HK_NAMES_MAX && ((size_t)id < t->cap || make_room(t, (size_t)id))) {
        t->by_id[id] = name;
        return HARK_OK;
    }
    free(t->last);
    t->last = name;
    return HARK_OK;
}

void hk_names_free(hk_names *t)
{
    for (size_t i = 0; i < t->cap; i++)
        free(t->by_id[i]);
    free(t->by_id);
    free(t->last);
}
