/* slots: the file of in-flight slots beside a database; see docs/format-sqlite.md. */
#ifndef HK_SQLITE_SLOTS_I_H
#define HK_SQLITE_SLOTS_I_H

#include "store/sqlite/store_i.h"

#define HK_SLOTS_MAGIC   "harkslot"
#define HK_SLOTS_VERSION 1
#define HK_SLOTS_CHUNK   1024 /* places that are mapped at a time: 64 KiB, whole pages anywhere */
#define HK_SLOTS_MAX     (1 << 20) /* places in a file */

/* The first place of the file. */
typedef struct hk_slots_head {
    char magic[8];
    uint32_t version;
    uint32_t slot_size;
    uint8_t log_id[16];
    uint8_t run[16]; /* random, of the process that made the file */
    uint64_t check;  /* hk_hash of the bytes before */
    uint64_t places; /* in the file, this one too; raised when they are there */
} hk_slots_head;

_Static_assert(sizeof(hark_store_slot) == 64, "the file's format");
_Static_assert(sizeof(hk_slots_head) == sizeof(hark_store_slot), "the file's format");

static inline uint64_t hk_slots_head_check(const hk_slots_head *h)
{
    return hk_hash(h, offsetof(hk_slots_head, check));
}

/* slots_left.c: what an earlier process left in the file `path`. */
typedef struct hk_slots_left {
    bool there; /* a file of ours: it may be replaced */
    bool keep;  /* not ours, or not readable: it stays, and no slots are kept */
    uint8_t run[16];
    hark_store_slot *slots; /* those in use, with a good check; free() */
    size_t n;
} hk_slots_left;
hark_err hk_slots_read(const hark_store *s, const char *path, hk_slots_left *ret, hark_errinfo *ei);

/* slots_merge.c: counts them in the ledger, in one transaction; once for each run. */
hark_err hk_slots_merge(hark_store *s, hk_slots_left *left, hark_errinfo *ei);

#endif
