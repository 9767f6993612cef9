/* user.h: a customer. */
#ifndef SHOP_USER_H
#define SHOP_USER_H

#include "shop.h"

#define EMAIL_SIZE 200

typedef struct user {
    char id[40]; /* "usr-…" */
    char name[100], email[EMAIL_SIZE];
    int64_t created_at; /* ns since 1970 */
} user;

/* Inserts one, with the id that it has, and publishes user:created; if somebody has the id already,
 * nothing happens. */
hark_err user_add(hark_tx *tx, const user *u);

/* Something on both sides of an @, and neither a space nor a control character. */
bool email_is_good(const char *email);

#endif
