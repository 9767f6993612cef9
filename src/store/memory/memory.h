/* memory: a store without a file. The newest N events, class `memory`, appended by any thread. */
#ifndef HK_STORE_MEMORY_H
#define HK_STORE_MEMORY_H

#include <hark/store.h>

extern const hark_store_ops hk_store_memory;

/* Bounds of its ledger, beside those that are the consumers' own (open rows). */
enum {
    /* Dead letters that no open row belongs to: the newest so many are kept, and their events' bytes
     * but for the newest. What is over is dropped, with one warning. */
    HK_MEM_LETTERS = 65536,
    HK_MEM_LETTER_BYTES = 256 << 20,
    /* Attempts kept of one event, the newest. They go when its delivery is settled and no dead
     * letter is left of it. */
    HK_MEM_ATTEMPTS = 128
};

#endif
