/* Replays that are cancelled, killed -9 and gone on with: kill_replay_victim replays a log through a
 * handler of its own, and then by the reset of a consumer, into a projection. When it is through, that
 * projection, the one that a consumer has kept all the while and one made here of the log itself are
 * equal; the figures of each replay add up; no more came again than is promised; and the consumer
 * went on beside it. */
#include "lines.h"
#include "projection.h"

#include <stdlib.h>

enum { BATCH = 500, AT_MOST_AGAIN = 1000, LATEST_KILL_MS = 20, LOG_MAX_MS = 600000 };

typedef struct campaign {
    const char *victim;
    char url[128];
    uint64_t random, events;
    kit_proc p;
    char line[LINE_MAX_BYTES];
} campaign;

/* What a line of the victim says of a replay. */
typedef struct info {
    char id[40];
    int64_t state;
    uint64_t first, last, position, done, total, rejected;
} info;

static uint64_t between(campaign *c, uint64_t from, uint64_t to) /* in thousandths of the events */
{
    return (from + kit_random(&c->random) % (to - from)) * c->events / 1000;
}

/* ---- the log ---- */

static void publish_batch(campaign *c, hark_bus *bus)
{
    static char key[BATCH][8], data[BATCH][16];
    static hark_event_spec specs[BATCH];
    static const hark_event_spec *list[BATCH];
    hark_errinfo ei;
    for (size_t i = 0; i < BATCH; i++) {
        uint64_t r = kit_random(&c->random);
        int len = snprintf(data[i], sizeof data[i], "%d", (int)(r >> 32) % 100000);
        (void)snprintf(key[i], sizeof key[i], "k%u", (unsigned)(r % PROJECTION_KEYS));
        specs[i] = *HARK_OPTS(hark_event_spec, .type = PROJECTION_TYPE, .key = key[i],
                              .data = data[i], .data_len = (size_t)len);
        list[i] = &specs[i];
    }
    if (hark_publish_batch(bus, list, BATCH, NULL, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
}

static void publish_log(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    for (uint64_t n = 0; n < c->events; n += BATCH)
        publish_batch(c, bus);
    hark_bus_unref(bus);
}

static void add_page(const hark_page *page, projection *p, uint64_t *from)
{
    for (size_t i = 0; i < hark_page_count(page); i++) {
        const hark_event *e = hark_page_event(page, i);
        KIT_CHECK(hark_event_sequence(e) == *from, "sequence %llu follows %llu",
                  (unsigned long long)hark_event_sequence(e), (unsigned long long)*from - 1);
        KIT_CHECK(projection_apply(p, e), "sequence %llu does not rise", (unsigned long long)*from);
        ++*from;
    }
}

/* The projection of the log itself; returns the last sequence. All sequences are there. */
static uint64_t read_log(campaign *c, projection *ret)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    hark_page *page;
    uint64_t after = 0, next = 1;
    *ret = (projection){.fd = -1};
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("the log does not open: %s", ei.text);
    do {
        if (hark_read(bus, HARK_OPTS(hark_read_opts, .after = after, .limit = 10000), &page, &ei))
            kit_fail("the log cannot be read: %s", ei.text);
        add_page(page, ret, &next);
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    hark_bus_unref(bus);
    return next - 1;
}

/* ---- the victim ---- */

static void start(campaign *c, const char *const *args)
{
    const char *argv[8] = {c->victim, c->url};
    for (size_t i = 0; args[i]; i++)
        argv[i + 2] = args[i];
    c->p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
}

static const char *text(uint64_t n)
{
    static char all[8][24];
    static size_t next;
    char *s = all[next++ % 8];
    (void)snprintf(s, sizeof all[0], "%llu", (unsigned long long)n);
    return s;
}

static const char *await_line(campaign *c, const char *begin)
{
    if (!line_next(&c->p, c->line, LOG_MAX_MS))
        kit_fail("the victim ended, '%s' was expected: %s", begin,
                 kit_slurp(kit_path("stderr"), NULL));
    KIT_CHECK(strncmp(c->line, begin, strlen(begin)) == 0, "'%s' was expected, not '%s'", begin,
              c->line);
    return c->line + strlen(begin);
}

static info await_info(campaign *c, const char *id)
{
    info x = {.state = 0};
    unsigned long long n[6];
    long long state;
    const char *line = await_line(c, "info ");
    KIT_CHECK(sscanf(line, "%39s %lld %llu %llu %llu %llu %llu %llu", x.id, &state, &n[0], &n[1],
                     &n[2], &n[3], &n[4], &n[5]) == 8 &&
                  strcmp(x.id, id) == 0,
              "what was expected of replay %s is: %s", id, line);
    x = (info){.state = state,
               .first = n[0],
               .last = n[1],
               .position = n[2],
               .done = n[3],
               .total = n[4],
               .rejected = n[5]};
    (void)snprintf(x.id, sizeof x.id, "%s", id);
    printf("  %s: state %lld, %llu of %llu\n", id, state, n[3], n[4]);
    return x;
}

static void await_pace(campaign *c)
{
    double idle = 0, beside = 0;
    KIT_CHECK(sscanf(await_line(c, "pace "), "%lf %lf", &idle, &beside) == 2, "%s", c->line);
    if (idle > 0)
        printf("  live: %.0f events a second, beside the replay %.0f (%.2f)\n", idle, beside,
               beside / idle);
    else
        printf("  live: beside the replay %.0f events a second\n", beside);
    KIT_CHECK(beside > 0, "the live consumer stopped beside the replay");
}

static void await_repeats(campaign *c, uint64_t most)
{
    uint64_t n = strtoull(await_line(c, "repeats "), NULL, 10);
    printf("  %llu came again\n", (unsigned long long)n);
    KIT_CHECK(n <= most, "%llu events came again, at most %llu may", (unsigned long long)n,
              (unsigned long long)most);
}

static void kill_at_mark(campaign *c)
{
    await_line(c, "at");
    int64_t until = kit_ms() + (int64_t)(kit_random(&c->random) % LATEST_KILL_MS);
    struct pollfd out = {.fd = c->p.out, .events = POLLIN};
    for (int64_t left; (left = until - kit_ms()) > 0;)
        KIT_CHECK(poll(&out, 1, (int)left) == 0, "the victim does not wait to be killed: %s",
                  kit_slurp(kit_path("stderr"), NULL));
    kit_kill(&c->p);
}

/* ---- the audit ---- */

/* Sequences are without holes, and every event matches: so the figures follow from the positions. */
static void adds_up(const info *x, int64_t state)
{
    KIT_CHECK(x->state == state, "replay %s has state %lld, expected %lld", x->id,
              (long long)x->state, (long long)state);
    KIT_CHECK(x->done == x->position + 1 - x->first && x->total == x->last + 1 - x->first &&
                  x->rejected == 0,
              "replay %s from %llu to %llu, now at %llu, says %llu of %llu, %llu rejected", x->id,
              (unsigned long long)x->first, (unsigned long long)x->last,
              (unsigned long long)x->position, (unsigned long long)x->done,
              (unsigned long long)x->total, (unsigned long long)x->rejected);
    if (state == HARK_REPLAYED)
        KIT_CHECK(x->done == x->total, "replay %s ended with %llu of %llu", x->id,
                  (unsigned long long)x->done, (unsigned long long)x->total);
}

static void compare(campaign *c, const char *replayed)
{
    static projection of_log, kept, made;
    uint64_t last = read_log(c, &of_log);
    projection_open(&kept, kit_path("live"), false);
    projection_open(&made, kit_path(replayed), false);
    projection_same(&kept, &of_log, "the live projection and the log");
    projection_same(&made, &kept, "the replayed projection and the live one");
    projection_close(&kept);
    projection_close(&made);
    printf("  equal after %llu events, %llu of them published meanwhile\n",
           (unsigned long long)last, (unsigned long long)(last - c->events));
}

static void fresh_log(campaign *c, const char *name)
{
    (void)snprintf(c->url, sizeof c->url, "sqlite:%s", kit_path(name));
    (void)unlink(kit_path("live"));
    publish_log(c);
}

/* ---- the two ways ---- */

static void through_a_handler(campaign *c)
{
    bool anew = kit_random(&c->random) % 2;
    uint64_t cancel = between(c, 200, 500), mark = between(c, 620, 850);
    printf("a handler: cancelled at %llu, %s, killed at %llu\n", (unsigned long long)cancel,
           anew ? "begun anew" : "the rest replayed", (unsigned long long)mark);
    fresh_log(c, "handler.db");
    start(c, (const char *[]){"cancel", text(cancel), text(mark), text(c->events / 100 * 95),
                              text(anew), NULL});
    await_line(c, "caught up");
    await_pace(c);
    info first = await_info(c, "first");
    adds_up(&first, HARK_REPLAY_STOPPED);
    KIT_CHECK(first.position >= cancel && first.position < first.last,
              "cancelled at %llu, it came to %llu", (unsigned long long)cancel,
              (unsigned long long)first.position);
    kill_at_mark(c);

    start(c, (const char *[]){"go-on", NULL});
    info again = await_info(c, "first");
    adds_up(&again, HARK_REPLAY_STOPPED);
    KIT_CHECK(again.done == first.done, "the cancelled replay went on after its end");
    info second = await_info(c, "second");
    adds_up(&second, HARK_REPLAY_INTERRUPTED);
    KIT_CHECK(second.first == (anew ? 1 : first.position + 1) && second.last >= c->events &&
                  second.position + AT_MOST_AGAIN + 1 >= mark,
              "the killed replay says it stands at %llu of %llu to %llu",
              (unsigned long long)second.position, (unsigned long long)second.first,
              (unsigned long long)second.last);
    info ended = await_info(c, "second");
    adds_up(&ended, HARK_REPLAYED);
    KIT_CHECK(ended.first == second.first && ended.last == second.last, "its range has changed");
    await_pace(c);
    await_repeats(c, AT_MOST_AGAIN + 1); /* and the one in hand */
    info tail = await_info(c, "tail");
    adds_up(&tail, HARK_REPLAYED);
    await_line(c, "end");
    line_end(&c->p);
    compare(c, "played");
}

/* One life of the reset consumer, up to a kill: where it stands must not go back. */
static uint64_t rerun(campaign *c, const char *id, uint64_t upto, uint64_t done, uint64_t mark)
{
    bool to_the_end = mark == 0;
    start(c, (const char *[]){"rerun", id, text(upto), text(mark),
                              text(to_the_end ? 0 : upto / 100 * 95), NULL});
    info now = await_info(c, id);
    adds_up(&now, HARK_REPLAYING);
    KIT_CHECK(now.first == 1 && now.last == upto && now.done >= done,
              "replay %s says %llu of 1 to %llu; %llu were done before", id,
              (unsigned long long)now.done, (unsigned long long)now.last, (unsigned long long)done);
    if (!to_the_end)
        kill_at_mark(c);
    return now.done;
}

static void by_a_reset(campaign *c)
{
    unsigned long long upto = 0;
    char id[40] = "";
    uint64_t mark = between(c, 100, 500), mark2 = between(c, 650, 850);
    printf("a reset: killed at %llu and %llu\n", (unsigned long long)mark,
           (unsigned long long)mark2);
    fresh_log(c, "reset.db");
    start(c, (const char *[]){"reset", text(mark), text(c->events / 100 * 60), NULL});
    await_line(c, "caught up");
    KIT_CHECK(sscanf(await_line(c, "reset "), "%39s %llu", id, &upto) == 2, "%s", c->line);
    KIT_CHECK(upto == c->events, "the reset replays up to %llu", upto);
    kill_at_mark(c);
    uint64_t done = rerun(c, id, upto, 0, mark2);
    (void)rerun(c, id, upto, done, 0);
    info ended = await_info(c, id);
    adds_up(&ended, HARK_REPLAYED);
    await_pace(c);
    await_repeats(c, UINT64_MAX);
    await_line(c, "end");
    line_end(&c->p);
    compare(c, "again");
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_replay_test VICTIM");
    kit_guard();
    campaign c = {.victim = kit_program(argv[1]), .events = kit_long() ? 1000000 : 100000};
    c.random = kit_seed();
    int64_t begin = kit_ms();
    through_a_handler(&c);
    by_a_reset(&c);
    printf("%lld ms\n", (long long)(kit_ms() - begin));
    return 0;
}
