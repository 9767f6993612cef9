/* Field tables themselves: that they fit their structs, and freeing what a struct owns by its
 * table. Reading and writing are in decode.c and encode.c. */
#include "json/table_i.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(hark_json_field) % 8 == 0, "fields in an array have no gaps");
_Static_assert(HK_JSON_FIELD_FIRST == offsetof(hark_json_field, max_len) + sizeof(size_t),
               "fields have grown at their end only");

const hark_json_field *hk_json_field_at(const hark_json_table *table, size_t i)
{
    const char *first = (const char *)table->fields;
    return (const hark_json_field *)(const void *)(first + i * table->field_size);
}

const char *hk_json_field_name(const hark_json_field *f)
{
    return f->as != NULL ? f->as : f->member;
}

hark_json_field hk_json_elem_field(const hark_json_field *list)
{
    hark_json_field elem = {0};
    memcpy(&elem, list, HK_JSON_FIELD_FIRST); /* there may be no more */
    elem.type = list->elem;
    elem.size = list->elem_size;
    elem.offset = 0;
    elem.has_size = 0;
    elem.min_len = elem.max_len = 0;
    elem.in_place = false;
    return elem;
}

/* ---- checking -------------------------------------------------------------------------------- */

/* NULL, or what is wrong with a value of this type and size. */
static const char *size_fault(hark_json_type type, size_t size, const hark_json_table *nested)
{
    switch (type) {
    case HARK_JSON_T_BOOL:
        return size == sizeof(bool) ? NULL : "a bool member must have the size of bool";
    case HARK_JSON_T_INT:
    case HARK_JSON_T_UINT:
        return size == 1 || size == 2 || size == 4 || size == 8
                   ? NULL
                   : "an integer member must have 1, 2, 4 or 8 bytes";
    case HARK_JSON_T_DOUBLE:
        return size == sizeof(double) ? NULL : "a double member must have the size of double";
    case HARK_JSON_T_STR:
    case HARK_JSON_T_RAW:
        return size == sizeof(char *) ? NULL : "a string member must have the size of a pointer";
    case HARK_JSON_T_BYTES:
        return size == sizeof(void *) ? NULL : "a bytes member must have the size of a pointer";
    case HARK_JSON_T_TIME:
        return size == sizeof(int64_t) ? NULL : "a time member must have the size of int64_t";
    case HARK_JSON_T_DECIMAL:
        return size == sizeof(int64_t) ? NULL : "a decimal member must have the size of int64_t";
    case HARK_JSON_T_CHARS:
        return size >= 2 ? NULL : "a char array must have room for a character and its end";
    case HARK_JSON_T_ENUM:
        return size == sizeof(int) ? NULL : "an enum member must have the size of int";
    case HARK_JSON_T_OBJECT:
        if (nested == NULL)
            return "a nested struct needs a table";
        return size == nested->struct_size ? NULL : "the nested table is of another struct";
    case HARK_JSON_T_LIST:
        return size > 0 ? NULL : "a list must have a size";
    }
    return "unknown type";
}

static const char *list_fault(const hark_json_field *f)
{
    if (f->elem == HARK_JSON_T_LIST || f->elem == HARK_JSON_T_RAW || f->elem == HARK_JSON_T_CHARS)
        return "lists of lists, raw values or char arrays are not supported";
    if (f->elem == HARK_JSON_T_TIME || f->elem == HARK_JSON_T_BYTES ||
        f->elem == HARK_JSON_T_DECIMAL)
        return "lists of times, bytes or decimals are not supported; make a list of structs";
    if (!f->in_place && f->size != sizeof(void *))
        return "a list must be a pointer or a fixed array";
    if (f->in_place && (f->elem_size == 0 || f->size % f->elem_size != 0))
        return "a fixed array must hold whole elements";
    return size_fault(f->elem, f->elem_size, f->table);
}

static bool beyond(size_t offset, size_t size, size_t end)
{
    return offset > end || size > end - offset;
}

static bool is_counted(const hark_json_field *f)
{
    return f->type == HARK_JSON_T_LIST || f->type == HARK_JSON_T_RAW ||
           f->type == HARK_JSON_T_BYTES;
}

static const char *place_fault(const hark_json_table *t, const hark_json_field *f)
{
    bool counted = is_counted(f);
    if (f->owner_size != t->struct_size)
        return "the field is of another struct";
    if (beyond(f->offset, f->size, t->struct_size))
        return "the member reaches beyond its struct";
    if (counted && f->count_size != sizeof(size_t))
        return "the count must be a size_t";
    if (counted && beyond(f->count_offset, f->count_size, t->struct_size))
        return "the count reaches beyond its struct";
    if (f->has_size != 0 && f->has_size != sizeof(bool))
        return "the has member must be a bool";
    if (f->has_size != 0 && beyond(f->has_offset, f->has_size, t->struct_size))
        return "the has member reaches beyond its struct";
    return NULL;
}

