/* append.c: events into the group. Their places, and what of a unit repeats or conflicts, is known when the script has
 * judged them: with the commit where the caller waits for that (`late`), at once otherwise. Units that come one after
 * another, as most do, are one operation: the server's time goes by what it is told, and by what it answers. */
#include "store/redis/stream_i.h"

#include <string.h>

/* The script is carried out alone: a larger unit would keep everybody else waiting for too long, and the server's limit
 * for one argument is 512 MiB. */
#define DATA_MOST ((size_t)500 << 20)

void hk_rs_name(const hark_event *e, hk_buf *ret)
{
    hk_buf_adds(ret, hark_event_source(e));
    hk_buf_addc(ret, '\0');
    hk_buf_adds(ret, hark_event_id(e));
}

/* "VERSION:TYPE", as events are counted. */
static void add_kind(const hark_event *e, hk_buf *ret)
{
    char version[21];
    hk_buf_add(ret, version, hk_decimal(hark_event_dataversion(e), version));
    hk_buf_addc(ret, ':');
    hk_buf_add(ret, hark_event_type(e), hk_event_type_len(e));
}

/* ---- what is asked ----------------------------------------------------------------------------- */

static hark_err check(const hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < n && !err; i++) {
        size_t len;
        (void)hark_event_data(items[i].event, &len);
        if (len > DATA_MOST)
            err =
                hk_fail(ei, HARK_ETOOBIG,
                        "an event with %zu bytes of data; Redis takes at most %zu", len, DATA_MOST);
        else if (items[i].expected)
            err = hk_expected_check(&items[i], ei);
    }
    return err;
}

/* See log.lua. */
static hark_err add_item(hk_rs_args *to, const hark_store_append *a, hk_buf *b, hark_errinfo *ei)
{
    const char *subject = hark_event_subject(a->event);
    char marks[2 + sizeof a->digest] = {a->fresh_id       ? 'f'
                                        : a->first_stands ? 's'
                                                          : '-',
                                        subject ? '+' : '-'};
    memcpy(marks + 2, a->digest, sizeof a->digest);
    hk_buf_clear(b);
    hk_rs_name(a->event, b);
    hk_rs_arg_buf(to, b);
    hk_rs_arg(to, marks, sizeof marks);
    hk_buf_clear(b);
    add_kind(a->event, b);
    hk_rs_arg_buf(to, b);
    hk_buf_clear(b);
    hark_err err = hk_rs_body(a->event, b, ei);
    hk_rs_arg_buf(to, b);
    if (subject) {
        hk_rs_arg_int(to, a->expected);
        hk_rs_arg_str(to, subject);
    }
    return err;
}

static hark_err add_items(hk_rs_group *g, const hark_store_append *items, size_t n,
                          hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    hk_rs_arg_int(&g->args, (int64_t)n);
    for (size_t i = 0; i < n && !err; i++)
        err = add_item(&g->args, &items[i], &g->part, ei);
    return err;
}

/* ---- what is answered -------------------------------------------------------------------------- */

/* How far the answer to an operation is read. */
typedef struct placing {
    uint64_t first, next; /* sequences of what is new */
    int64_t recorded_ns;
    hk_wire others; /* units that are told of: the next one's number and what there is of it */
    uint64_t other;
    hk_wire its;
} placing;

static void next_other(placing *p)
{
    p->other = UINT64_MAX;
    if (!hk_wire_more(&p->others))
        return;
    p->other = hk_wire_u64(&p->others);
    p->its = hk_wire_of(hk_wire_next(&p->others));
}

static hark_err begin_placing(const hark_store *s, hk_rs_reply *r, placing *ret, hark_errinfo *ei)
{
    uint64_t us;
    *ret = (placing){.first = hk_wire_u64(&r->is)};
    ret->next = ret->first;
    ret->others = hk_wire_of(hk_wire_next(&r->is));
    if (r->is.bad || r->code != HK_RS_OK || !hk_parse_u64(r->more.s, r->more.len, &us))
        return hk_rs_strange(s, ei);
    ret->recorded_ns = (int64_t)us * 1000;
    next_other(ret);
    return HARK_OK;
}

static void place(hark_store_append *a, const placing *p, uint64_t seq, bool repeated,
                  int64_t version)
{
    a->ret_sequence = seq;
    a->ret_duplicate = repeated;
    a->ret_subject_version = version;
    if (repeated)
        return;
    hark_event_stamp(a->event, seq, p->recorded_ns);
    hark_event_stamp_subject(a->event, version);
}

static void place_told(placing *p, hk_rs_unit *u)
{
    for (size_t i = 0; i < u->n; i++) {
        uint64_t seq = hk_wire_u64(&p->its);
        bool repeated = hk_wire_int(&p->its) != 0;
        int64_t version = hk_wire_int(&p->its);
        if (!repeated)
            p->next = seq + 1;
        if (u->items)
            place(&u->items[i], p, seq, repeated, version);
    }
}

