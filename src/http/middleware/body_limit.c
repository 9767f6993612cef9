/* body_limit: another limit for bodies than the app's. It does its work before any handler runs:
 * the limit is fixed with the route's chain and checked while the body comes in. */
#include "http/http_i.h"

static hark_err run(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_next(c);
}

hark_middleware hark_body_limit(size_t bytes)
{
    if (bytes == 0)
        return (hark_middleware){.err = HARK_EINVAL, .text = "hark_body_limit(0) would refuse all"};
    return (hark_middleware){.fn = run, .body_limit = bytes};
}
