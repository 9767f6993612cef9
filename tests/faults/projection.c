/* projection: see projection.h. Used by the program that is killed and by the test that compares. */
#include "projection.h"

#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(projection_row) == 32, "a row lies within a page");

void projection_open(projection *p, const char *path, bool anew)
{
    memset(p->rows, 0, sizeof p->rows);
    atomic_store(&p->applied, 0);
    atomic_store(&p->repeats, 0);
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (anew ? O_TRUNC : 0), 0644);
    KIT_CHECK(p->fd >= 0, "cannot open %s: %s", path, strerror(errno));
    ssize_t n = pread(p->fd, p->rows, sizeof p->rows, 0);
    KIT_CHECK(n >= 0, "cannot read %s: %s", path, strerror(errno));
}

void projection_close(projection *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

bool projection_apply(projection *p, const hark_event *e)
{
    size_t len;
    unsigned key = (unsigned)strtoul(hark_event_key(e) + 1, NULL, 10);
    int64_t amount = strtoll(hark_event_data(e, &len), NULL, 10);
    uint64_t seq = hark_event_sequence(e);
    KIT_CHECK(key < PROJECTION_KEYS, "a strange key: %s", hark_event_key(e));
    projection_row row = p->rows[key];
    if (seq <= row.last) {
        atomic_fetch_add(&p->repeats, 1);
        return false;
    }
    row.last = seq;
    row.sum += amount;
    row.n++;
    row.hash = (row.hash ^ seq) * 0x100000001b3u + (uint64_t)amount;
    off_t at = (off_t)(key * sizeof row);
    if (p->fd >= 0 && pwrite(p->fd, &row, sizeof row, at) != (ssize_t)sizeof row)
        kit_fail("cannot write a row: %s", strerror(errno));
    p->rows[key] = row;
    atomic_fetch_add(&p->applied, 1);
    return true;
}

void projection_same(const projection *got, const projection *expected, const char *what)
{
    for (unsigned k = 0; k < PROJECTION_KEYS; k++) {
        const projection_row *g = &got->rows[k], *e = &expected->rows[k];
        KIT_CHECK(g->n == e->n && g->sum == e->sum && g->hash == e->hash && g->last == e->last,
                  "%s, key %u: %llu events, sum %lld, the last one %llu; expected %llu, %lld, %llu",
                  what, k, (unsigned long long)g->n, (long long)g->sum, (unsigned long long)g->last,
                  (unsigned long long)e->n, (long long)e->sum, (unsigned long long)e->last);
    }
}
