/* Describes a field table as a JSON Schema, draft 2020-12 (Core and Validation, 2022): the rules
 * that decode.c keeps, as far as a schema can say them; <hark/json.h> names the rest. Patterns are
 * of the sort that all validators know: classes, groups, quantifiers, anchors. It goes through a
 * list of the tables rather than from one into the next, so that a table may name itself. */
#include "json/table_i.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DRAFT "https://json-schema.org/draft/2020-12/schema"

typedef struct schema {
    hk_buf out;
    hk_json_tables tables;
    char keys[HARK_JSON_MAX_TABLES][80]; /* names of the tables under "$defs" */
} schema;

/* ---- names of tables ------------------------------------------------------------------------- */

static bool key_is_taken(const schema *s, size_t n, const char *key)
{
    for (size_t i = 1; i < n; i++)
        if (strcmp(s->keys[i], key) == 0)
            return true;
    return false;
}

/* The table's name in letters that a JSON pointer and a URI need not escape, and, when another
 * table has it, a number. */
static void name_table(schema *s, size_t n)
{
    char base[64];
    size_t len = 0;
    for (const char *p = s->tables.list[n]->name; *p != '\0' && len < sizeof(base) - 1; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
                     (*p >= '0' && *p <= '9');
        base[len++] = plain ? *p : '_';
    }
    base[len] = '\0';
    snprintf(s->keys[n], sizeof(s->keys[n]), "%s", base);
    for (unsigned i = 2; key_is_taken(s, n, s->keys[n]); i++)
        snprintf(s->keys[n], sizeof(s->keys[n]), "%s_%u", base, i);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What goes before the next member or element: nothing after an opening bracket. */
static void separate(hk_buf *b)
{
    char last = b->len > 0 ? b->data[b->len - 1] : '{';
    if (last != '{' && last != '[' && last != ':')
        hk_buf_addc(b, ',');
}

static void add_name(hk_buf *b, const char *name)
{
    separate(b);
    hk_buf_add_json_string(b, name, strlen(name));
    hk_buf_addc(b, ':');
}

static void add_string(hk_buf *b, const char *text)
{
    separate(b);
    hk_buf_add_json_string(b, text, strlen(text));
}

static void add_text(hk_buf *b, const char *name, const char *text)
{
    add_name(b, name);
    add_string(b, text);
}

static void add_count(hk_buf *b, const char *name, size_t n)
{
    add_name(b, name);
    hk_buf_addf(b, "%zu", n);
}

static void add_type(hk_buf *b, const char *type, bool null)
{
    add_name(b, "type");
    if (null)
        hk_buf_addf(b, "[\"%s\",\"null\"]", type);
    else
        hk_buf_addf(b, "\"%s\"", type);
}

/* ---- single values --------------------------------------------------------------------------- */

static void add_integer(hk_buf *b, const hark_json_field *f, bool null)
{
    int64_t lo, hi;
    uint64_t ulo, uhi;
    add_type(b, "integer", null);
    if (f->type == HARK_JSON_T_INT) {
        hk_json_int_bounds(f, &lo, &hi);
        hk_buf_addf(b, ",\"minimum\":%lld,\"maximum\":%lld", (long long)lo, (long long)hi);
    } else {
        hk_json_uint_bounds(f, &ulo, &uhi);
        hk_buf_addf(b, ",\"minimum\":%llu,\"maximum\":%llu", (unsigned long long)ulo,
                    (unsigned long long)uhi);
    }
}

static void add_double(hk_buf *b, const hark_json_field *f, bool null)
{
    add_type(b, "number", null);
    if (f->has_min && isfinite(f->min_real)) {
        add_name(b, "minimum");
        (void)hk_json_add_double(b, f->min_real);
    }
    if (f->has_max && isfinite(f->max_real)) {
        add_name(b, "maximum");
        (void)hk_json_add_double(b, f->max_real);
    }
}

static void add_chars(hk_buf *b, const hark_json_field *f, bool null)
{
    size_t most = f->max_len != 0 ? f->max_len : SIZE_MAX;
    if (f->type == HARK_JSON_T_CHARS && f->size - 1 < most)
        most = f->size - 1;
    add_type(b, "string", null);
    if (f->min_len > 0)
        add_count(b, "minLength", f->min_len);
    if (most != SIZE_MAX)
        add_count(b, "maxLength", most);
}

static bool name_was_there(const hark_json_name *first, const hark_json_name *n)
{
    for (const hark_json_name *p = first; p != n; p++)
        if (strcmp(p->name, n->name) == 0)
            return true;
    return false;
}

static void add_enum(hk_buf *b, const hark_json_field *f, bool null)
{
    add_type(b, "string", null);
    add_name(b, "enum");
    hk_buf_addc(b, '[');
    for (const hark_json_name *n = f->names; n->name != NULL; n++)
        if (!name_was_there(f->names, n))
            add_string(b, n->name);
    hk_buf_adds(b, null ? ",null]" : "]");
}

static void add_time(hk_buf *b, bool null)
{
    add_type(b, "string", null);
    add_text(b, "format", "date-time");
    add_text(b, "pattern",
             "^(167[789]|16[89][0-9]|1[789][0-9]{2}|2[01][0-9]{2}|22[0-5][0-9]|226[012])"
             "-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
             "[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)([.][0-9]{1,9})?"
             "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$");
}

static void add_bytes(hk_buf *b, const hark_json_field *f, bool null)
{
    add_type(b, "string", null);
    add_text(b, "contentEncoding", "base64");
    add_text(b, "pattern",
             "^([A-Za-z0-9+/]{4})*"
             "([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$");
    if (f->min_len > 0 && f->min_len < SIZE_MAX / 8)
        add_count(b, "minLength", (f->min_len + 2) / 3 * 4);
    if (f->max_len > 0 && f->max_len < SIZE_MAX / 8)
        add_count(b, "maxLength", (f->max_len + 2) / 3 * 4);
}

/* How JSON writes a number, with as many decimals as count unless there is an exponent. */
static void add_decimal_pattern(hk_buf *b, int digits)
{
    add_name(b, "pattern");
    hk_buf_adds(b, "\"^-?(0|[1-9][0-9]*)(([.]");
    if (digits > 0)
        hk_buf_addf(b, "[0-9]{1,%d}0*", digits);
    else
        hk_buf_adds(b, "0+");
    hk_buf_adds(b, ")?|([.][0-9]+)?[eE][+-]?[0-9]+)$\"");
}

static void add_decimal(hk_buf *b, const hark_json_field *f, bool null)
{
    int64_t lo, hi;
    if (f->as_text) {
        add_type(b, "string", null);
        add_decimal_pattern(b, f->digits);
        return;
    }
    hk_json_int_bounds(f, &lo, &hi);
    add_type(b, f->digits == 0 ? "integer" : "number", null);
    add_name(b, "minimum");
    hk_json_add_decimal(b, lo, f->digits);
    add_name(b, "maximum");
    hk_json_add_decimal(b, hi, f->digits);
}

/* ---- fields and tables ----------------------------------------------------------------------- */

static void add_ref(schema *s, const hark_json_table *t)
{
    size_t i = 0;
    while (i < s->tables.count && s->tables.list[i] != t)
        i++;
    add_name(&s->out, "$ref");
    if (i == 0)
        hk_buf_adds(&s->out, "\"#\"");
    else
        hk_buf_addf(&s->out, "\"#/$defs/%s\"", s->keys[i]);
}

static void add_object(schema *s, const hark_json_field *f, bool null)
{
    if (!null) {
        add_ref(s, f->table);
        return;
    }
    add_name(&s->out, "anyOf");
    hk_buf_adds(&s->out, "[{");
    add_ref(s, f->table);
    hk_buf_adds(&s->out, "},{\"type\":\"null\"}]");
}

static void add_value(schema *s, const hark_json_field *f, bool null);

static void add_list(schema *s, const hark_json_field *f, bool null)
{
    hark_json_field elem = hk_json_elem_field(f);
    size_t most = hk_json_list_room(f);
    add_type(&s->out, "array", null);
    add_name(&s->out, "items");
    hk_buf_addc(&s->out, '{');
    add_value(s, &elem, false);
    hk_buf_addc(&s->out, '}');
    if (f->min_len > 0)
        add_count(&s->out, "minItems", f->min_len);
    if (most != SIZE_MAX)
        add_count(&s->out, "maxItems", most);
}

static void add_value(schema *s, const hark_json_field *f, bool null)
{
    hk_buf *b = &s->out;
    switch (f->type) {
    case HARK_JSON_T_BOOL:
        add_type(b, "boolean", null);
        break;
    case HARK_JSON_T_INT:
    case HARK_JSON_T_UINT:
        add_integer(b, f, null);
        break;
    case HARK_JSON_T_DOUBLE:
        add_double(b, f, null);
        break;
    case HARK_JSON_T_STR:
    case HARK_JSON_T_CHARS:
        add_chars(b, f, null);
        break;
    case HARK_JSON_T_ENUM:
        add_enum(b, f, null);
        break;
    case HARK_JSON_T_TIME:
        add_time(b, null);
        break;
    case HARK_JSON_T_BYTES:
        add_bytes(b, f, null);
        break;
    case HARK_JSON_T_DECIMAL:
        add_decimal(b, f, null);
        break;
    case HARK_JSON_T_RAW: /* whatever it is */
        break;
    case HARK_JSON_T_OBJECT:
        add_object(s, f, null);
        break;
    case HARK_JSON_T_LIST:
        add_list(s, f, null);
        break;
    }
}

static void add_required(hk_buf *b, const hark_json_table *t)
{
    bool any = false;
    for (size_t i = 0; i < t->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        if (!f->required)
            continue;
        if (!any) {
            add_name(b, "required");
            hk_buf_addc(b, '[');
        }
        any = true;
        add_string(b, hk_json_field_name(f));
    }
    if (any)
        hk_buf_addc(b, ']');
}

static void add_table(schema *s, const hark_json_table *t)
{
    hk_buf *b = &s->out;
    add_text(b, "title", t->name);
    add_type(b, "object", false);
    add_name(b, "properties");
    hk_buf_addc(b, '{');
    for (size_t i = 0; i < t->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        add_name(b, hk_json_field_name(f));
        hk_buf_addc(b, '{');
        if (f->doc != NULL)
            add_text(b, "description", f->doc);
        add_value(s, f, !f->required);
        hk_buf_addc(b, '}');
    }
    hk_buf_addc(b, '}');
    add_required(b, t);
    if (t->flags & HARK_JSON_REFUSE_UNKNOWN) {
        add_name(b, "additionalProperties");
        hk_buf_adds(b, "false");
    }
}

static void add_tables(schema *s)
{
    hk_buf *b = &s->out;
    hk_buf_adds(b, "{");
    add_text(b, "$schema", DRAFT);
    add_table(s, s->tables.list[0]);
    if (s->tables.count > 1) {
        add_name(b, "$defs");
        hk_buf_addc(b, '{');
        for (size_t i = 1; i < s->tables.count; i++) {
            add_name(b, s->keys[i]);
            hk_buf_addc(b, '{');
            add_table(s, s->tables.list[i]);
            hk_buf_addc(b, '}');
        }
        hk_buf_addc(b, '}');
    }
    hk_buf_addc(b, '}');
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool is_text(const char *s)
{
    return hk_utf8_valid(s, strlen(s)) == strlen(s);
}

/* Texts that decoding never shows to anybody, and the table check passes. */
static const char *text_fault(const hark_json_field *f)
{
    bool names =
        f->type == HARK_JSON_T_ENUM || (f->type == HARK_JSON_T_LIST && f->elem == HARK_JSON_T_ENUM);
    if (f->doc != NULL && !is_text(f->doc))
        return "its .doc is not UTF-8";
    for (const hark_json_name *n = f->names; names && n->name != NULL; n++)
        if (!is_text(n->name))
            return "a name of its enum is not UTF-8";
    return NULL;
}

static hark_err texts_check(const hark_json_table *t, hark_errinfo *ei)
{
    if (!is_text(t->name))
        return hk_fail(ei, HARK_EINVAL, "the name of a table is not UTF-8");
    for (size_t i = 0; i < t->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        const char *fault = text_fault(f);
        if (fault != NULL)
            return hk_fail(ei, HARK_EINVAL, "table %s, field %s: %s", t->name, f->member, fault);
    }
    return HARK_OK;
}

hark_err hark_json_schema(const hark_json_table *table, char **ret, hark_errinfo *ei)
{
    schema s;
    s.out = (hk_buf){0};
    hark_err err = hk_json_tables_find(table, &s.tables, ei);
    if (err != HARK_OK)
        return err;
    if (ret == NULL)
        return hk_fail(ei, HARK_EINVAL, "no place for the text");
    for (size_t i = 0; i < s.tables.count; i++) {
        err = texts_check(s.tables.list[i], ei);
        if (err != HARK_OK)
            return err;
        name_table(&s, i);
    }
    add_tables(&s);
    if (s.out.failed) {
        hk_buf_free(&s.out);
        return hk_fail(ei, HARK_ENOMEM, "out of memory");
    }
    *ret = hk_buf_steal(&s.out, NULL);
    return HARK_OK;
}
