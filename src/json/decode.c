/* Decodes a JSON document into a struct by its table, straight from slices of the text. It works
 * on a copy of the struct and swaps at the end, so that a fault leaves the struct as it was; it
 * goes on after a fault, so that all are reported. It descends by calling itself, at most
 * HARK_JSON_MAX_DEPTH deep, because the document has been checked before. */
#include "json/decode_i.h"

#include <stdlib.h>
#include <string.h>

static void decode_value(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                         hk_json_slice value, char *base);

/* ---- lists ----------------------------------------------------------------------------------- */

/* The place for n elements: the fixed array, emptied, or new memory (which may be NULL for 0). */
static char *list_place(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        size_t n, char *base)
{
    if (f->in_place) {
        memset(base + f->offset, 0, f->size);
        return base + f->offset;
    }
    char *place = n > 0 ? hk_json_decoder_alloc(d, at, n, f->elem_size) : NULL;
    *hk_json_pointer(f, base) = place;
    return place;
}

static void decode_list(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice value, char *base)
{
    if (value.kind != HK_JSON_ARRAY) {
        hk_json_decoder_refuse_value(d, at, value, f, "type");
        return;
    }
    size_t n = hk_json_count(value);
    if (!hk_json_length_fits(f, n)) {
        hk_json_decoder_refuse(d, at, value, f, "length", "has %zu elements", n);
        return;
    }
    char *place = list_place(d, at, f, n, base);
    *hk_json_counter(f, base) = place != NULL ? n : 0;
    if (place == NULL)
        return;
    hark_json_field elem = hk_json_elem_field(f);
    hk_json_iter it;
    hk_json_slice v;
    hk_json_iter_init(&it, value);
    for (size_t i = 0; i < n && hk_json_iter_next(&it, NULL, &v); i++) {
        hk_json_path step = hk_json_path_index(at, i);
        decode_value(d, &step, &elem, v, place + i * f->elem_size);
    }
}

/* ---- objects --------------------------------------------------------------------------------- */

/* null for an optional field: it is not there. What has no way to say so keeps its value. */
static void decode_null(const hark_json_field *f, char *base)
{
    bool *has = hk_json_has(f, base);
    if (has != NULL)
        *has = false;
    if (f->type == HARK_JSON_T_STR || f->type == HARK_JSON_T_BYTES)
        *hk_json_pointer(f, base) = NULL;
    if (f->type == HARK_JSON_T_BYTES)
        *hk_json_counter(f, base) = 0;
    if (f->type != HARK_JSON_T_LIST)
        return;
    *hk_json_counter(f, base) = 0;
    if (f->in_place)
        memset(base + f->offset, 0, f->size);
    else
        *hk_json_pointer(f, base) = NULL;
}

static void decode_member(hk_json_decoder *d, const hk_json_path *up, const hark_json_field *f,
                          hk_json_slice value, char *base)
{
    const char *name = hk_json_field_name(f);
    hk_json_path at = hk_json_path_name(up, name, strlen(name));
    if (value.kind == HK_JSON_NULL && !f->required && f->type != HARK_JSON_T_RAW) {
        decode_null(f, base);
        return;
    }
    decode_value(d, &at, f, value, base);
    bool *has = hk_json_has(f, base);
    if (has != NULL)
        *has = true;
}

/* Index of the field of that name, n_fields if there is none. Looks on from `hint`, because
 * members mostly come in the order of the table. */
static size_t find_field(const hark_json_table *t, hk_json_slice name, size_t hint)
{
    for (size_t k = 0; k < t->n_fields; k++) {
        size_t i = hint + k < t->n_fields ? hint + k : hint + k - t->n_fields;
        if (hk_json_equals(name, hk_json_field_name(hk_json_field_at(t, i))))
            return i;
    }
    return t->n_fields;
}

