/* notification.c: tells customers by mail. A row for each mail sees to it that none is sent twice,
 * whatever is delivered again. It never gives up: late news is better than none. */
#include "../consumers.h"
#include "../user.h"

#include <stdio.h>

typedef struct kind {
    const char *type, *name, *text;
} kind;

static const kind kinds[] = {
    {"order:created", "created", "has been placed"},
    {"order:paid", "paid", "has been paid"},
    {"order:shipped", "shipped", "has been shipped"},
    {"order:cancelled", "cancelled", "has been cancelled"},
    {"payment:failed", "payment-failed", "could not be paid"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct mail {
    job job;
    const kind *kind;
    char order_id[40];
    char to[EMAIL_SIZE]; /* empty: it was sent before, or nobody knows the order */
    int64_t at;
} mail;

static bool take_address(const hark_row *row, void *ud)
{
    mail *m = ud;
    const char *to = hark_row_text(row, 0);
    snprintf(m->to, sizeof m->to, "%s", to ? to : "");
    return false;
}

static hark_err note_down(hark_tx *tx, void *ud)
{
    mail *m = ud;
    m->to[0] = '\0';
    hark_err err = hark_tx_query(
        tx, "SELECT email FROM orders JOIN users ON users.id = user_id WHERE orders.id = ?",
        HARK_ARGS(hark_text(m->order_id)), take_address, m);
    if (err || !m->to[0])
        return err;
    err = hark_tx_exec(
        tx, "INSERT INTO mails(order_id, kind, sent_at) VALUES(?, ?, ?) ON CONFLICT DO NOTHING",
        HARK_ARGS(hark_text(m->order_id), hark_text(m->kind->name), hark_int(m->at)));
    if (!err && !hark_tx_changes(tx))
        m->to[0] = '\0';
    return err;
}

static hark_verdict sent(job *j, hark_err err)
{
    const mail *m = (const mail *)j;
    if (!err && m->to[0])
        story(j->s, "mail to %s: your order %s %s", m->to, m->order_id, m->kind->text);
    return verdict_of(err);
}

static const kind *kind_of(const hark_delivery *d)
{
    for (size_t i = 0; i < KINDS; i++)
        if (is_type(d, kinds[i].type))
            return &kinds[i];
    return NULL;
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    const kind *news = kind_of(d);
    if (!news)
        return HARK_ACK; /* no news for a customer */
    mail *m = job_new(s, sizeof *m, NULL);
    if (!m)
        return HARK_RETRY;
    m->kind = news;
    m->at = shop_now();
    return read_order_id(d, m->order_id) ? job_do(&m->job, d, note_down, sent)
                                         : job_drop(&m->job, HARK_REJECT);
}

const consumer notification = {.name = "notification",
                               .pattern = "order:*|payment:failed",
                               .handle = handle,
                               .max_attempts = -1,
                               .as_stored = true};
