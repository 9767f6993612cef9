/* The route table: a tree of path segments. Built while the app is set up, then read by all loops
 * without locks. Knows nothing of requests, sockets or middleware. */
#ifndef HK_ROUTER_I_H
#define HK_ROUTER_I_H

#include "base/base.h"

#define HK_ROUTE_PARAMS   16
#define HK_PATH_SEGMENTS  128 /* of a request's path; longer ones match nothing */
#define HK_ROUTE_SEGMENTS 64  /* of a route's path */

typedef enum hk_method {
    HK_GET,
    HK_HEAD,
    HK_POST,
    HK_PUT,
    HK_PATCH,
    HK_DELETE,
    HK_OPTIONS,
    HK_METHOD_OTHER, /* compared by name */
    HK_METHOD_ANY    /* routes only */
} hk_method;

hk_method hk_method_of(const char *name, size_t len);

typedef struct hk_span {
    const char *s;
    size_t len;
} hk_span;

/* A request's path, decoded; segment i is text[off[i] .. off[i] + len[i]). A '/' that came as %2F
 * stands inside a segment. */
typedef struct hk_path {
    const char *text;
    size_t len;
    size_t n;
    uint16_t off[HK_PATH_SEGMENTS];
    uint16_t seg_len[HK_PATH_SEGMENTS];
} hk_path;

typedef struct hk_place hk_place;

/* What the router keeps of a route; `owner` is the caller's. */
typedef struct hk_route_entry {
    struct hk_route_entry *next; /* at the same node */
    void *owner;
    hk_method method;
    size_t n_names;
    char *names[HK_ROUTE_PARAMS];
    char *method_name; /* NULL for HK_METHOD_ANY */
    char *pattern;
} hk_route_entry;

typedef struct hk_match {
    const hk_route_entry *route; /* NULL when none has this method */
    size_t n_values;
    hk_span values[HK_ROUTE_PARAMS];
    size_t n_ends; /* places that match the path but have no route of the method */
    const hk_place *ends[8];
} hk_match;

typedef struct hk_router {
    hk_place *root;
    hk_place *all; /* every node, for freeing */
} hk_router;

hark_err hk_router_init(hk_router *r);
void hk_router_free(hk_router *r);

/* Checks what a path of a route or (without parameters) a prefix of a group must look like. */
hark_err hk_route_check(const char *path, hark_errinfo *ei);

/* Adds a route; `*ret` belongs to the router. HARK_EINVAL says what is malformed and where,
 * HARK_EEXIST which route is there already. */
hark_err hk_router_add(hk_router *r, const char *method, const char *path, void *owner,
                       hk_route_entry **ret, hark_errinfo *ei);

/* Finds the route of a path: text before ":param" before "*rest", going back where a choice fails
 * further on. True when it is there for this method. */
bool hk_router_match(const hk_router *r, hk_method method, const char *method_name,
                     const hk_path *path, hk_match *ret);

/* Text of the Allow header for a path that matched somewhere. */
void hk_router_allow(const hk_match *m, hk_buf *out);

#endif
