/* user.c: how a customer is made. */
#include "user.h"
#include "events.h"

#include <string.h>

hark_err user_add(hark_tx *tx, const user *u)
{
    hark_err err = hark_tx_exec(tx,
                                "INSERT INTO users(id, name, email, created_at) VALUES(?, ?, ?, ?) "
                                "ON CONFLICT DO NOTHING",
                                HARK_ARGS(hark_text(u->id), hark_text(u->name), hark_text(u->email),
                                          hark_int(u->created_at)));
    return err || !hark_tx_changes(tx) ? err : publish_user(tx, u);
}

bool email_is_good(const char *email)
{
    const char *at = strchr(email, '@');
    return at && at > email && at[1] && !strchr(email, ' ') && text_is_plain(email);
}
