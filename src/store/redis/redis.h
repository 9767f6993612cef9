/* redis: stores on a Redis server. Front header. redis: keeps the log in a stream, shared by many
 * processes. redis+pubsub: sends events through channels and keeps nothing. */
#ifndef HK_STORE_REDIS_H
#define HK_STORE_REDIS_H

#include <hark/store.h>

extern const hark_store_ops hk_store_redis;
extern const hark_store_ops hk_store_redis_pubsub;

#endif
