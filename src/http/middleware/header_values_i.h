/* Headers of requests that middleware reads, without a request: each takes any text. */
#ifndef HK_HEADER_VALUES_I_H
#define HK_HEADER_VALUES_I_H

#include <stdbool.h>
#include <stddef.h>

/* ---- Accept-Encoding (RFC 9110 section 12.5.3) ---- */

/* Weights in thousandths; -1: not said. Of what is said twice the lower one counts. */
typedef struct hk_codings {
    int gzip, identity, any;
} hk_codings;
#define HK_CODINGS_NONE                                                                            \
    {                                                                                              \
        -1, -1, -1                                                                                 \
    }
void hk_codings_read(hk_codings *a, const char *value); /* once for each such header */
bool hk_codings_want_gzip(const hk_codings *a);

/* ---- Origin (WHATWG Fetch; RFC 6454 section 7) ---- */

/* "https://shop.example:8443", the same with "*." before the host for one label, "null", "*". */
bool hk_origin_pattern_ok(const char *pattern);
/* It ends in the port that its scheme has anyway, which no browser sends. */
bool hk_origin_usual_port(const char *pattern);
bool hk_origin_covers(const char *pattern, const char *origin);

/* Names between commas, at least one. */
bool hk_names_ok(const char *list);

/* ---- credentials (RFC 9110 section 11.4, RFC 6750 section 2.1) ---- */

enum { HK_KEY_MAX = 4096 };

typedef enum hk_credentials { HK_CRED_NONE, HK_CRED_MALFORMED, HK_CRED_KEY } hk_credentials;
/* "SCHEME KEY", or the bare key when the scheme is "". None: another scheme. */
hk_credentials hk_credentials_read(const char *value, const char *scheme, const char **ret_key);
bool hk_key_ok(const char *key); /* 1 to HK_KEY_MAX visible ASCII characters */

#endif
