/* rate_limit: how often each client may ask. The buckets lie in one table of fixed size, in sets of
 * a few slots; a set is chosen by a keyed hash, so that nobody can aim at one, and locked for as
 * long as it takes to look at it. The arithmetic is in rate_bucket.c. */
#include "http/middleware/rate_bucket_i.h"
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCKS = 16, CLIENTS = 65536, CLIENTS_MAX = 1 << 26, NAME_MAX_LEN = 63 };
enum { BY_PEER = 'p', BY_KEY = 'k' };

typedef struct lock {
    _Alignas(HK_CACHELINE) pthread_mutex_t mutex;
} lock;

typedef struct state {
    lock locks[LOCKS]; /* of sets, in turn */
    hk_rate_slot *slots;
    size_t n_sets; /* a power of two */
    hk_rate_rule rule;
    uint8_t secret[16];
    const char *(*key)(hark_ctx *c, void *ud);
    void *ud;
    bool no_headers;
    char name[NAME_MAX_LEN + 1];
    char policy[NAME_MAX_LEN + 64], says[100];
    hk_skip skip;
} state;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&s->locks[i].mutex);
    free(s->slots);
    hk_skip_free(&s->skip);
    free(s);
}

static int64_t seconds(int64_t ns) /* rounded up */
{
    return ns / 1000000000 + (ns % 1000000000 != 0);
}

/* ---- a request ---- */

/* False: it is nobody's, and not limited. */
static bool client_of(const state *s, hark_ctx *c, uint64_t ret[2])
{
    uint8_t peer[HK_RATE_PEER], kind = s->key ? BY_KEY : BY_PEER, out[16];
    const char *key = s->key ? s->key(c, s->ud) : NULL;
    hk_sip sip;
    if (s->key && !key)
        return false;
    hk_sip_init(&sip, s->secret);
    hk_sip_add(&sip, &kind, 1);
    if (key)
        hk_sip_add(&sip, key, strlen(key));
    else
        hk_sip_add(&sip, peer, hk_rate_peer(&c->peer, peer));
    hk_sip_end(&sip, out);
    memcpy(ret, out, sizeof out);
    return true;
}

static hk_rate_verdict count(state *s, const uint64_t id[2])
{
    size_t set = (size_t)id[0] & (s->n_sets - 1);
    pthread_mutex_t *mutex = &s->locks[set % LOCKS].mutex;
    pthread_mutex_lock(mutex);
    int64_t now = hk_mono_ns();
    hk_rate_slot *slot = hk_rate_find(s->slots + set * HK_RATE_WAYS, id, now);
    hk_rate_verdict v = hk_rate_take(&s->rule, &slot->full_at_ns, now);
    pthread_mutex_unlock(mutex);
    return v;
}

typedef struct told {
    const state *of;
    hk_rate_verdict v;
} told;

/* Not stored with what hark_idempotency stores, hence only now. */
static void on_reply(hark_ctx *c, int status, void *ud)
{
    const told *t = ud;
    const hk_rate_verdict *v = &t->v;
    (void)status;
    const char *now = hark_ctx_printf(c, "\"%s\";r=%lld;t=%lld", t->of->name, (long long)v->left,
                                      (long long)seconds(v->allowed ? v->full_ns : v->wait_ns));
    if (!now)
        return;
    (void)hark_ctx_add_header(c, "RateLimit-Policy", t->of->policy);
    (void)hark_ctx_add_header(c, "RateLimit", now);
}

static hark_err tell(const state *s, hark_ctx *c, hk_rate_verdict v)
{
    told *t = hk_arena_alloc(&c->arena, sizeof *t);
    if (!t)
        return HARK_ENOMEM;
    *t = (told){s, v};
    return hark_ctx_on_reply(c, on_reply, t);
}

static hark_err refuse(const state *s, hark_ctx *c, int64_t wait_ns)
{
    long long wait = (long long)seconds(wait_ns);
    const char *after = hark_ctx_printf(c, "%lld", wait);
    if (!after)
        return HARK_ENOMEM;
    (void)hark_ctx_set_header(c, "Retry-After", after);
    return hark_ctx_problem(c, 429, NULL,
                            hark_ctx_printf(c, "%s; try again in %lld s", s->says, wait));
}

static hark_err run(hark_ctx *c, void *ud)
{
    state *s = ud;
    uint64_t id[2];
    if (hk_skip_covers(&s->skip, c) || !client_of(s, c, id))
        return hark_ctx_next(c);
    hk_rate_verdict v = count(s, id);
    hark_err err = s->no_headers ? HARK_OK : tell(s, c, v);
    if (err)
        return err;
    return v.allowed ? hark_ctx_next(c) : refuse(s, c, v.wait_ns);
}

/* ---- making one ---- */

static hark_err take_rule(state *s, const hark_rate_limit_opts *o, hark_errinfo *ei)
{
    int64_t per_ms = o->per_ms ? o->per_ms : 1000, burst = o->burst ? o->burst : o->rate;
    if (!hk_rate_rule_make(o->rate, per_ms, burst, &s->rule))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_rate_limit: rate %lld in per_ms %lld with burst %lld; each is 1 or "
                       "more, at most one request a nanosecond and a burst of 100 years",
                       (long long)o->rate, (long long)per_ms, (long long)burst);
    (void)snprintf(s->policy, sizeof s->policy, "\"%s\";q=%lld;w=%lld", s->name, (long long)burst,
                   (long long)seconds(s->rule.step_ns * burst));
    (void)snprintf(s->says, sizeof s->says, "more than %lld requests in %lld ms",
                   (long long)o->rate, (long long)per_ms);
    return HARK_OK;
}

static hark_err take_name(state *s, const char *name, hark_errinfo *ei)
{
    if (!hk_name_valid(name, NAME_MAX_LEN))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_rate_limit: name is '%.70s'; up to %d letters, digits and -_.:", name,
                       NAME_MAX_LEN);
    memcpy(s->name, name, strlen(name) + 1);
    return HARK_OK;
}

static hark_err take_table(state *s, size_t clients, hark_errinfo *ei)
{
    if (clients > CLIENTS_MAX)
        return hk_fail(ei, HARK_EINVAL, "hark_rate_limit: clients is %zu; up to %d", clients,
                       CLIENTS_MAX);
    s->n_sets = 1;
    while (s->n_sets * HK_RATE_WAYS < (clients ? clients : CLIENTS))
        s->n_sets *= 2;
    s->slots = calloc(s->n_sets * HK_RATE_WAYS, sizeof *s->slots);
    return s->slots ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "hark_rate_limit: out of memory");
}

static hark_err take(void *to, const void *opts, hark_errinfo *ei)
{
    state *s = to;
    const hark_rate_limit_opts *o = opts;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&s->locks[i].mutex, NULL);
    hk_random(s->secret, sizeof s->secret);
    s->key = o->key;
    s->ud = o->ud;
    s->no_headers = o->no_headers != 0;
    hark_err err = take_name(s, o->name ? o->name : "default", ei);
    if (!err)
        err = take_rule(s, o, ei);
    if (!err)
        err = take_table(s, o->clients, ei);
    if (!err && !hk_skip_copy(&s->skip, o->skip))
        err = hk_fail(ei, HARK_ENOMEM, "hark_rate_limit: out of memory");
    return err;
}

hark_middleware hark_rate_limit(const hark_rate_limit_opts *opts)
{
    static const hk_maker maker = {
        "hark_rate_limit", sizeof(hark_rate_limit_opts), sizeof(state), run, state_free, take};
    hark_rate_limit_opts room;
    return hk_make(&maker, opts, &room);
}
