/* memory_i.h: the parts of the memory store: log.c (the ring of events), dedupe.c (source and id to
 * sequence), ledger.c (consumers). */
#ifndef HK_STORE_MEMORY_I_H
#define HK_STORE_MEMORY_I_H

#include "event/event.h"
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

typedef struct hk_mem_consumer {
    struct hk_mem_consumer *next;
    char *name, *pattern, *policy;
    uint64_t id, generation, floor, highest;
    hark_store_range *settled;
    size_t n_settled;
    hark_store_row *rows; /* ascending */
    size_t n_rows;
} hk_mem_consumer;

/* A dead letter. The newest of them are kept. */
enum { HK_MEM_LETTERS = 1024 };
typedef struct hk_mem_letter {
    uint64_t consumer;
    hark_event *event;
    char *reason, *error;
    int64_t attempts, first_ns, dead_ns;
} hk_mem_letter;

struct hark_store {
    hark_store_host host;
    hk_tail tail;
    uint8_t log_id[16];
    _Alignas(HK_CACHELINE) hk_mark claimed; /* see log.c */
    int64_t last_recorded;                  /* the sealing thread's */
    _Alignas(HK_CACHELINE) hk_mem_index index;
    pthread_mutex_t ledger_lock;
    hk_mem_consumer *consumers;
    hk_mem_letter letters[HK_MEM_LETTERS]; /* a ring */
    uint64_t n_letters;                    /* ever */
    uint64_t next_consumer;
};

/* dedupe.c */
void hk_mem_index_init(hk_mem_index *x, size_t capacity);
void hk_mem_index_free(hk_mem_index *x);
/* Under the lock. Finds an event with this source and id among those retained: a reference. */
hark_event *hk_mem_index_find(hark_store *s, const hark_event *e);
/* Under the lock: takes in what has become visible. HARK_ENOMEM when it cannot be made. */
hark_err hk_mem_index_update(hark_store *s);

/* ledger.c */
hark_err hk_mem_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
hark_err hk_mem_consumer_save(hark_store *s, const hark_store_save *save, hark_errinfo *ei);
void hk_mem_ledger_free(hark_store *s);

#endif
