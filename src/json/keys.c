/* Finds duplicate member names. A small object compares each new name with those before it; a
 * large one sorts its names when it closes. Sorting needs no hash function, so nobody can choose
 * names that collide: 100 000 names in one object cost n log n, whatever they are. Memory is
 * allocated only when more than HK_JSON_KEYS_LOCAL names are open. Called by slice.c only. */
#include "json/keys_i.h"

#include "json/scan_i.h"

#include <stdlib.h>
#include <string.h>

#define FEW 16 /* names of one object up to which each is compared with all */

void hk_json_keys_init(hk_json_keys *keys)
{
    keys->list = keys->local;
    keys->count = 0;
    keys->room = HK_JSON_KEYS_LOCAL;
}

void hk_json_keys_free(hk_json_keys *keys)
{
    if (keys->list != keys->local)
        free(keys->list);
}

static bool keys_grow(hk_json_keys *keys)
{
    bool local = keys->list == keys->local;
    if (keys->room > SIZE_MAX / 2 / sizeof(hk_json_key))
        return false;
    size_t bytes = keys->room * 2 * sizeof(hk_json_key);
    hk_json_key *list = realloc(local ? NULL : keys->list, bytes);
    if (list == NULL)
        return false;
    if (local)
        memcpy(list, keys->local, sizeof(keys->local));
    keys->list = list;
    keys->room *= 2;
    return true;
}

static uint64_t tag_of_plain(const char *p, size_t len)
{
    uint64_t tag = 0;
    memcpy(&tag, p, len < 8 ? len : 8);
    return tag;
}

static void key_make(hk_json_key *key, hk_json_slice name)
{
    key->name = name;
    if (!name.escaped) {
        key->bytes = name.len - 2;
        key->tag = tag_of_plain(name.ptr + 1, key->bytes);
        return;
    }
    const char *p = name.ptr + 1, *end = name.ptr + name.len - 1;
    char head[8] = {0}, unit[4];
    size_t len = 0;
    while (p < end) {
        size_t n = hk_json_unescape_step(&p, end, unit);
        for (size_t i = 0; i < n; i++, len++)
            if (len < 8)
                head[len] = unit[i];
    }
    key->bytes = len;
    key->tag = tag_of_plain(head, 8);
}

/* Reads the unescaped bytes of a name one by one. */
typedef struct reader {
    const char *p, *end;
    char unit[4];
    size_t at, have;
} reader;

static unsigned char reader_next(reader *r)
{
    if (r->at == r->have) {
        r->at = 0;
        r->have = hk_json_unescape_step(&r->p, r->end, r->unit);
    }
    return (unsigned char)r->unit[r->at++];
}

static int compare_escaped(const hk_json_key *a, const hk_json_key *b)
{
    reader ra = {.p = a->name.ptr + 1, .end = a->name.ptr + a->name.len - 1};
    reader rb = {.p = b->name.ptr + 1, .end = b->name.ptr + b->name.len - 1};
    for (size_t i = 0; i < a->bytes; i++) {
        int d = (int)reader_next(&ra) - (int)reader_next(&rb);
        if (d != 0)
            return d;
    }
    return 0;
}

/* Any total order will do; this one seldom looks at the text. */
static int key_compare(const hk_json_key *a, const hk_json_key *b)
{
    if (a->tag != b->tag)
        return a->tag < b->tag ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    if (a->bytes <= 8)
        return 0;
    if (a->name.escaped || b->name.escaped)
        return compare_escaped(a, b);
    return memcmp(a->name.ptr + 1, b->name.ptr + 1, a->bytes);
}

static int sort_compare(const void *a, const void *b)
{
    return key_compare(a, b);
}

hk_json_fault hk_json_keys_add(hk_json_keys *keys, size_t base, hk_json_slice name)
{
    if (keys->count == keys->room && !keys_grow(keys))
        return HK_JSON_FAULT_MEMORY;
    hk_json_key *key = &keys->list[keys->count];
    key_make(key, name);
    if (keys->count - base < FEW)
        for (size_t i = base; i < keys->count; i++)
            if (key_compare(&keys->list[i], key) == 0)
                return HK_JSON_FAULT_DUPLICATE;
    keys->count++;
    return HK_JSON_FAULT_NONE;
}

const char *hk_json_keys_close(hk_json_keys *keys, size_t base)
{
    hk_json_key *list = keys->list + base;
    size_t count = keys->count - base;
    keys->count = base;
    if (count <= FEW)
        return NULL;
    qsort(list, count, sizeof(*list), sort_compare);
    for (size_t i = 1; i < count; i++)
        if (key_compare(&list[i - 1], &list[i]) == 0)
            return list[i - 1].name.ptr > list[i].name.ptr ? list[i - 1].name.ptr
                                                           : list[i].name.ptr;
    return NULL;
}
