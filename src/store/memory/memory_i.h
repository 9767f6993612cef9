/* memory_i.h: the parts of the memory store: log.c (the ring of events), dedupe.c (source and id to
 * sequence), versions.c (counting by type and version), and the ledger, see ledger_i.h. */
#ifndef HK_STORE_MEMORY_I_H
#define HK_STORE_MEMORY_I_H

#include "event/event.h"
#include "store/memory/ledger_i.h"
#include "store/memory/memory.h"

/* Source and id to sequence, over the events retained; made when the first event comes that brings
 * an id of its own, and brought up to date whenever the next one comes. */
typedef struct hk_mem_index {
    pthread_mutex_t lock; /* held from the look-up to the insertion */
    uint64_t upto;        /* events up to here are in */
    uint64_t *heads;      /* newest sequence of a hash; NULL until needed */
    uint64_t *prev;       /* the one before it, by sequence modulo N */
    size_t mask;          /* of both arrays: heads has twice as many */
} hk_mem_index;

struct hark_store {
    hark_store_host host;
    hk_tail tail;
    uint8_t log_id[16];
    _Alignas(HK_CACHELINE) hk_mark claimed; /* see log.c */
    int64_t last_recorded;                  /* the sealing thread's */
    _Alignas(HK_CACHELINE) hk_mem_index index;
    hk_mem_ledger ledger;
};

/* log.c */
/* For the writer: waits, without sealing, until what was published so far is visible: the last
 * sequence of it. Not under the ledger's lock. */
uint64_t hk_mem_wait_visible(hark_store *s);

/* versions.c */
hark_err hk_mem_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);

/* dedupe.c: events are the same by source and id */
uint64_t hk_mem_id_hash(const hark_event *e);
bool hk_mem_same_id(const hark_event *a, const hark_event *b);
void hk_mem_index_init(hk_mem_index *x, size_t capacity);
void hk_mem_index_free(hk_mem_index *x);
/* Under the lock. Finds an event with this source and id among those retained: a reference. */
hark_event *hk_mem_index_find(hark_store *s, const hark_event *e);
/* Under the lock: takes in what has become visible. HARK_ENOMEM when it cannot be made. */
hark_err hk_mem_index_update(hark_store *s);

#endif
