/* rhythm.c: the times of a process among others, see rhythm_i.h. A lease has room for three beats, so that one that is
 * lost, and the pauses after it, do not end it. */
#include "bus/rhythm_i.h"

#include "delivery/delivery.h"

#define LEAST_NS INT64_C(20000000)
#define FIRST_NS INT64_C(100000000)
#define MOST_NS  INT64_C(1000000000)

int64_t hk_rhythm_pause(hk_rhythm *r, int64_t fails)
{
    return LEAST_NS + hk_backoff(FIRST_NS, MOST_NS, fails, &r->rng);
}

hk_tiding hk_rhythm_beaten(hk_rhythm *r, int64_t began, int64_t now, int64_t until)
{
    bool trouble = r->fails > 0 || r->over;
    /* when the store counted it is not known: perhaps only just now */
    r->lapsed = r->lapsed || (r->until && now >= r->until);
    r->fails = 0;
    r->over = false;
    r->beaten = began;
    r->until = until;
    r->every = until - began > 3 * LEAST_NS ? (until - began) / 3 : LEAST_NS;
    return trouble ? HK_TIDING_WELL : HK_TIDING_NONE;
}

hk_tiding hk_rhythm_missed(hk_rhythm *r, int64_t now)
{
    r->again = now + hk_rhythm_pause(r, ++r->fails);
    return r->fails == 1 && r->until && !r->over ? HK_TIDING_TROUBLE : HK_TIDING_NONE;
}

hk_tiding hk_rhythm_look(hk_rhythm *r, int64_t now)
{
    if (r->over || now < r->until)
        return HK_TIDING_NONE;
    r->over = true;
    return HK_TIDING_OVER;
}

int64_t hk_rhythm_beat(const hk_rhythm *r, bool busy)
{
    int64_t every = busy && r->every > HK_ASK_NS ? HK_ASK_NS : r->every;
    return r->fails ? r->again : r->beaten + every;
}

int64_t hk_rhythm_due(const hk_rhythm *r, bool busy)
{
    int64_t beat = hk_rhythm_beat(r, busy);
    return r->over || beat < r->until ? beat : r->until;
}

int64_t hk_rhythm_ask(int64_t asked, bool hinted)
{
    return asked ? asked + (hinted ? HK_HINT_NS : HK_ASK_NS) : 0;
}
