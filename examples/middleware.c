/* middleware: the pieces of docs/how-to/middleware.md, put to work: try
 *     curl -H 'X-Api-Key: open sesame' -H 'Authorization: ann' -H 'X-Tenant: tea' localhost:8080/my/name
 * Usage: middleware [ADDR:PORT], by default 127.0.0.1:8080 */
#include <hark/hark.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hark_err timing(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_set_header(c, "X-Served-By", "shop-1"); /* before the handler */
    hark_err err = hark_ctx_next(c);                 /* the rest of the chain */
    return err;                                      /* after it */
}

static bool key_is_known(const char *known, const char *key)
{
    return strcmp(known, key) == 0; /* from a table of hashes, compared in constant time */
}

static hark_err only_from_us(hark_ctx *c, void *ud)
{
    const char *key = hark_ctx_header(c, "X-Api-Key");
    if (!key || !key_is_known(ud, key))
        return hark_ctx_fail(c, HARK_EUNAUTHORIZED, "X-Api-Key is missing or unknown");
    return hark_ctx_next(c);
}

static void metrics_add(FILE *out, const char *route, int status, int64_t ns)
{
    fprintf(out, "%s %d %lld us\n", route, status, (long long)ns / 1000);
}

static void count(hark_ctx *c, const hark_outcome *o, void *ud)
{
    metrics_add(ud, hark_ctx_route(c), (int)o->status, o->duration_ns);
}

static hark_err metrics(hark_ctx *c, void *ud)
{
    hark_ctx_on_done(c, count, ud);
    return hark_ctx_next(c);
}

struct user {
    char name[32];
};

static bool look_up(const char *known, const char *token, struct user *ret)
{
    return token && strstr(known, token) && snprintf(ret->name, sizeof ret->name, "%s", token) > 0;
}

static const char user_key; /* its address is the key */

static hark_err with_user(hark_ctx *c, void *ud)
{
    struct user *u = hark_ctx_alloc(c, sizeof *u);
    if (!u || !look_up(ud, hark_ctx_header(c, "Authorization"), u))
        return HARK_EUNAUTHORIZED;
    hark_err err = hark_ctx_set(c, &user_key, u);
    return err ? err : hark_ctx_next(c);
}

static hark_err run(hark_ctx *c, void *ud)
{
    if (!hark_ctx_header(c, ud))
        return hark_ctx_fail(c, HARK_EINVAL, "the header %s is missing", (const char *)ud);
    return hark_ctx_next(c);
}

static hark_middleware tenant(const char *header)
{
    hark_middleware mw = {.fn = run, .free_ud = free};
    mw.ud = header ? strdup(header) : NULL;
    if (!mw.ud) {
        mw.err = HARK_EINVAL;
        snprintf(mw.text, sizeof mw.text, "tenant: a header name must be given");
    }
    return mw;
}

static hark_err name(hark_ctx *c, void *ud)
{
    (void)ud;
    /* in the handler */
    struct user *u = hark_ctx_get(c, &user_key);
    return hark_ctx_text(c, 200, u->name);
}

int main(int argc, char **argv)
{
    hark_app *app;
    hark_errinfo ei;
    hark_group *mine;
    static char key[] = "open sesame", users[] = "ann bob";
    setvbuf(stdout, NULL, _IOLBF, 0);
    hark_err err = hark_app_new(NULL, &app, &ei);
    if (err)
        return fprintf(stderr, "middleware: %s\n", ei.text), 1;
    hark_app_use(app, (hark_middleware){.fn = timing});
    hark_app_use(app, (hark_middleware){.fn = metrics, .ud = stdout});
    hark_app_use(app, (hark_middleware){.fn = only_from_us, .ud = key});
    hark_app_group(app, "/my", &mine);
    hark_group_use(mine, (hark_middleware){.fn = with_user, .ud = users});
    hark_group_use(mine, tenant("X-Tenant"));
    hark_group_get(mine, "/name", name, NULL);
    err = hark_app_listen(app, argc > 1 ? argv[1] : "127.0.0.1:8080", &ei);
    if (!err)
        printf("listening on port %d\n", hark_app_port(app));
    if (!err)
        err = hark_app_run(app, &ei); /* until SIGTERM or SIGINT */
    if (err)
        fprintf(stderr, "middleware: %s\n", ei.text);
    hark_app_unref(app);
    return err != HARK_OK;
}
