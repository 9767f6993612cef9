/* What a disk may hold when its power fails: see crash_vfs.h. Of each file it has what was there at
 * its last sync, and of what was written since then whatever the way of the disk lets through; of
 * each name where it led when the directory was last synced, or where it leads since. */
#include "crash_vfs.h"

#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 64, NAMES = 16, NOWHERE = -1 };

typedef struct bytes {
    unsigned char *p;
    size_t len, cap;
} bytes;

typedef struct inode {
    bytes synced;
    size_t *since; /* operations since then */
    size_t n_since, cap_since;
} inode;

typedef struct name {
    const char *text;
    int kept, now; /* file it leads to: as synced, as seen */
} name;

struct crash_disk {
    size_t at; /* operations up to here have been taken in */
    inode files[FILES];
    name names[NAMES];
    size_t n_names;
};

static void bytes_size(bytes *b, size_t len)
{
    if (len > b->cap) {
        b->cap = len > 2 * b->cap ? len : 2 * b->cap;
        b->p = realloc(b->p, b->cap);
        KIT_CHECK(b->p != NULL, "out of memory");
    }
    if (len > b->len)
        memset(b->p + b->len, 0, len - b->len);
    b->len = len;
}

static void bytes_put(bytes *b, size_t at, const unsigned char *p, size_t len)
{
    if (at + len > b->len)
        bytes_size(b, at + len);
    memcpy(b->p + at, p, len);
}

static void apply(bytes *b, const crash_op *op)
{
    if (op->kind == CRASH_TRUNCATE)
        bytes_size(b, (size_t)op->at);
    else
        bytes_put(b, (size_t)op->at, op->data, op->len);
}

/* ---- taking operations in ---- */

static name *name_of(crash_disk *d, const char *text)
{
    for (size_t i = 0; i < d->n_names; i++)
        if (strcmp(d->names[i].text, text) == 0)
            return &d->names[i];
    KIT_CHECK(d->n_names < NAMES, "too many names");
    d->names[d->n_names] = (name){.text = text, .kept = NOWHERE, .now = NOWHERE};
    return &d->names[d->n_names++];
}

static void sync_dir(crash_disk *d)
{
    for (size_t i = 0; i < d->n_names; i++)
        d->names[i].kept = d->names[i].now;
}

static void pend(inode *f, size_t op)
{
    if (f->n_since == f->cap_since) {
        f->cap_since = f->cap_since ? f->cap_since * 2 : 64;
        f->since = realloc(f->since, f->cap_since * sizeof *f->since);
        KIT_CHECK(f->since != NULL, "out of memory");
    }
    f->since[f->n_since++] = op;
}

static void sync_file(inode *f)
{
    for (size_t i = 0; i < f->n_since; i++)
        apply(&f->synced, crash_op_get(f->since[i]));
    f->n_since = 0;
}

static void take(crash_disk *d, size_t i)
{
    const crash_op *op = crash_op_get(i);
    KIT_CHECK(op->file < FILES, "too many files");
    inode *f = &d->files[op->file];
    switch (op->kind) {
    case CRASH_CREATE:
        name_of(d, op->name)->now = (int)op->file;
        if (op->dir)
            name_of(d, op->name)->kept = (int)op->file;
        if (op->len)
            bytes_put(&f->synced, 0, op->data, op->len);
        break;
    case CRASH_WRITE:
    case CRASH_TRUNCATE:
        pend(f, i);
        break;
    case CRASH_SYNC:
        sync_file(f);
        if (op->dir)
            sync_dir(d);
        break;
    case CRASH_DELETE:
        name_of(d, op->name)->now = NOWHERE;
        if (op->dir)
            sync_dir(d);
        break;
    }
}

/* ---- the power fails ---- */

/* Each sector of the write comes through or not. */
static void apply_torn(bytes *b, const crash_op *op, size_t sector, bool garbage, uint64_t *random)
{
    size_t at = (size_t)op->at, end = at + op->len;
    while (at < end) {
        size_t next = (at / sector + 1) * sector;
        size_t len = (next < end ? next : end) - at;
        uint64_t r = kit_random(random);
        if (r & 1) {
            bytes_put(b, at, op->data + (at - (size_t)op->at), len);
        } else if (garbage && r & 2) {
            unsigned char noise[4096];
            for (size_t i = 0; i < len; i++)
                noise[i] = (unsigned char)kit_random(random);
            bytes_put(b, at, noise, len);
        }
        at += len;
    }
}

static void lose(bytes *b, const inode *f, crash_way way, uint64_t *random)
{
    size_t n = f->n_since, prefix = n ? kit_random(random) % (n + 1) : 0;
    for (size_t i = 0; i < n; i++) {
        const crash_op *op = crash_op_get(f->since[i]);
        bool torn = (way == CRASH_TORN || way == CRASH_PAGES || way == CRASH_GARBAGE) &&
                    op->kind == CRASH_WRITE;
        if (torn)
            apply_torn(b, op, way == CRASH_PAGES ? 4096 : 512, way == CRASH_GARBAGE, random);
        else if (way == CRASH_ALL || (way == CRASH_PREFIX && i < prefix) ||
                 (way > CRASH_PREFIX && kit_random(random) & 1))
            apply(b, op);
    }
}

static int survivor(const name *n, crash_way way, uint64_t *random)
{
    if (way == CRASH_NONE)
        return n->kept;
    if (way == CRASH_ALL)
        return n->now;
    return kit_random(random) & 1 ? n->kept : n->now;
}

void crash_disk_write(crash_disk *d, size_t op, crash_way way, uint64_t seed, const char *dir)
{
    char path[512];
    KIT_CHECK(op >= d->at, "a disk does not go back");
    while (d->at < op)
        take(d, d->at++);
    for (size_t i = 0; i < d->n_names; i++) {
        const name *n = &d->names[i];
        int number = survivor(n, way, &seed);
        (void)snprintf(path, sizeof path, "%s/%s", dir, n->text);
        (void)remove(path);
        if (number == NOWHERE)
            continue;
        const inode *f = &d->files[number];
        bytes b = {0};
        bytes_size(&b, f->synced.len);
        if (f->synced.len)
            memcpy(b.p, f->synced.p, f->synced.len);
        lose(&b, f, way, &seed);
        kit_write_file(path, b.p ? (const void *)b.p : "", b.len);
        free(b.p);
    }
}

crash_disk *crash_disk_new(void)
{
    crash_disk *d = calloc(1, sizeof *d);
    KIT_CHECK(d != NULL, "out of memory");
    return d;
}

void crash_disk_free(crash_disk *d)
{
    for (size_t i = 0; d && i < FILES; i++) {
        free(d->files[i].synced.p);
        free(d->files[i].since);
    }
    free(d);
}
