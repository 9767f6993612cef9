/* store: finds the backend for a URL. Front header; may use base, event and each backend's front
 * header for its one symbol. */
#ifndef HK_STORE_H
#define HK_STORE_H

#include "base/base.h"

#include <hark/store.h>

/* The backend of "scheme:rest"; *ret_rest points into url. HARK_EINVAL names the schemes known. */
hark_err hk_store_find(const char *url, const hark_store_ops **ret, const char **ret_rest,
                       hark_errinfo *ei);

#endif
