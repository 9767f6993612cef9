/* names: types, sources and media types are stored once and named by a small number in each row. */
#ifndef HK_SQLITE_NAMES_I_H
#define HK_SQLITE_NAMES_I_H

#include "store/sqlite/conn_i.h"

#include <stddef.h>

typedef enum hk_name_kind {
    HK_NAME_TYPE,
    HK_NAME_SOURCE,
    HK_NAME_MEDIA,
    HK_NAME_KINDS
} hk_name_kind;

/* Names kept in memory for each kind; further ones are looked up in the file. */
#define HK_NAMES_MAX 65536

/* Name to number, for the writer. What a group adds leaves with it when it rolls back. */
typedef struct hk_intern {
    struct hk_intern_entry {
        char *name;
        size_t len;
        uint64_t hash;
        int64_t id;
    } * entries;
    size_t n, cap;
    size_t n_kept;   /* entries of committed groups */
    uint32_t *slots; /* entry + 1; a power of two of them */
    size_t n_slots;
} hk_intern;

hark_err hk_intern_id(hk_intern *t, hk_name_kind kind, hk_conn *c, const char *name, int64_t *ret,
                      hark_errinfo *ei);
void hk_intern_commit(hk_intern *t);
void hk_intern_rollback(hk_intern *t);
/* A part of a group that is undone: back to where it began. */
size_t hk_intern_mark(const hk_intern *t);
void hk_intern_back(hk_intern *t, size_t mark);
void hk_intern_free(hk_intern *t);

/* Number to name, for one reader. */
typedef struct hk_names {
    char **by_id;
    size_t cap;
    char *last; /* of one that is not kept */
} hk_names;

/* Valid until the next call for a name that is not kept. */
hark_err hk_names_get(hk_names *t, hk_name_kind kind, hk_conn *c, int64_t id, const char **ret,
                      hark_errinfo *ei);
void hk_names_free(hk_names *t);

#endif
