/* stage.c: how far a consumer is with one event, for those who wait until it is settled. */
#include "delivery/delivery_i.h"

static hk_stage stage_of(const hk_item *item)
{
    bool parked = item->state == HK_BEHIND && item->lane->parked && !HK_BUG(57);
    return item->state == HK_DEAD || parked ? HK_STAGE_DEAD : HK_STAGE_OPEN;
}

hk_stage hk_core_stage(const hk_core *c, uint64_t seq)
{
    const hk_item *item = hk_index_find(c, seq);
    if (item)
        return stage_of(item);
    return seq <= c->covered || hk_past_knows(c, seq) ? HK_STAGE_DONE : HK_STAGE_AHEAD;
}
