/* known: the shares of consumers that this process has by its own knowledge, which is the last answer of `shares` that reached
 * the caller. What the table says to be ours and this does not is claimed anew, with another token. */
#include "store/postgres/store_i.h"

bool hk_pg_is_known(hark_store *s, uint64_t consumer, uint32_t share, uint64_t token, bool taken)
{
    bool known = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->party.n_known && !known; i++) {
        const hk_pg_known *k = &s->party.known[i];
        known = k->consumer == consumer && k->share == share && k->token == token &&
                (k->taken || !taken);
    }
    pthread_mutex_unlock(&s->lock);
    return known;
}

bool hk_pg_known_taken(hark_store *s, uint64_t consumer, uint32_t share, uint64_t token)
{
    return hk_pg_is_known(s, consumer, share, token, true);
}

static void forget_locked(hk_pg_party *p, uint64_t consumer)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_known; i++)
        if (p->known[i].consumer != consumer)
            p->known[n++] = p->known[i];
    p->n_known = n;
}

void hk_pg_known_forget(hark_store *s, uint64_t consumer)
{
    pthread_mutex_lock(&s->lock);
    forget_locked(&s->party, consumer);
    pthread_mutex_unlock(&s->lock);
}

/* Without memory the share is claimed anew next time. */
static void know_locked(hk_pg_party *p, hk_pg_known k)
{
    hk_pg_known *list = hk_array_room(p->known, p->n_known, &p->cap_known, 64, sizeof *list);
    if (!list)
        return;
    p->known = list;
    list[p->n_known++] = k;
}

void hk_pg_know_answer(hark_store *s, const hark_store_shares *x)
{
    pthread_mutex_lock(&s->lock);
    forget_locked(&s->party, x->consumer);
    for (size_t i = 0; i < x->n_owned; i++)
        know_locked(&s->party,
                    (hk_pg_known){x->consumer, x->owned[i].token, x->owned[i].share, true});
    for (size_t i = 0; i < x->n_claimed; i++)
        know_locked(&s->party,
                    (hk_pg_known){x->consumer, x->claimed[i].token, x->claimed[i].share, false});
    pthread_mutex_unlock(&s->lock);
}

/* Whoever asks has taken over the last answer. */
void hk_pg_know_asked(hark_store *s, const hark_store_shares *x)
{
    if (x->leave)
        hk_pg_known_forget(s, x->consumer);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->party.n_known; i++)
        if (s->party.known[i].consumer == x->consumer)
            s->party.known[i].taken = true;
    pthread_mutex_unlock(&s->lock);
}
