/* rerun.c: the pace of a replay into a consumer. Starts are spaced evenly, but a tenth of a second's
 * worth of them may come at once. */
#include "delivery/delivery_i.h"

void hk_rerun_load(hk_rerun *r, const hark_store_rerun *stored, uint32_t shares, hk_now now)
{
    if (!stored->id[0])
        return;
    r->upto = stored->upto;
    r->next = now.mono;
    if (stored->rate <= 0)
        return;
    int64_t parts = shares > 1 ? shares : 1;
    r->interval = INT64_C(1000000000) * parts / stored->rate;
    int64_t burst = stored->rate / 10 / parts;
    r->tolerance = burst > 1 ? (burst - 1) * r->interval : 0;
}

bool hk_rerun_paces(const hk_rerun *r, uint64_t seq)
{
    return seq <= r->upto && r->interval > 0 && !HK_BUG(30);
}

bool hk_rerun_may(hk_rerun *r, int64_t mono)
{
    r->throttled = mono < r->next - r->tolerance;
    return !r->throttled;
}

void hk_rerun_pass(hk_rerun *r, uint64_t seq, int64_t mono)
{
    if (hk_rerun_paces(r, seq))
        r->next = (r->next > mono ? r->next : mono) + r->interval;
}

void hk_rerun_undo(hk_rerun *r, uint64_t seq)
{
    if (hk_rerun_paces(r, seq))
        r->next -= r->interval;
}

int64_t hk_rerun_due(const hk_rerun *r)
{
    return r->throttled ? r->next - r->tolerance : -1;
}
