/* postgres: the store of `postgresql://` URLs. Front header. */
#ifndef HK_STORE_POSTGRES_H
#define HK_STORE_POSTGRES_H

#include <hark/store.h>

extern const hark_store_ops hk_store_postgres;

#endif
