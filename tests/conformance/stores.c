/* The stores that the conformance suite is run against. A new backend joins here, and by its name in
 * meson.build. */
#include "fixture.h"

const store_case stores[] = {
    {.name = "memory", .url = "memory:", .durability = HARK_MEMORY, .direct = true},
    {.name = "sqlite",
     .url = "sqlite:%s/x.db",
     .durability = HARK_DISK,
     .survives = true,
     .keeps_all = true},
};
const size_t n_stores = HK_COUNTOF(stores);
