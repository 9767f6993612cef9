/* notification.c: tells customers by mail. A row for each mail sees to it that none is sent twice,
 * whatever is delivered again. It never gives up: late news is better than none. */
#include "../consumers.h"

#include <stdio.h>

typedef struct mail {
    char order_id[40];
    const char *kind;
    int64_t sent_at;
    char to[100]; /* empty: it is sent already, or nobody knows the order */
} mail;

static const struct {
    const char *type, *kind, *text;
} kinds[] = {
    {"order:created", "created", "has been placed"},
    {"order:paid", "paid", "has been paid"},
    {"order:shipped", "shipped", "has been shipped"},
    {"order:cancelled", "cancelled", "has been cancelled"},
    {"payment:failed", "payment-failed", "could not be paid"},
};

static bool take_address(const hark_row *row, void *ud)
{
    mail *m = ud;
    const char *to = hark_row_text(row, 0);
    snprintf(m->to, sizeof m->to, "%s", to ? to : "");
    return true;
}

static hark_err note_down(hark_tx *tx, void *ud)
{
    mail *m = ud;
    m->to[0] = '\0';
    return hark_tx_query(
        tx,
        "INSERT INTO mails(order_id, kind, sent_at) "
        "SELECT id, ?, ? FROM orders WHERE id = ? ON CONFLICT DO NOTHING "
        "RETURNING (SELECT email FROM users JOIN orders ON user_id = users.id "
        "WHERE orders.id = order_id)",
        HARK_ARGS(hark_text(m->kind), hark_int(m->sent_at), hark_text(m->order_id)), take_address,
        m);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    size_t i = 0;
    mail m = {.to = ""};
    while (i < sizeof kinds / sizeof *kinds && !is_type(d, kinds[i].type))
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return HARK_ACK; /* no news for a customer */
    if (!read_order_id(d, m.order_id))
        return HARK_REJECT;
    m.kind = kinds[i].kind;
    m.sent_at = shop_now();
    hark_err err = hark_delivery_transact(d, note_down, &m, SHOP_TX, NULL);
    if (!err && m.to[0])
        story(s, "mail to %s: your order %s %s", m.to, m.order_id, kinds[i].text);
    return verdict_of(err);
}

const consumer notification = {.name = "notification",
                               .pattern = "order:*|payment:failed",
                               .handle = handle,
                               .max_attempts = -1,
                               .as_stored = true};
