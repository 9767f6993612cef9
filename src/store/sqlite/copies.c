/* Rows of a list, copied inside a read transaction to be shown after it: a callback that takes its
 * time would else hold back checkpoints, and the write-ahead log would grow. What a row refers to
 * besides strings is the lister's. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>
#include <string.h>

static const char *string_at(const void *row, size_t offset)
{
    const char *s;
    memcpy(&s, (const char *)row + offset, sizeof s);
    return s;
}

static void *copy(const void *row, size_t size, const size_t *strings, size_t n)
{
    size_t len = size;
    for (size_t i = 0; i < n; i++) {
        const char *s = string_at(row, strings[i]);
        len += s ? strlen(s) + 1 : 0;
    }
    char *block = malloc(len), *room = block + size;
    if (!block)
        return NULL;
    memcpy(block, row, size);
    for (size_t i = 0; i < n; i++) {
        const char *s = string_at(row, strings[i]);
        if (!s)
            continue;
        size_t bytes = strlen(s) + 1;
        memcpy(room, s, bytes);
        memcpy(block + strings[i], &room, sizeof room);
        room += bytes;
    }
    return block;
}

bool hk_copies_add(hk_copies *c, const void *row, size_t size, const size_t *strings, size_t n)
{
    if (c->n == c->cap) {
        size_t more = c->cap ? c->cap * 2 : 16;
        void **rows = realloc(c->rows, more * sizeof *rows);
        if (!rows)
            return false;
        c->rows = rows;
        c->cap = more;
    }
    void *block = copy(row, size, strings, n);
    if (block)
        c->rows[c->n++] = block;
    return block != NULL;
}

void hk_copies_clear(hk_copies *c)
{
    while (c->n)
        free(c->rows[--c->n]);
}

void hk_copies_free(hk_copies *c)
{
    hk_copies_clear(c);
    free(c->rows);
    *c = (hk_copies){0};
}
