/* Messages of Server-Sent Events (WHATWG HTML): what a program puts into one, and how it is written.
 * Pure. Whatever the text holds, it cannot become a field of its own: a name has no control
 * characters, data is split at every end of line, ids are ours. */
#include "http/stream_i.h"

#include <stdlib.h>
#include <string.h>

void hk_bytes_clear(hk_buf *b)
{
    if (b->cap > HK_BODY_KEEP)
        hk_buf_free(b);
    else
        hk_buf_clear(b);
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
}

hark_err hark_frame_name(hark_frame *f, const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (len && (has_control(name) || hk_utf8_valid(name, len) != len))
        return HARK_EINVAL;
    hk_buf_clear(&f->name);
    if (len)
        hk_buf_add(&f->name, name, len);
    return f->name.failed ? HARK_ENOMEM : HARK_OK;
}

hark_err hark_frame_data(hark_frame *f, const void *text, size_t len)
{
    if (len && hk_utf8_valid(text, len) != len)
        return HARK_EINVAL;
    hk_buf_clear(&f->text);
    if (len)
        hk_buf_add(&f->text, text, len);
    f->has_text = !f->text.failed;
    return f->text.failed ? HARK_ENOMEM : HARK_OK;
}

hark_err hark_frame_json(hark_frame *f, const hark_json_table *table, const void *from)
{
    char *text;
    size_t len;
    hark_err err = hark_json_encode(table, from, &text, &len, NULL);
    if (err)
        return err;
    err = hark_frame_data(f, text, len);
    free(text);
    return err;
}

void hk_frame_clear(hark_frame *f)
{
    hk_bytes_clear(&f->name);
    hk_bytes_clear(&f->text);
    f->has_text = false;
}

void hk_frame_free(hark_frame *f)
{
    hk_buf_free(&f->name);
    hk_buf_free(&f->text);
}

/* The next one from here on; `end` when there is none. */
static const char *find(const char *s, const char *end, char c)
{
    const char *found = s < end ? memchr(s, c, (size_t)(end - s)) : NULL;
    return found ? found : end;
}

/* A line ends at CR, LF, or both. What was found is looked for again only when it has been passed, so
 * that all lines together cost one pass. */
static void write_data(hk_buf *b, const char *s, size_t len)
{
    const char *end = s + len, *cr = find(s, end, '\r'), *lf = find(s, end, '\n');
    for (;;) {
        const char *at = cr < lf ? cr : lf;
        hk_buf_add(b, "data: ", 6);
        hk_buf_add(b, s, (size_t)(at - s));
        hk_buf_addc(b, '\n');
        if (at == end)
            return;
        s = at + (at == cr && lf == cr + 1 && lf < end ? 2 : 1);
        if (cr < s)
            cr = find(s, end, '\r');
        if (lf < s)
            lf = find(s, end, '\n');
    }
}

void hk_frame_write(hk_buf *b, const hark_frame *f, const char *id)
{
    if (id)
        hk_buf_addf(b, "id: %s\n", id);
    if (f->name.len) {
        hk_buf_add(b, "event: ", 7);
        hk_buf_add(b, f->name.data, f->name.len);
        hk_buf_addc(b, '\n');
    }
    write_data(b, f->text.data, f->text.len);
    hk_buf_addc(b, '\n');
}

void hk_gap_write(hk_buf *b, uint64_t from, uint64_t to, const char *reason, const char *id)
{
    hk_buf_addf(b, "id: %s\nevent: gap\ndata: {", id);
    if (to)
        hk_buf_addf(b, "\"from\":%llu,\"to\":%llu,", (unsigned long long)from,
                    (unsigned long long)to);
    hk_buf_addf(b, "\"reason\":\"%s\"}\n\n", reason);
}

/* ---- blocks ---- */

/* About what an event keeps in memory. */
static size_t event_cost(const hark_event *e)
{
    size_t len = 0;
    hark_ext x;
    (void)hark_event_data(e, &len);
    for (size_t i = 0; hark_event_extension(e, i, &x); i++)
        len += strlen(x.name) + strlen(x.value);
    return len + 512;
}

hk_block *hk_block_new(const hk_buf *bytes, uint64_t seq, const hark_event *e)
{
    hk_block *b = bytes->failed ? NULL : malloc(sizeof *b + bytes->len);
    if (!b)
        return NULL;
    hk_ref_init(&b->refs, 1);
    b->seq = seq;
    b->event = hark_event_ref(e);
    b->cost = sizeof *b + bytes->len + (e ? event_cost(e) : 0);
    b->len = bytes->len;
    if (bytes->len)
        memcpy(b->bytes, bytes->data, bytes->len);
    return b;
}

hk_block *hk_block_ref(hk_block *b)
{
    hk_ref_get(&b->refs, 1);
    return b;
}

void hk_block_put(hk_block *b)
{
    if (!b || !hk_ref_put(&b->refs))
        return;
    hark_event_unref(b->event);
    free(b);
}
