/* http/users.c: POST /users and GET /users/:id. */
#include "../user.h"

#include <stdio.h>

HARK_JSON_TABLE(wanted_user, user, HARK_JSON_CHARS(user, name, .required = true, .min_len = 1),
                HARK_JSON_CHARS(user, email, .required = true, .min_len = 3));
HARK_JSON_TABLE(user_json, user, HARK_JSON_CHARS(user, id), HARK_JSON_CHARS(user, name),
                HARK_JSON_CHARS(user, email), HARK_JSON_TIME(user, created_at));

/* ---- making one ---- */

static hark_err add(hark_ctx *c, hark_tx *tx, void *ud)
{
    user *u = ud;
    hark_err err = user_add(tx, u);
    if (err)
        return err;
    hark_ctx_set_header(c, "Location", hark_ctx_printf(c, "/users/%s", u->id));
    return hark_ctx_json(c, 201, &user_json, u);
}

static hark_err post_user(hark_ctx *c, void *ud)
{
    (void)ud;
    user *u = hark_ctx_alloc(c, sizeof *u); /* add runs when this has returned */
    if (!u)
        return HARK_ENOMEM;
    *u = (user){.name = "John Doe", .email = "john@example.com"}; /* for `curl -X POST` */
    hark_err err = hark_ctx_bind_optional(c, &wanted_user, u);
    if (err)
        return err;
    if (!text_is_plain(u->name))
        return hark_ctx_fail_at(c, HARK_ESCHEMA, "$.name",
                                "has a control character, expected letters");
    if (!email_is_good(u->email))
        return hark_ctx_fail_at(
            c, HARK_ESCHEMA, "$.email",
            "is \"%s\", expected name@host without spaces and control characters", u->email);
    shop_new_id(u->id, "usr-");
    u->created_at = hark_ctx_started_ns(c);
    return hark_ctx_transact(c, add, u, SHOP_TX);
}

/* ---- GET /users/:id ---- */

typedef struct account {
    user u;
    int64_t points, orders;
    bool found;
} account;
HARK_JSON_TABLE(account_json, account, HARK_JSON_CHARS(account, u.id, .as = "id"),
                HARK_JSON_CHARS(account, u.name, .as = "name"),
                HARK_JSON_CHARS(account, u.email, .as = "email"),
                HARK_JSON_TIME(account, u.created_at, .as = "created_at"),
                HARK_JSON_INT(account, points), HARK_JSON_INT(account, orders));

static bool take_account(const hark_row *row, void *ud)
{
    account *a = ud;
    snprintf(a->u.id, sizeof a->u.id, "%s", hark_row_text(row, 0));
    snprintf(a->u.name, sizeof a->u.name, "%s", hark_row_text(row, 1));
    snprintf(a->u.email, sizeof a->u.email, "%s", hark_row_text(row, 2));
    a->u.created_at = hark_row_int(row, 3);
    a->points = hark_row_int(row, 4);
    a->orders = hark_row_int(row, 5);
    a->found = true;
    return true;
}

static hark_err get_user(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    account a = {.found = false};
    hark_errinfo ei;
    const char *id = hark_ctx_param(c, "id");
    hark_err err = hark_query(s->bus,
                              "SELECT id, name, email, created_at, "
                              "(SELECT coalesce(sum(points), 0) FROM points WHERE user_id = u.id), "
                              "(SELECT count(*) FROM orders WHERE user_id = u.id) "
                              "FROM users u WHERE id = ?",
                              HARK_ARGS(hark_text(id)), take_account, &a, &ei);
    if (err)
        return hark_ctx_fail(c, err, "%s", ei.text);
    if (!a.found)
        return hark_ctx_fail(c, HARK_ENOTFOUND, "there is no user %s", id);
    return hark_ctx_json(c, 200, &account_json, &a);
}

void shop_user_routes(shop *s)
{
    hark_post(s->app, "/users", post_user, s);
    hark_route(s->app, "GET", "/users/:id", get_user, s, HARK_BLOCKING);
}
