/* Memory of one request: taken from blocks, never given back singly, all of it at the end. The
 * first block stays with the context, so that most requests allocate nothing. */
#include "http/http_i.h"

#include <stdlib.h>
#include <string.h>

struct hk_arena_block {
    hk_arena_block *next;
    size_t size;
    _Alignas(16) char data[];
};

void hk_arena_init(hk_arena *a, void *first, size_t len)
{
    uintptr_t start = ((uintptr_t)first + 15) & ~(uintptr_t)15;
    a->blocks = NULL;
    a->first = (char *)first + (start - (uintptr_t)first);
    a->first_end = (char *)first + len;
    a->at = a->first;
    a->end = a->first_end;
}

static bool add_block(hk_arena *a, size_t size)
{
    size_t want = size + sizeof(hk_arena_block);
    if (want < 4096)
        want = 4096;
    hk_arena_block *b = malloc(want);
    if (!b)
        return false;
    b->next = a->blocks;
    a->blocks = b;
    a->at = b->data;
    a->end = (char *)b + want;
    return true;
}

void *hk_arena_alloc(hk_arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    if ((size_t)(a->end - a->at) < size && !add_block(a, size))
        return NULL;
    void *p = a->at;
    a->at += size;
    return p;
}

char *hk_arena_copy(hk_arena *a, const void *data, size_t len)
{
    char *p = hk_arena_alloc(a, len + 1);
    if (!p)
        return NULL;
    if (len)
        memcpy(p, data, len);
    p[len] = '\0';
    return p;
}

void hk_arena_reset(hk_arena *a)
{
    for (hk_arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->blocks = NULL;
    a->at = a->first;
    a->end = a->first_end;
}
