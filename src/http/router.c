/* The route tree. A node is a place between two slashes; below it are children by text, found
 * through a hash table that grows as routes are added, at most one for ":param" and one for
 * "*rest". Matching walks the tree with a stack of its own and visits a node at most once. */
#include "http/router_i.h"

#include <stdlib.h>
#include <string.h>

struct hk_place {
    char *text; /* of this segment; NULL for root, param and rest */
    size_t len;
    uint64_t hash;
    hk_place **slots; /* children by text, open addressing, at most half full */
    size_t n_slots;
    size_t n_children;
    hk_place *param;
    hk_place *rest;
    hk_route_entry *routes;
    hk_place *next; /* in the list of all */
};

static const struct {
    const char *name;
    size_t len;
} methods[] = {{"GET", 3},   {"HEAD", 4},   {"POST", 4},   {"PUT", 3},
               {"PATCH", 5}, {"DELETE", 6}, {"OPTIONS", 7}};

hk_method hk_method_of(const char *name, size_t len)
{
    for (size_t i = 0; i < HK_COUNTOF(methods); i++)
        if (methods[i].len == len && memcmp(methods[i].name, name, len) == 0)
            return (hk_method)i;
    return HK_METHOD_OTHER;
}

/* ---- building ---- */

static hk_place *node_new(hk_router *r)
{
    hk_place *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->next = r->all;
    r->all = n;
    return n;
}

hark_err hk_router_init(hk_router *r)
{
    r->all = NULL;
    r->root = node_new(r);
    return r->root ? HARK_OK : HARK_ENOMEM;
}

static void entry_free(hk_route_entry *e)
{
    for (size_t i = 0; i < e->n_names; i++)
        free(e->names[i]);
    free(e->method_name);
    free(e->pattern);
    free(e);
}

void hk_router_free(hk_router *r)
{
    for (hk_place *n = r->all, *next; n; n = next) {
        next = n->next;
        for (hk_route_entry *e = n->routes, *after; e; e = after) {
            after = e->next;
            entry_free(e);
        }
        free(n->slots);
        free(n->text);
        free(n);
    }
    *r = (hk_router){0};
}

static void slot_put(hk_place **slots, size_t n_slots, hk_place *child)
{
    size_t i = child->hash & (n_slots - 1);
    while (slots[i])
        i = (i + 1) & (n_slots - 1);
    slots[i] = child;
}

static bool grow(hk_place *n)
{
    size_t want = n->n_slots ? n->n_slots * 2 : 4;
    hk_place **slots = calloc(want, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < n->n_slots; i++)
        if (n->slots[i])
            slot_put(slots, want, n->slots[i]);
    free(n->slots);
    n->slots = slots;
    n->n_slots = want;
    return true;
}

static hk_place *find_text(const hk_place *n, const char *s, size_t len)
{
    if (n->n_children == 0)
        return NULL;
    uint64_t hash = hk_hash(s, len);
    for (size_t i = hash & (n->n_slots - 1); n->slots[i]; i = (i + 1) & (n->n_slots - 1)) {
        hk_place *child = n->slots[i];
        if (child->hash == hash && child->len == len && memcmp(child->text, s, len) == 0)
            return child;
    }
    return NULL;
}

static hk_place *add_text(hk_router *r, hk_place *n, const char *s, size_t len)
{
    hk_place *child = find_text(n, s, len);
    if (child)
        return child;
    if ((n->n_children + 1) * 2 > n->n_slots && !grow(n))
        return NULL;
    child = node_new(r);
    if (!child)
        return NULL;
    child->text = strndup(s, len);
    if (!child->text)
        return NULL;
    child->len = len;
    child->hash = hk_hash(s, len);
    slot_put(n->slots, n->n_slots, child);
    n->n_children++;
    return child;
}

static hk_place *add_segment(hk_router *r, hk_place *n, const char *s, size_t len)
{
    if (s[0] == ':') {
        if (!n->param)
            n->param = node_new(r);
        return n->param;
    }
    if (s[0] == '*') {
        if (!n->rest)
            n->rest = node_new(r);
        return n->rest;
    }
    return add_text(r, n, s, len);
}

static hk_place *add_path(hk_router *r, const char *path)
{
    hk_place *n = r->root;
    for (const char *s = path; n && *s == '/';) {
        size_t len = strcspn(++s, "/");
        n = add_segment(r, n, s, len);
        s += len;
    }
    return n;
}

static bool same_method(const hk_route_entry *e, hk_method m, const char *name)
{
    return e->method == m && (m != HK_METHOD_OTHER || strcmp(e->method_name, name) == 0);
}

static bool entry_names(hk_route_entry *e)
{
    for (const char *s = e->pattern; *s == '/';) {
        size_t len = strcspn(++s, "/");
        if (*s == ':' || *s == '*') {
            char *name = strndup(s + 1, len - 1);
            if (!name)
                return false;
            e->names[e->n_names++] = name;
        }
        s += len;
    }
    return true;
}