/* Bounds are kept as integer and as double; they differ when the constant does not fit the type. */
static bool bound_fits(hark_json_type type, int64_t whole, double real)
{
    if (type == HARK_JSON_T_INT || type == HARK_JSON_T_TIME || type == HARK_JSON_T_DECIMAL)
        return (double)whole == real;
    if (type == HARK_JSON_T_UINT)
        return (double)(uint64_t)whole == real;
    return type == HARK_JSON_T_DOUBLE;
}

/* Near the ends of 64 bits different integers are the same double. */
static bool bounds_cross(hark_json_type type, const hark_json_field *f)
{
    if (!f->has_min || !f->has_max)
        return false;
    if (type == HARK_JSON_T_DOUBLE)
        return f->min_real > f->max_real;
    if (type == HARK_JSON_T_UINT)
        return (uint64_t)f->min_int > (uint64_t)f->max_int;
    return f->min_int > f->max_int;
}

/* Options that the first version of hark_json_field did not have. */
static const char *newer_fault(const hark_json_table *t, const hark_json_field *f)
{
    bool decimal = f->type == HARK_JSON_T_DECIMAL;
    if (t->field_size < sizeof(hark_json_field))
        return decimal ? "decimals need the hark_json_field of this version" : NULL;
    if (decimal && (f->digits < 0 || f->digits > 18))
        return "the digits of a decimal must be from 0 to 18";
    if (!decimal && f->as_text)
        return "as_text is an option of decimals only";
    if ((!decimal && f->digits != 0) || f->spare[0] || f->spare[1] || f->spare[2])
        return "an unknown option is set";
    return NULL;
}

static const char *rule_fault(const hark_json_field *f)
{
    hark_json_type type = f->type == HARK_JSON_T_LIST ? f->elem : f->type;
    if (f->unused != 0)
        return "an unknown option is set";
    if (type == HARK_JSON_T_ENUM && (f->names == NULL || f->names->name == NULL))
        return "an enum needs names";
    if (f->has_min && !bound_fits(type, f->min_int, f->min_real))
        return "the lower bound does not fit the type";
    if (f->has_max && !bound_fits(type, f->max_int, f->max_real))
        return "the upper bound does not fit the type";
    if (bounds_cross(type, f))
        return "the lower bound is above the upper one";
    if (f->max_len != 0 && f->min_len > f->max_len)
        return "min_len is above max_len";
    return NULL;
}

static const char *field_fault(const hark_json_table *t, const hark_json_field *f)
{
    const char *fault = NULL;
    if (f->member == NULL || hk_utf8_valid(hk_json_field_name(f), strlen(hk_json_field_name(f))) !=
                                 strlen(hk_json_field_name(f)))
        return "the field needs a name in UTF-8";
    if (f->type == HARK_JSON_T_OBJECT && f->table == t)
        return "a struct cannot contain itself";
    fault = size_fault(f->type, f->size, f->table);
    if (fault == NULL && f->type == HARK_JSON_T_LIST)
        fault = list_fault(f);
    if (fault == NULL)
        fault = place_fault(t, f);
    if (fault == NULL)
        fault = newer_fault(t, f);
    return fault != NULL ? fault : rule_fault(f);
}

/* A table made with a larger hark_json_field than this library's may not use what is new. */
static bool tail_is_zero(const hark_json_table *t)
{
    for (size_t i = 0; i < t->n_fields; i++) {
        const char *f = (const char *)hk_json_field_at(t, i);
        for (size_t k = sizeof(hark_json_field); k < t->field_size; k++)
            if (f[k] != 0)
                return false;
    }
    return true;
}

static const char *table_fault(const hark_json_table *t)
{
    if (t->size < sizeof(hark_json_table))
        return "the table is too small to be one";
    if (t->name == NULL)
        return "the table has no name";
    if (t->fields == NULL || t->n_fields == 0 || t->n_fields > HARK_JSON_MAX_FIELDS)
        return "a table has 1 to 256 fields";
    if (t->field_size < HK_JSON_FIELD_FIRST || t->field_size % 8 != 0)
        return "its fields have the wrong size";
    if (t->flags & ~(uint64_t)HARK_JSON_REFUSE_UNKNOWN)
        return "an unknown flag is set";
    return tail_is_zero(t) ? NULL : "its fields use options of a newer version";
}

