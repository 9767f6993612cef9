/* list.c: pointers in order of ids that only rise, found by bisection; copies of things, to be shown
 * without the ledger's lock; strings at the end of a block. */
#include "store/memory/ledger_i.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 16 };

/* ---- the list ---------------------------------------------------------------------------------- */

bool hk_mem_list_room(hk_mem_list *l, size_t more)
{
    size_t cap = l->cap ? l->cap : LEAST;
    while (l->n + more > cap)
        cap *= 2;
    if (cap == l->cap)
        return true;
    hk_mem_cell *cells = realloc(l->cells, cap * sizeof *cells);
    if (!cells)
        return false;
    l->cells = cells;
    l->cap = cap;
    return true;
}

void hk_mem_list_add(hk_mem_list *l, uint64_t id, void *value)
{
    l->cells[l->n++] = (hk_mem_cell){.key = id, .value = value};
}

/* The first place with an id above `after`. */
static size_t above(const hk_mem_list *l, uint64_t after)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (l->cells[middle].key > after)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static size_t place_of(const hk_mem_list *l, uint64_t id)
{
    size_t i = id ? above(l, id - 1) : l->n;
    return i < l->n && l->cells[i].key == id ? i : l->n;
}

void *hk_mem_list_find(const hk_mem_list *l, uint64_t id)
{
    size_t i = place_of(l, id);
    return i < l->n ? l->cells[i].value : NULL;
}

static void close_holes(hk_mem_list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->cells[i].value)
            l->cells[n++] = l->cells[i];
    l->n = n;
    l->holes = 0;
}

void hk_mem_list_take(hk_mem_list *l, uint64_t id)
{
    size_t i = place_of(l, id);
    if (i == l->n || !l->cells[i].value)
        return;
    l->cells[i].value = NULL;
    if (++l->holes > LEAST && l->holes > l->n / 2)
        close_holes(l);
}

void *hk_mem_list_above(const hk_mem_list *l, uint64_t after, uint64_t *ret_id)
{
    for (size_t i = above(l, after); i < l->n; i++)
        if (l->cells[i].value) {
            *ret_id = l->cells[i].key;
            return l->cells[i].value;
        }
    return NULL;
}

void hk_mem_list_free(hk_mem_list *l)
{
    free(l->cells);
    *l = (hk_mem_list){0};
}

/* ---- copies ------------------------------------------------------------------------------------ */

bool hk_mem_copies_add(hk_mem_copies *c, void *block)
{
    if (block && c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : LEAST;
        void **blocks = realloc(c->blocks, cap * sizeof *blocks);
        if (!blocks) {
            free(block);
            return false;
        }
        c->blocks = blocks;
        c->cap = cap;
    }
    if (block)
        c->blocks[c->n++] = block;
    return block != NULL;
}

void hk_mem_copies_free(hk_mem_copies *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->blocks[i]);
    free(c->blocks);
    *c = (hk_mem_copies){0};
}

size_t hk_mem_text_size(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

const char *hk_mem_text_put(char **room, const char *s)
{
    char *at = *room;
    if (!s)
        return NULL;
    size_t size = strlen(s) + 1;
    memcpy(at, s, size);
    *room = at + size;
    return at;
}