static hk_route_entry *entry_new(const char *method, const char *path, void *owner)
{
    hk_route_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->owner = owner;
    e->method = method ? hk_method_of(method, strlen(method)) : HK_METHOD_ANY;
    e->pattern = strdup(path);
    e->method_name = method ? strdup(method) : NULL;
    if (!e->pattern || (method && !e->method_name) || !entry_names(e)) {
        entry_free(e);
        return NULL;
    }
    return e;
}

hark_err hk_router_add(hk_router *r, const char *method, const char *path, void *owner,
                       hk_route_entry **ret, hark_errinfo *ei)
{
    const char *shown = method ? method : "*";
    hark_err err = hk_route_check(path, ei);
    if (err)
        return hk_wrap(ei, err, "route %.20s %.200s", shown, path ? path : "(null)");
    hk_place *n = add_path(r, path);
    hk_route_entry *e = n ? entry_new(method, path, owner) : NULL;
    if (!e)
        return hk_fail(ei, HARK_ENOMEM, "route %.20s %.200s: out of memory", shown, path);
    for (hk_route_entry *o = n->routes; o; o = o->next) {
        if (!same_method(o, e->method, method))
            continue;
        err = hk_fail(ei, HARK_EEXIST, "route %.20s %.200s is there already, as %.200s", shown,
                      path, o->pattern);
        entry_free(e);
        return err;
    }
    e->next = n->routes;
    n->routes = e;
    *ret = e;
    return HARK_OK;
}

/* ---- matching ---- */

typedef struct frame {
    const hk_place *node;
    uint8_t seg;   /* next segment of the path */
    uint8_t nv;    /* values taken so far */
    uint8_t stage; /* what to try next: text, param, rest */
} frame;

/* The route of a node for a method; HEAD falls back to GET, anything to a route for all. */
static const hk_route_entry *pick(const hk_place *n, hk_method m, const char *name)
{
    const hk_route_entry *get = NULL, *any = NULL;
    for (const hk_route_entry *e = n->routes; e; e = e->next) {
        if (e->method == HK_METHOD_ANY)
            any = e;
        else if (same_method(e, m, name))
            return e;
        else if (e->method == HK_GET && m == HK_HEAD)
            get = e;
    }
    return get ? get : any;
}

static bool arrive(const hk_place *n, hk_method m, const char *name, size_t nv, hk_match *ret)
{
    if (!n->routes)
        return false;
    ret->route = pick(n, m, name);
    if (ret->route) {
        ret->n_values = nv;
        return true;
    }
    if (ret->n_ends < HK_COUNTOF(ret->ends))
        ret->ends[ret->n_ends++] = n;
    return false;
}

static const hk_place *step_param(const frame *f, const hk_path *p, hk_match *ret)
{
    if (!f->node->param || p->seg_len[f->seg] == 0)
        return NULL;
    ret->values[f->nv] = (hk_span){p->text + p->off[f->seg], p->seg_len[f->seg]};
    return f->node->param;
}

static bool step_rest(const frame *f, const hk_path *p, hk_method m, const char *name,
                      hk_match *ret)
{
    if (!f->node->rest)
        return false;
    size_t off = p->off[f->seg];
    ret->values[f->nv] = (hk_span){p->text + off, p->len - off};
    return arrive(f->node->rest, m, name, f->nv + 1u, ret);
}

bool hk_router_match(const hk_router *r, hk_method m, const char *name, const hk_path *p,
                     hk_match *ret)
{
    frame stack[HK_ROUTE_SEGMENTS + 2];
    size_t depth = 1;
    stack[0] = (frame){r->root, 0, 0, 0};
    ret->route = NULL;
    ret->n_ends = 0;
    ret->n_values = 0;
    while (depth > 0) {
        frame *f = &stack[depth - 1];
        if (f->seg == p->n) {
            if (arrive(f->node, m, name, f->nv, ret))
                return true;
            depth--;
            continue;
        }
        const hk_place *next = NULL;
        uint8_t nv = f->nv, stage = f->stage++;
        if (stage == 0) {
            next = find_text(f->node, p->text + p->off[f->seg], p->seg_len[f->seg]);
        } else if (stage == 1) {
            next = step_param(f, p, ret);
            nv = (uint8_t)(nv + 1);
        } else {
            if (step_rest(f, p, m, name, ret))
                return true;
            depth--;
        }
        if (next)
            stack[depth++] = (frame){next, (uint8_t)(f->seg + 1), nv, 0};
    }
    return false;
}

/* ---- Allow ---- */

static void allow_add(hk_buf *out, const char *name)
{
    size_t len = strlen(name);
    for (const char *s = out->data; s && *s;) {
        size_t n = strcspn(s, ",");
        if (n == len && memcmp(s, name, n) == 0)
            return;
        s += n;
        s += strspn(s, ", ");
    }
    if (out->len)
        hk_buf_adds(out, ", ");
    hk_buf_add(out, name, len);
}

void hk_router_allow(const hk_match *m, hk_buf *out)
{
    for (size_t i = 0; i < m->n_ends; i++)
        for (const hk_route_entry *e = m->ends[i]->routes; e; e = e->next) {
            allow_add(out, e->method_name);
            if (e->method == HK_GET)
                allow_add(out, "HEAD");
        }
    allow_add(out, "OPTIONS");
}
