/* Transactions of requests, and what hark_idempotency has to do with them, with publishing and with
 * a reply on its way out. */
#ifndef HK_KEYED_I_H
#define HK_KEYED_I_H

#include "http/http_i.h"

/* hark_transact_async unless the program has let the app go (transact.c) */
hark_err hk_app_transact(hark_app *app, hark_tx_fn fn, hark_transacted_fn done, void *ud,
                         const hark_tx_opts *opts, hark_errinfo *ei);

/* The reply's headers as they once were (reply.c). */
typedef struct hk_noted hk_noted;
hk_noted *hk_headers_note(hark_ctx *c); /* NULL: no memory */
void hk_headers_back(hark_ctx *c, const hk_noted *was);
bool hk_headers_noted(const hk_noted *was, const hk_out_header *h); /* it is as it was */

/* An error when this middleware is hark_idempotency and the app has no bus, or one without
 * transactions (middleware/idempotency.c). */
hark_err hk_keyed_check(hark_app *app, const hark_middleware *m, hark_errinfo *ei);

/* Of requests with `keyed`, the last one of all with `whole` (middleware/idempotency_reply.c). */
hark_err hk_keyed_refuse(hark_ctx *c);            /* a publish outside of hark_ctx_transact */
void hk_keyed_begin(hark_ctx *c);                 /* a run of the closure begins */
hark_err hk_keyed_keep(hark_ctx *c, hark_tx *tx); /* stores the reply with the transaction */
bool hk_keyed_first(hark_ctx *c, hark_err err);   /* another was first: its reply is this one's */
void hk_keyed_settled(hark_ctx *c);               /* the reply is stored, or never will be */
bool hk_keyed_holds(hark_ctx *c);                 /* loop: it goes out when it has been stored */
bool hk_reply_storable(const hark_ctx *c);        /* it does not ask to be tried again */

#endif
