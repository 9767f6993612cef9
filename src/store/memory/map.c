/* map.c: numbers to pointers, by open addressing with linear probing: finding, putting and taking
 * out cost the same however many there are. Taking out closes the row of cells again, so there are
 * no marks of what was. Not sorted: who wants an order sorts what it took from here. */
#include "store/memory/ledger_i.h"

#include <stdlib.h>

enum { LEAST = 16 };

static size_t home(const hk_mem_map *m, uint64_t key)
{
    key *= UINT64_C(0x9e3779b97f4a7c15); /* 2^64 divided by the golden ratio */
    return (size_t)(key >> 32) & (m->cap - 1);
}

/* Where the key is, or the free cell where it belongs. There always is a free one. */
static size_t seek(const hk_mem_map *m, uint64_t key)
{
    size_t i = home(m, key);
    while (m->cells[i].value && m->cells[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return i;
}

void *hk_mem_map_find(const hk_mem_map *m, uint64_t key)
{
    return m->cap ? m->cells[seek(m, key)].value : NULL;
}

bool hk_mem_map_room(hk_mem_map *m, size_t more)
{
    size_t cap = m->cap ? m->cap : LEAST;
    if (more > SIZE_MAX / 4 - m->n)
        return false;
    while ((m->n + more) * 4 > cap * 3)
        cap *= 2;
    if (cap == m->cap)
        return true;
    hk_mem_map larger = {.cells = calloc(cap, sizeof *larger.cells), .cap = cap};
    if (!larger.cells)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->cells[i].value)
            hk_mem_map_put(&larger, m->cells[i].key, m->cells[i].value);
    free(m->cells);
    *m = larger;
    return true;
}

void hk_mem_map_put(hk_mem_map *m, uint64_t key, void *value)
{
    hk_mem_cell *cell = &m->cells[seek(m, key)];
    m->n += !cell->value;
    *cell = (hk_mem_cell){.key = key, .value = value};
}

/* Frees the cell and moves up those behind it that may then lie nearer to their home. */
static void take_at(hk_mem_map *m, size_t hole)
{
    size_t mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->cells[i].value; i = (i + 1) & mask) {
        size_t distance = (i - home(m, m->cells[i].key)) & mask;
        if (distance >= ((i - hole) & mask)) {
            m->cells[hole] = m->cells[i];
            hole = i;
        }
    }
    m->cells[hole] = (hk_mem_cell){0};
    m->n--;
}

void hk_mem_map_take(hk_mem_map *m, uint64_t key)
{
    size_t at = m->cap ? seek(m, key) : 0;
    if (m->cap && m->cells[at].value)
        take_at(m, at);
}

void *hk_mem_map_next(const hk_mem_map *m, size_t *at)
{
    while (*at < m->cap) {
        void *value = m->cells[(*at)++].value;
        if (value)
            return value;
    }
    return NULL;
}

/* A cell that was filled from behind is looked at again. One that comes from before, round the end,
 * was looked at already: it stays and is asked about twice. */
void hk_mem_map_sweep(hk_mem_map *m, bool (*gone)(void *value, void *ud), void *ud)
{
    for (size_t i = 0; i < m->cap;)
        if (m->cells[i].value && gone(m->cells[i].value, ud))
            take_at(m, i);
        else
            i++;
    if (m->n == 0)
        hk_mem_map_free(m);
}

void hk_mem_map_free(hk_mem_map *m)
{
    free(m->cells);
    *m = (hk_mem_map){0};
}
