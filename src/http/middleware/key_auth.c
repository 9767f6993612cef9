/* key_auth: only requests that carry a key go on (RFC 6750, RFC 9110 section 11). Of the keys that
 * it knows it keeps digests under a secret of its own: to compare these takes the same time
 * whatever is sent, and how long a key is does not show. */
#include "http/middleware/header_values_i.h"
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST = HK_KEY_DIGEST, NAME_MAX_LEN = 63, REALM_MAX = 100 };

typedef struct known {
    uint8_t digest[DIGEST];
    char *user;
} known;

typedef struct passed { /* kept with the request */
    const char *user;
    uint8_t digest[DIGEST]; /* of the key, without a secret: the same after a restart */
} passed;

typedef struct state {
    uint8_t secret[16];
    known *keys;
    size_t n;
    hark_err (*check)(hark_ctx *c, const char *key, const char **ret_user, void *ud);
    void *ud;
    char header[NAME_MAX_LEN + 1], scheme[NAME_MAX_LEN + 1];
    bool own_header;              /* not Authorization */
    char query[NAME_MAX_LEN + 1]; /* "": not there */
    char challenge[3 * REALM_MAX];
    hk_skip skip;
} state;

static const char passed_key; /* its address names what has passed among the values of a request */

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        free(s->keys[i].user);
    free(s->keys);
    hk_skip_free(&s->skip);
    free(s);
}

/* ---- whose key it is ---- */

static void digest(const uint8_t secret[16], const char *key, uint8_t ret[DIGEST])
{
    hk_sip sip;
    hk_sip_init(&sip, secret);
    hk_sip_add(&sip, key, strlen(key));
    hk_sip_end(&sip, ret);
}

static bool same(const uint8_t a[DIGEST], const uint8_t b[DIGEST])
{
    unsigned differs = 0;
    for (size_t i = 0; i < DIGEST; i++)
        differs |= (unsigned)(a[i] ^ b[i]);
    return differs == 0;
}

/* Compares with all, also when it was found. */
static const char *user_of(const state *s, const char *key)
{
    uint8_t mine[DIGEST];
    const char *user = NULL;
    digest(s->secret, key, mine);
    for (size_t i = 0; i < s->n; i++)
        if (same(mine, s->keys[i].digest))
            user = s->keys[i].user;
    return user;
}

/* ---- a request ---- */

static size_t keys_in_query(const state *s, const hark_ctx *c)
{
    return s->query[0] ? hk_query_count(c, s->query) : 0;
}

/* One key from one place: two parsers could otherwise see two. */
static hk_credentials find_key(const state *s, hark_ctx *c, const char **ret_key)
{
    const char *value = hark_ctx_header(c, s->header);
    size_t in_query = keys_in_query(s, c);
    hk_credentials found = HK_CRED_NONE;
    if (hk_ctx_headers(c, s->header) > 1 || in_query > 1)
        return HK_CRED_MALFORMED;
    if (value)
        found = hk_credentials_read(value, s->scheme, ret_key);
    if (!in_query)
        return found;
    *ret_key = hark_ctx_query(c, s->query);
    return found == HK_CRED_NONE && *ret_key && hk_key_ok(*ret_key) ? HK_CRED_KEY
                                                                    : HK_CRED_MALFORMED;
}

/* What caches must know of the reply, whatever the handler has said. Of Authorization they know
 * (RFC 9111 section 3.5); for the query it is RFC 6750 section 2.3. */
static hark_err tell_caches(const state *s, hark_ctx *c)
{
    hark_err err = s->own_header ? hk_out_vary(c, s->header) : HARK_OK;
    if (err || !keys_in_query(s, c) || hk_out_says(c, "Cache-Control", "no-store"))
        return err;
    bool checked = hk_out_says(c, "Cache-Control", "no-cache");
    return hark_ctx_set_header(c, "Cache-Control", checked ? "private, no-cache" : "private");
}

/* A reply that they might give to others does not go out. */
static void on_reply(hark_ctx *c, int status, void *ud)
{
    (void)status;
    if (!tell_caches(ud, c))
        return;
    c->out_headers = NULL;
    hk_problem_bare(c);
}

static void challenge(const state *s, hark_ctx *c, const char *error)
{
    const char *text = error ? hark_ctx_printf(c, "%s, error=\"%s\"", s->challenge, error) : NULL;
    (void)hark_ctx_set_header(c, "WWW-Authenticate", text ? text : s->challenge);
}

static hark_err without(const state *s, hark_ctx *c)
{
    challenge(s, c, NULL);
    return hark_ctx_fail(c, HARK_EUNAUTHORIZED, "no key; send it as %s: %s%sKEY", s->header,
                         s->scheme, s->scheme[0] ? " " : "");
}

static hark_err malformed(const state *s, hark_ctx *c)
{
    challenge(s, c, "invalid_request");
    return hark_ctx_fail(c, HARK_EINVAL, "%s must hold one key of visible characters, in one place",
                         s->header);
}

/* One that stands behind another adds to what that one has let pass. */
static hark_err keep(hark_ctx *c, const char *key, const char *user)
{
    static const uint8_t public_key[16] = "hark key auth v1";
    const uint8_t *before = hk_key_auth_digest(c);
    passed *p = hk_arena_alloc(&c->arena, sizeof *p);
    char *copy = p ? hk_arena_copy(&c->arena, user, strlen(user)) : NULL;
    if (!copy)
        return HARK_ENOMEM;
    p->user = copy;
    digest(before ? before : public_key, key, p->digest);
    return hark_ctx_set(c, &passed_key, p);
}