static void require_all(hk_json_decoder *d, const hk_json_path *up, const hark_json_table *t,
                        hk_json_slice object, const uint64_t *seen)
{
    for (size_t i = 0; i < t->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        if (!f->required || ((seen[i / 64] >> (i % 64)) & 1))
            continue;
        const char *name = hk_json_field_name(f);
        hk_json_path at = hk_json_path_name(up, name, strlen(name));
        hk_json_decoder_refuse(d, &at, object, f, "required", "is missing");
    }
}

static void refuse_unknown(hk_json_decoder *d, const hk_json_path *up, hk_json_slice name)
{
    hk_json_path at = hk_json_path_name(up, name.ptr + 1, name.len - 2);
    hk_json_decoder_refuse(d, &at, name, NULL, "unknown", "is not a known member");
}

static void decode_object(hk_json_decoder *d, const hk_json_path *at, const hark_json_table *t,
                          hk_json_slice object, char *base)
{
    uint64_t seen[HARK_JSON_MAX_FIELDS / 64] = {0};
    hk_json_iter it;
    hk_json_slice name, value;
    size_t i = 0;
    for (hk_json_iter_init(&it, object); hk_json_iter_next(&it, &name, &value);) {
        size_t found = find_field(t, name, i);
        if (found < t->n_fields) {
            seen[found / 64] |= UINT64_C(1) << (found % 64);
            decode_member(d, at, hk_json_field_at(t, found), value, base);
            i = found + 1 < t->n_fields ? found + 1 : 0;
        } else if (t->flags & HARK_JSON_REFUSE_UNKNOWN) {
            refuse_unknown(d, at, name);
        }
    }
    require_all(d, at, t, object, seen);
}

static void decode_value(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                         hk_json_slice value, char *base)
{
    if (f->type == HARK_JSON_T_LIST)
        decode_list(d, at, f, value, base);
    else if (f->type != HARK_JSON_T_OBJECT)
        hk_json_take(d, at, f, value, base);
    else if (value.kind != HK_JSON_OBJECT)
        hk_json_decoder_refuse_value(d, at, value, f, "type");
    else
        decode_object(d, at, f->table, value, base + f->offset);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* A fault of the whole call rather than of a value. */
static hark_err fail_whole(hark_json_errors *errors, hark_err err, const char *rule,
                           const char *text, size_t len, size_t offset, const char *what)
{
    hk_json_path root = {0};
    hk_json_report(errors, &root, rule, text, len, offset, what);
    return err;
}

static hark_err decode_root(hk_json_decoder *d, const hark_json_table *table, hk_json_slice root,
                            char *target)
{
    hk_json_path at = {0};
    hark_json_field whole = {.type = HARK_JSON_T_OBJECT, .table = table};
    char *copy = malloc(table->struct_size);
    if (copy == NULL)
        return fail_whole(d->errors, HARK_ENOMEM, "memory", d->text, d->len, 0, "out of memory");
    memcpy(copy, target, table->struct_size);
    decode_value(d, &at, &whole, root, copy);
    if (d->err != HARK_OK) {
        hk_json_release(table, copy, target);
    } else {
        hk_json_release(table, target, copy);
        memcpy(target, copy, table->struct_size);
    }
    free(copy);
    return d->err;
}

hark_err hark_json_decode(const hark_json_table *table, const char *text, size_t len,
                          void *ret_struct, hark_json_errors *errors)
{
    hark_errinfo info;
    hk_json_error fault;
    hk_json_slice root;
    if (errors != NULL)
        errors->count = errors->more = 0;
    hark_err err = hark_json_table_check(table, &info);
    if (err != HARK_OK)
        return fail_whole(errors, err, "table", "", 0, 0, info.text);
    if (ret_struct == NULL || (text == NULL && len > 0))
        return fail_whole(errors, HARK_EINVAL, "table", "", 0, 0, "no text or no struct");
    err = hk_json_check(text, len, NULL, &root, &fault);
    if (err != HARK_OK)
        return fail_whole(errors, err, "syntax", text, len, fault.offset, fault.reason);
    hk_json_decoder d = {
        .text = text, .len = len, .errors = errors, .memory = HARK_JSON_MAX_MEMORY};
    return decode_root(&d, table, root, ret_struct);
}
