/* user.h: a customer. */
#ifndef SHOP_USER_H
#define SHOP_USER_H

#include "shop.h"

typedef struct user {
    char id[40]; /* "usr-…" */
    char name[100], email[200];
    int64_t created_at; /* ns since 1970 */
} user;

/* Inserts one, with the id that it has, and publishes user:created. */
hark_err user_add(hark_tx *tx, user *u);

#endif