static bool tables_add(hk_json_tables *all, const hark_json_table *t)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i] == t)
            return true;
    if (all->count == HARK_JSON_MAX_TABLES)
        return false;
    all->list[all->count++] = t;
    return true;
}

static bool name_is_taken(const hark_json_table *t, size_t i)
{
    const char *name = hk_json_field_name(hk_json_field_at(t, i));
    for (size_t k = 0; k < i; k++) {
        const char *other = hk_json_field_name(hk_json_field_at(t, k));
        if (other[0] == name[0] && strcmp(other, name) == 0)
            return true;
    }
    return false;
}

static hark_err fields_check(const hark_json_table *t, hk_json_tables *all, hark_errinfo *ei)
{
    for (size_t i = 0; i < t->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        const char *fault = field_fault(t, f);
        if (fault == NULL && f->table != NULL && !tables_add(all, f->table))
            fault = "too many nested tables";
        if (fault == NULL && name_is_taken(t, i))
            fault = "another field has this name";
        if (fault != NULL)
            return hk_fail(ei, HARK_EINVAL, "table %s, field %s: %s", t->name,
                           f->member != NULL ? f->member : "?", fault);
    }
    return HARK_OK;
}

hark_err hk_json_tables_find(const hark_json_table *table, hk_json_tables *ret, hark_errinfo *ei)
{
    ret->count = 0;
    if (table == NULL)
        return hk_fail(ei, HARK_EINVAL, "no table");
    tables_add(ret, table);
    for (size_t i = 0; i < ret->count; i++) {
        const hark_json_table *t = ret->list[i];
        const char *fault = table_fault(t);
        if (fault != NULL)
            return hk_fail(ei, HARK_EINVAL, "table %s: %s", t->name != NULL ? t->name : "?", fault);
        hark_err err = fields_check(t, ret, ei);
        if (err != HARK_OK)
            return err;
    }
    return HARK_OK;
}

hark_err hark_json_table_check(const hark_json_table *table, hark_errinfo *ei)
{
    hk_json_tables all;
    return hk_json_tables_find(table, &all, ei);
}

/* ---- freeing --------------------------------------------------------------------------------- */

static void release_pointer(char **victim, char **keeper)
{
    if (keeper != NULL && *keeper == *victim)
        return;
    free(*victim);
    *victim = NULL;
}

static void release_elems(const hark_json_field *list, char *victim, char *keeper, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *v = victim + i * list->elem_size;
        char *k = keeper != NULL ? keeper + i * list->elem_size : NULL;
        if (list->elem == HARK_JSON_T_STR)
            release_pointer((char **)(void *)v, (char **)(void *)k);
        else if (list->elem == HARK_JSON_T_OBJECT)
            hk_json_release(list->table, v, k);
    }
}

static void release_list(const hark_json_field *f, char *victim, char *keeper)
{
    char **v = hk_json_pointer(f, victim);
    if (f->in_place) { /* the slots that are not in use are empty */
        release_elems(f, victim + f->offset, keeper != NULL ? keeper + f->offset : NULL,
                      f->size / f->elem_size);
        return;
    }
    if (keeper != NULL && *v == *hk_json_pointer(f, keeper))
        return;
    if (*v != NULL)
        release_elems(f, *v, NULL, *hk_json_counter(f, victim));
    release_pointer(v, NULL);
}

void hk_json_release(const hark_json_table *table, char *victim, char *keeper)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(table, i);
        char *k = keeper != NULL ? keeper + f->offset : NULL;
        if (f->type == HARK_JSON_T_STR || f->type == HARK_JSON_T_RAW ||
            f->type == HARK_JSON_T_BYTES)
            release_pointer(hk_json_pointer(f, victim), (char **)(void *)k);
        else if (f->type == HARK_JSON_T_OBJECT)
            hk_json_release(f->table, victim + f->offset, k);
        else if (f->type == HARK_JSON_T_LIST)
            release_list(f, victim, keeper);
    }
}

/* Counts and has flags of what was owned go to 0; nested structs in place, too. */
static void clear_counts(const hark_json_table *table, char *base)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        const hark_json_field *f = hk_json_field_at(table, i);
        bool counted = is_counted(f);
        bool *has = hk_json_has(f, base);
        if (counted)
            *hk_json_counter(f, base) = 0;
        if ((counted || f->type == HARK_JSON_T_STR) && has != NULL)
            *has = false;
        if (f->type == HARK_JSON_T_OBJECT)
            clear_counts(f->table, base + f->offset);
    }
}

void hark_json_free(const hark_json_table *table, void *from)
{
    if (from == NULL || hark_json_table_check(table, NULL) != HARK_OK)
        return;
    hk_json_release(table, from, NULL);
    clear_counts(table, from);
}
