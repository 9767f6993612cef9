/* memory: a store without a file. The newest N events, class `memory`, appended by any thread. */
#ifndef HK_STORE_MEMORY_H
#define HK_STORE_MEMORY_H

#include <hark/store.h>

extern const hark_store_ops hk_store_memory;

#endif
