/* Says where and what: JSON paths, cut text, and the list of faults of <hark/json.h>. */
#include "json/table_i.h"

#include <stdio.h>
#include <string.h>

/* ---- lines ----------------------------------------------------------------------------------- */

void hk_json_line_init(hk_json_line *line, char *text, size_t size)
{
    *line = (hk_json_line){.text = text, .size = size};
    text[0] = '\0';
}

void hk_json_line_addv(hk_json_line *line, const char *fmt, va_list ap)
{
    size_t left = line->size - line->len;
    if (line->cut)
        return;
    int n = vsnprintf(line->text + line->len, left, fmt, ap);
    if (n < 0 || (size_t)n >= left) {
        line->cut = true;
        line->len = line->size - 1;
    } else {
        line->len += (size_t)n;
    }
}

void hk_json_line_add(hk_json_line *line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    hk_json_line_addv(line, fmt, ap);
    va_end(ap);
}

void hk_json_line_end(hk_json_line *line)
{
    static const char dots[] = "...";
    if (!line->cut || line->size < sizeof(dots))
        return;
    size_t keep = hk_utf8_valid(line->text, line->size - sizeof(dots));
    memcpy(line->text + keep, dots, sizeof(dots));
    line->len = keep + sizeof(dots) - 1;
}

/* ---- paths ----------------------------------------------------------------------------------- */

hk_json_path hk_json_path_name(const hk_json_path *up, const char *name, size_t len)
{
    return (hk_json_path){.up = up, .name = name, .name_len = len, .depth = up->depth + 1};
}

hk_json_path hk_json_path_index(const hk_json_path *up, size_t index)
{
    return (hk_json_path){.up = up, .index = index, .depth = up->depth + 1};
}

static bool plain_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return len > 0;
}

static void step_print(const hk_json_path *step, hk_json_line *line)
{
    int len = step->name_len > 1000 ? 1000 : (int)step->name_len;
    if (step->up == NULL)
        hk_json_line_add(line, "$");
    else if (step->name == NULL)
        hk_json_line_add(line, "[%zu]", step->index);
    else if (plain_name(step->name, step->name_len))
        hk_json_line_add(line, ".%.*s", len, step->name);
    else
        hk_json_line_add(line, "[\"%.*s\"]", len, step->name);
}

void hk_json_path_print(const hk_json_path *path, char *ret, size_t size)
{
    const hk_json_path *steps[HARK_JSON_MAX_DEPTH + 2];
    hk_json_line line;
    size_t n = 0;
    for (; path != NULL && n < HK_COUNTOF(steps); path = path->up)
        steps[n++] = path;
    hk_json_line_init(&line, ret, size);
    while (n > 0)
        step_print(steps[--n], &line);
    hk_json_line_end(&line);
}

/* ---- the list -------------------------------------------------------------------------------- */

void hk_json_report(hark_json_errors *errors, const hk_json_path *path, const char *rule,
                    const char *text, size_t len, size_t offset, const char *what)
{
    hk_json_line line;
    size_t row, column;
    if (errors == NULL)
        return;
    if (errors->count == HARK_JSON_MAX_ERRORS) {
        errors->more++;
        return;
    }
    hark_json_error *e = &errors->list[errors->count++];
    memset(e, 0, sizeof(*e));
    hk_json_path_print(path, e->path, sizeof(e->path));
    hk_json_line_init(&line, e->rule, sizeof(e->rule));
    hk_json_line_add(&line, "%s", rule);
    hk_json_line_init(&line, e->text, sizeof(e->text));
    hk_json_line_add(&line, "%s", what);
    hk_json_line_end(&line);
    hk_json_place(text, len, offset, &row, &column);
    e->offset = offset;
    e->line = row;
    e->column = column;
}

size_t hark_json_errors_format(const hark_json_errors *errors, char *buf, size_t size)
{
    size_t whole = 0;
    char line[sizeof(hark_json_error) + 96];
    for (size_t i = 0; i <= errors->count; i++) {
        const hark_json_error *e = &errors->list[i];
        int n = 0;
        if (i < errors->count)
            n = snprintf(line, sizeof(line), "%s %s (line %llu, column %llu)\n", e->path, e->text,
                         (unsigned long long)e->line, (unsigned long long)e->column);
        else if (errors->more > 0)
            n = snprintf(line, sizeof(line), "and %zu more\n", errors->more);
        for (int k = 0; k < n; k++, whole++)
            if (whole + 1 < size)
                buf[whole] = line[k];
    }
    if (size > 0)
        buf[whole < size ? whole : size - 1] = '\0';
    return whole;
}