static hark_err judge(const state *s, hark_ctx *c, const char *key)
{
    const char *user = user_of(s, key);
    hark_err err = user ? HARK_OK : HARK_EUNAUTHORIZED;
    if (!user && s->check) {
        err = s->check(c, key, &user, s->ud);
        user = user ? user : "";
    }
    if (err == HARK_EUNAUTHORIZED) {
        challenge(s, c, "invalid_token");
        return hark_ctx_fail(c, err, "the key is not known");
    }
    if (err)
        return err;
    return keep(c, key, user);
}

static hark_err run(hark_ctx *c, void *ud)
{
    state *s = ud;
    const char *key = NULL;
    if (hk_skip_covers(&s->skip, c))
        return hark_ctx_next(c);
    if (hark_ctx_on_reply(c, on_reply, s))
        return HARK_ENOMEM;
    hk_credentials found = find_key(s, c, &key);
    if (found == HK_CRED_NONE)
        return without(s, c);
    if (found == HK_CRED_MALFORMED)
        return malformed(s, c);
    hark_err err = judge(s, c, key);
    return err ? err : hark_ctx_next(c);
}

const char *hark_key_auth_user(const hark_ctx *c)
{
    const passed *p = hark_ctx_get(c, &passed_key);
    return p ? p->user : NULL;
}

const uint8_t *hk_key_auth_digest(const hark_ctx *c)
{
    const passed *p = hark_ctx_get(c, &passed_key);
    return p ? p->digest : NULL;
}

/* ---- making one ---- */

static hark_err no_memory(hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "hark_key_auth: out of memory");
}

static hark_err take_keys(state *s, const hark_auth_key *keys, hark_errinfo *ei)
{
    size_t n = 0;
    while (keys && keys[n].key)
        n++;
    s->keys = calloc(n + 1, sizeof *s->keys);
    if (!s->keys)
        return no_memory(ei);
    for (size_t i = 0; i < n; i++) {
        if (!hk_key_ok(keys[i].key))
            return hk_fail(ei, HARK_EINVAL,
                           "hark_key_auth: key %zu of the list is not 1 to %d visible ASCII "
                           "characters",
                           i + 1, HK_KEY_MAX);
        digest(s->secret, keys[i].key, s->keys[i].digest);
        s->keys[i].user = strdup(keys[i].user ? keys[i].user : "");
        if (!s->keys[i].user)
            return no_memory(ei);
        s->n++;
    }
    return HARK_OK;
}

static hark_err take_name(char to[NAME_MAX_LEN + 1], const char *name, const char *what,
                          hark_errinfo *ei)
{
    size_t len = strlen(name);
    if (len > NAME_MAX_LEN || (len && !hk_token(name, len)))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_key_auth: %s is '%.70s'; up to %d letters, digits and '-'", what, name,
                       NAME_MAX_LEN);
    memcpy(to, name, len + 1);
    return HARK_OK;
}

/* A challenge needs a scheme, also where the key has a header of its own. */
static hark_err take_challenge(state *s, const char *realm, hark_errinfo *ei)
{
    size_t len = strlen(realm);
    if (len > REALM_MAX || !hk_field_value(realm, len) || strpbrk(realm, "\"\\"))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_key_auth: realm is up to %d characters without quotes", REALM_MAX);
    if (s->scheme[0])
        (void)snprintf(s->challenge, sizeof s->challenge, "%s realm=\"%s\"", s->scheme, realm);
    else
        (void)snprintf(s->challenge, sizeof s->challenge, "Key realm=\"%s\", header=\"%s\"", realm,
                       s->header);
    return HARK_OK;
}

static hark_err take(void *to, const void *opts, hark_errinfo *ei)
{
    state *s = to;
    const hark_key_auth_opts *o = opts;
    const char *header = o->header ? o->header : "Authorization";
    hk_random(s->secret, sizeof s->secret);
    hark_err err = take_keys(s, o->keys, ei);
    s->own_header = strcasecmp(header, "Authorization") != 0;
    s->check = o->check;
    s->ud = o->ud;
    if (!err && s->n == 0 && !s->check)
        err = hk_fail(ei, HARK_EINVAL,
                      "hark_key_auth without keys would refuse all; give `keys` or `check`");
    if (!err && !*header)
        err = hk_fail(ei, HARK_EINVAL, "hark_key_auth: header is empty; NULL is Authorization");
    if (!err)
        err = take_name(s->header, header, "header", ei);
    if (!err)
        err = take_name(s->scheme,
                        o->scheme       ? o->scheme
                        : s->own_header ? ""
                                        : "Bearer",
                        "scheme", ei);
    if (!err)
        err = take_name(s->query, o->query ? o->query : "", "query", ei);
    if (!err)
        err = take_challenge(s, o->realm ? o->realm : "api", ei);
    if (!err && !hk_skip_copy(&s->skip, o->skip))
        err = no_memory(ei);
    return err;
}

hark_middleware hark_key_auth(const hark_key_auth_opts *opts)
{
    static const hk_maker maker = {
        "hark_key_auth", sizeof(hark_key_auth_opts), sizeof(state), run, state_free, take};
    hark_key_auth_opts room;
    return hk_make(&maker, opts, &room);
}
