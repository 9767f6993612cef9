/* cores_i.h: the inside of cores: the shares that are here, each with its core. */
#ifndef HK_CORES_I_H
#define HK_CORES_I_H

#include "delivery/delivery_i.h"

/* A share that is here. Its core is paused while it leaves: nothing of it starts then. */
typedef struct hk_part {
    hk_core *core;
    hark_store_owned of;
    uint32_t life;
    bool leaving;
    bool saving; /* a save of it is collected */
    bool gone;   /* dropped meanwhile: only the arrays of that save are still in use */
} hk_part;

struct hk_cores {
    hk_core_opts opts;
    uint32_t shares, life; /* life: of the share that was claimed last */
    bool finishing;
    bool guarded; /* its store is shared: deliveries are on record before they start */
    hk_part **by_share;
    hk_part **here; /* the same, in order of share, without holes */
    size_t n;
    uint64_t gap_done; /* told while no share was here */
    int64_t seen;      /* mono: the latest moment that it was stepped at */
    int64_t read_at;   /* mono: from when on how far shares have read may be saved again */
    hk_part **flight;  /* of the saves that are collected */
    hark_store_save *saves;
    hark_err *verdicts;
    size_t n_flight;
};

static inline hk_part *hk_part_at(const hk_cores *c, uint32_t share)
{
    return share < c->shares ? c->by_share[share] : NULL;
}

/* That of a key, or of a sequence without one; NULL: it is not here. */
static inline hk_part *hk_part_of(const hk_cores *c, uint64_t seq, const char *key)
{
    return c->by_share[hk_share_of(key, seq, c->shares)];
}

/* Whose attempt this is; NULL: its core is no more. */
static inline hk_part *hk_part_leased(const hk_cores *c, hk_lease lease)
{
    hk_part *p = hk_part_at(c, lease.share);
    return p && (p->life == lease.life || HK_BUG(63)) ? p : NULL;
}

static inline hk_lease hk_part_lease(const hk_part *p, hk_lease lease)
{
    lease.share = p->of.share;
    lease.life = p->life;
    return lease;
}

/* cores_guard.c: what starts next where there is a crash guard; NULL: nothing, or a save must come first. */
hk_part *hk_cores_guarded(hk_cores *c, hk_now now);
void hk_cores_mark_ahead(hk_cores *c, hk_now now); /* before saves are collected */

/* cores.c: the one whose next sequence is the lowest; NULL: none has one, or all places are taken. */
hk_part *hk_part_next(hk_cores *c, hk_now now);
/* cores.c: takes it out; freed at once, or by hk_cores_saved. */
void hk_part_remove(hk_cores *c, hk_part *p);
void hk_part_free(hk_part *p);

/* cores_save.c: when how far shares have read becomes due to be saved; -1 = it does not, or is. */
int64_t hk_cores_read_due(const hk_cores *c);

#endif