static hark_err refused(const hark_store *s, placing *p, int64_t code, hk_rs_unit *u)
{
    size_t i = (size_t)hk_wire_u64(&p->its);
    if (i >= u->n)
        return hk_rs_strange(s, u->ei);
    hark_store_append *a = &u->items[i];
    if (code == HK_RS_ECONFLICT) {
        a->ret_duplicate = 1;
        a->ret_sequence = hk_wire_u64(&p->its);
        return hk_repeat_conflict(a, u->ei);
    }
    if (code == HK_RS_EVERSION)
        return hk_expected_other(a, hk_wire_int(&p->its), u->ei);
    if (code == HK_RS_ENOTFOUND)
        return hk_fail(u->ei, HARK_ENOTFOUND,
                       "the schedule of the event is not there any more: it was published or "
                       "cancelled by another process");
    return hk_rs_strange(s, u->ei);
}

/* What became of the unit: its verdict, or HARK_ECORRUPT. */
static hark_err answer(const hark_store *s, placing *p, size_t number, hk_rs_unit *u)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; u->items && i < u->n; i++) {
        u->items[i].ret_sequence = 0;
        u->items[i].ret_duplicate = 0;
        u->items[i].ret_subject_version = 0;
    }
    if (number != p->other) {
        for (size_t i = 0; u->items && i < u->n; i++)
            place(&u->items[i], p, p->next + i, false, 0);
        p->next += u->n;
        return HARK_OK;
    }
    int64_t code = hk_wire_int(&p->its);
    if (code == HK_RS_OK)
        place_told(p, u);
    else if (u->items)
        err = refused(s, p, code, u);
    if (p->its.bad)
        err = hk_rs_strange(s, u->ei);
    next_other(p);
    return err;
}

static hark_err told(hark_store *s, hk_rs_op *op, hk_rs_reply *r, hark_errinfo *ei)
{
    placing p;
    hark_err err = begin_placing(s, r, &p, ei);
    for (size_t i = 0; i < op->n_units && !err; i++) {
        hk_rs_unit *u = &s->group.units[op->unit + i];
        hark_err verdict = answer(s, &p, i, u);
        if (u->items)
            *u->items->late = verdict;
        if (verdict == HARK_ECORRUPT)
            err = hk_rs_strange(s, ei);
    }
    if (!err && p.first)
        hk_rs_reached(s, p.next - 1);
    return err;
}

/* ---- units ------------------------------------------------------------------------------------- */

static hk_rs_unit *unit_new(hk_rs_group *g, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hk_rs_unit *units = hk_array_room(g->units, g->n_units, &g->cap_units, 64, sizeof *units);
    if (!units)
        return NULL;
    g->units = units;
    units[g->n_units] = (hk_rs_unit){.items = items, .n = n, .ei = ei};
    return &units[g->n_units++];
}

static hark_err append_op(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    hk_rs_op *op = hk_rs_op_new(s, "append", ei);
    if (!op)
        return HARK_ENOMEM;
    op->told = told;
    op->unit = g->n_units;
    if (!unit_new(g, items, n, ei)) {
        (void)hk_rs_op_wait(s, NULL);
        hk_rs_op_drop(s);
        return hk_rs_no_memory(s, ei);
    }
    op->n_units = 1;
    return add_items(g, items, n, ei);
}

/* Behind others that wait for the commit it is one more of theirs. */
static bool continues(const hk_rs_group *g)
{
    const hk_rs_op *last = g->n ? &g->ops[g->n - 1] : NULL;
    return last && last->n_units && g->units[last->unit].items;
}

static hark_err extend_op(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    hk_rs_op *op = &g->ops[g->n - 1];
    size_t bytes = g->args.bytes.len, args = g->args.n;
    if (!unit_new(g, items, n, ei))
        return hk_rs_no_memory(s, ei);
    hark_err err = add_items(g, items, n, ei);
    if (!err && g->args.bytes.failed)
        err = hk_rs_no_memory(s, ei);
    if (err) {
        g->args.bytes.len = bytes;
        g->args.n = args;
        g->n_units--;
        return err;
    }
    op->n += g->args.n - args;
    op->n_units++;
    return HARK_OK;
}

static hark_err append_late(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    if (continues(&s->group))
        return extend_op(s, items, n, ei);
    size_t before = s->group.n;
    hark_err err = append_op(s, items, n, ei);
    if (s->group.n == before)
        return err;
    hark_err ended = hk_rs_op_wait(s, err ? NULL : ei);
    if (err || ended)
        hk_rs_op_drop(s);
    return err ? err : ended;
}

static hark_err append_now(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    placing p;
    size_t before = s->group.n;
    hark_err err = append_op(s, items, n, ei);
    if (err) {
        if (s->group.n > before) {
            (void)hk_rs_op_wait(s, NULL);
            hk_rs_op_drop(s);
        }
        return err;
    }
    err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    hk_rs_unit *u = &s->group.units[s->group.n_units - 1];
    err = begin_placing(s, &r, &p, ei);
    if (!err)
        err = answer(s, &p, 0, u);
    u->items = NULL;
    if (err)
        hk_rs_op_drop(s);
    freeReplyObject(raw);
    return err;
}

hark_err hk_rs_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hark_err err = check(items, n, ei);
    if (err || n == 0)
        return err;
    return items->late ? append_late(s, items, n, ei) : append_now(s, items, n, ei);
}
