/* cores_end.c: what is said of one attempt or one event goes to the core that has it; and what a
 * lease of a core that is no more says is HARK_ESTALE. */
#include "delivery/cores_i.h"

hark_err hk_cores_settle(hk_cores *c, hk_lease lease, hark_verdict verdict, int64_t delay_ns,
                         const char *error, hk_now now, hark_verdict *ret)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_settle(p->core, lease, verdict, delay_ns, error, now, ret) : HARK_ESTALE;
}

void hk_cores_unstart(hk_cores *c, hk_lease lease)
{
    hk_part *p = hk_part_leased(c, lease);
    if (p)
        hk_core_unstart(p->core, lease);
}

hark_err hk_cores_extend(hk_cores *c, hk_lease lease, int64_t until)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_extend(p->core, lease, until) : HARK_ESTALE;
}

void hk_cores_keep(hk_cores *c, hk_lease lease, int64_t until)
{
    hk_part *p = hk_part_leased(c, lease);
    if (p)
        hk_core_keep(p->core, lease, until);
}

bool hk_cores_expire(hk_cores *c, hk_now now, hk_lease *ret_lease, uint64_t *ret_seq,
                     hark_verdict *ret_verdict)
{
    c->seen = now.mono;
    for (size_t i = 0; i < c->n; i++)
        if (hk_core_expire(c->here[i]->core, now, ret_lease, ret_seq, ret_verdict)) {
            *ret_lease = hk_part_lease(c->here[i], *ret_lease);
            return true;
        }
    return false;
}

void hk_cores_die(hk_cores *c, hk_lease lease, hk_now now)
{
    hk_part *p = hk_part_leased(c, lease);
    if (p)
        hk_core_die(p->core, lease, now);
}

hark_err hk_cores_seal(hk_cores *c, hk_lease lease)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_seal(p->core, lease) : HARK_ESTALE;
}

void hk_cores_unseal(hk_cores *c, hk_lease lease)
{
    hk_part *p = hk_part_leased(c, lease);
    if (p)
        hk_core_unseal(p->core, lease);
}

hark_err hk_cores_acked(hk_cores *c, hk_lease lease)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_acked(p->core, lease) : HARK_ESTALE;
}

hark_err hk_cores_postpone(hk_cores *c, hk_lease lease, int64_t delay_ns, const char *error,
                           hk_now now)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_postpone(p->core, lease, delay_ns, error, now) : HARK_ESTALE;
}

hark_err hk_cores_bury(hk_cores *c, hk_lease lease, const char *reason, const char *error,
                       hk_now now)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_bury(p->core, lease, reason, error, now) : HARK_ESTALE;
}

hark_err hk_cores_payload_set(hk_cores *c, hk_lease lease, void *payload)
{
    hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_payload_set(p->core, lease, payload) : HARK_ESTALE;
}

void *hk_cores_payload(const hk_cores *c, hk_lease lease)
{
    const hk_part *p = hk_part_leased(c, lease);
    return p ? hk_core_payload(p->core, lease) : NULL;
}

hark_err hk_cores_redriven(hk_cores *c, uint64_t seq, const char *key, int64_t due,
                           int64_t due_wall)
{
    hk_part *p = hk_part_of(c, seq, key);
    return p ? hk_core_redriven(p->core, seq, key, due, due_wall) : HARK_OK;
}

void hk_cores_discarded(hk_cores *c, uint64_t seq, const char *key)
{
    hk_part *p = hk_part_of(c, seq, key);
    if (p)
        hk_core_discarded(p->core, seq, key);
}
