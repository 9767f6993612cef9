/* The stores that the conformance suite is run against. A new backend joins here, and by its name in
 * meson.build. */
#include "fixture.h"

#include "servers.h"

static server *start_postgresql(void)
{
    return server_postgres(NULL);
}

static server *start_redis(void)
{
    return server_redis(NULL);
}

const store_case stores[] = {
    {.name = "memory", .url = "memory:", .durability = HARK_MEMORY, .direct = true},
    {.name = "sqlite",
     .url = "sqlite:%s/x.db",
     .durability = HARK_DISK,
     .survives = true,
     .keeps_all = true},
    {.name = "postgresql",
     .start = start_postgresql,
     .durability = HARK_DISK,
     .survives = true,
     .keeps_all = true,
     .tx_alone = true},
    {.name = "redis",
     .start = start_redis,
     .durability = HARK_DISK,
     .survives = true,
     .keeps_all = true},
};
const size_t n_stores = HK_COUNTOF(stores);
