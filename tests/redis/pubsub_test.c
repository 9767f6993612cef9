/* redis+pubsub: between buses that are well connected: who hears what, in which order, in which form. */
#include "kit.h"

static void assert_same(const listener *a, const listener *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(a->list[i].type, b->list[i].type) != 0 ||
            strcmp(a->list[i].data, b->list[i].data) != 0)
            fail_msg("event %zu is %s %s here, %s %s there", i, a->list[i].type, a->list[i].data,
                     b->list[i].type, b->list[i].data);
}

static void test_two_buses_hear_each_other_in_the_same_order(void **state)
{
    kit *k = *state;
    listener *a = listen_to(k, k->f.bus, "**"), *b = listen_to(k, k->other, "**");
    for (int i = 0; i < 200; i++)
        assert_ok(&k->f, say(i % 3 ? k->f.bus : k->other, i % 2 ? "order:paid" : "order:made", i,
                             &k->f.ei));
    wait_heard(a, 200);
    wait_heard(b, 200);
    assert_same(a, b, 200);
    for (size_t i = 0; i < 200; i++) {
        assert_u64(a->list[i].seq, i + 1);
        assert_int_equal(atoi(a->list[i].data), (int)i);
    }
}

static void test_a_receipt_has_no_place_and_class_memory(void **state)
{
    kit *k = *state;
    hark_receipt r = {.sequence = 9};
    hark_bus_info info = {.size = sizeof info};
    listener *l = listen_to(k, k->f.bus, "a");
    assert_ok(&k->f, hark_publish_ei(k->f.bus, HARK_OPTS(hark_event_spec, .type = "a", .id = "x1"),
                                     &r, &k->f.ei));
    assert_u64(r.sequence, 0);
    assert_int_equal(r.durability, HARK_MEMORY);
    assert_string_equal(r.id, "x1");
    wait_heard(l, 1);
    assert_int_equal(hark_bus_info_get(k->f.bus, &info), HARK_OK);
    assert_string_equal(info.store, "redis+pubsub");
    assert_u64(info.first_sequence, 0);
    assert_u64(info.last_sequence, 1);
    assert_int_equal(info.transactions, 0);
}

static void test_patterns_choose_segments_and_rests(void **state)
{
    kit *k = *state;
    listener *one = listen_to(k, k->other, "order:*");
    listener *rest = listen_to(k, k->other, "order:**");
    listener *exact = listen_to(k, k->other, "order:paid:late");
    listener *all = listen_to(k, k->other, "**");
    const char *const types[] = {"order:paid", "order:paid:late", "stock:low", "order:made"};
    for (int i = 0; i < 4; i++)
        assert_ok(&k->f, say(k->f.bus, types[i], i, &k->f.ei));
    wait_heard(all, 4);
    wait_heard(one, 2);
    wait_heard(rest, 3);
    wait_heard(exact, 1);
    assert_string_equal(one->list[1].type, "order:made");
    assert_string_equal(rest->list[1].type, "order:paid:late");
    assert_string_equal(exact->list[0].type, "order:paid:late");
    assert_u64(one->list[1].seq, 4); /* one numbering for all that comes in */
}

static void test_other_prefixes_are_not_heard(void **state)
{
    kit *k = *state;
    char url[160];
    hark_bus *star = NULL;
    listener *l = listen_to(k, k->f.bus, "**");
    (void)snprintf(url, sizeof url, "redis+pubsub://127.0.0.1:%d/t%%3F%%5B%%2A",
                   server_port(redis));
    assert_ok(&k->f, hark_open(url, NULL, &star, &k->f.ei)); /* "t?[*" taken literally */
    listener *odd = listen_to(k, star, "**");
    assert_ok(&k->f, say(k->f.bus, "mine", 1, &k->f.ei));
    assert_ok(&k->f, say(star, "odd", 2, &k->f.ei));
    assert_ok(&k->f, say(k->f.bus, "mine", 3, &k->f.ei));
    wait_heard(l, 2);
    wait_heard(odd, 1);
    assert_string_equal(odd->list[0].type, "odd");
    assert_string_equal(l->list[1].data, "3");
    hark_bus_unref(star);
    assert_int_equal(atomic_load(&odd->n), 1);
}

/* ---- the form of messages --------------------------------------------------------------------- */

static void read_line(FILE *f, char *ret, int size)
{
    assert_non_null(fgets(ret, size, f));
    ret[strcspn(ret, "\n")] = '\0';
}

static void test_redis_cli_reads_cloudevents_json(void **state)
{
    kit *k = *state;
    char cmd[160], line[1024];
    (void)snprintf(cmd, sizeof cmd, "redis-cli -p %d SUBSCRIBE %sorder:made", server_port(redis),
                   k->prefix);
    FILE *cli = popen(cmd, "r"); /* NOLINT: a fixed command */
    assert_non_null(cli);
    for (int i = 0; i < 3; i++)
        read_line(cli, line, sizeof line);
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "order:made", .id = "o-1", .source = "/shop",
                  .time = "2026-01-02T03:04:05Z", .subject = "o1", .json = "{\"n\": 1}");
    assert_ok(&k->f, hark_publish_ei(k->f.bus, spec, NULL, &k->f.ei));
    for (int i = 0; i < 3; i++)
        read_line(cli, line, sizeof line);
    assert_non_null(strstr(line, "\"specversion\":\"1.0\""));
    assert_non_null(strstr(line, "\"id\":\"o-1\""));
    assert_non_null(strstr(line, "\"type\":\"order:made\""));
    assert_non_null(strstr(line, "\"data\":{\"n\": 1}"));
    hark_event *e;
    assert_ok(&k->f, hark_event_from_json(line, strlen(line), NULL, &e, &k->f.ei));
    hark_event_unref(e);
    assert_int_equal(kill_clients(" "), 1); /* the one without a name: redis-cli */
    (void)pclose(cli);
}

static void test_redis_cli_may_publish(void **state)
{
    kit *k = *state;
    char cmd[400], line[64];
    listener *l = listen_to(k, k->f.bus, "order:*");
    (void)snprintf(cmd, sizeof cmd,
                   "redis-cli -p %d PUBLISH %sorder:made '{\"specversion\":\"1.0\",\"id\":\"1\","
                   "\"source\":\"/cli\",\"type\":\"order:made\",\"data\":[1,2]}'",
                   server_port(redis), k->prefix);
    FILE *cli = popen(cmd, "r"); /* NOLINT: a fixed command */
    assert_non_null(cli);
    read_line(cli, line, sizeof line);
    assert_string_equal(line, "2"); /* both buses */
    (void)pclose(cli);
    wait_heard(l, 1);
    assert_string_equal(l->list[0].data, "[1,2]");
}

static hark_delivery *pull(kit *k, hark_sub *s)
{
    hark_delivery *d = NULL;
    assert_ok(&k->f, hark_next(s, HUNG_MS, &d));
    return d;
}

static void test_everything_of_an_event_comes_through(void **state)
{
    kit *k = *state;
    hark_sub *s = NULL;
    unsigned char bytes[256];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    const hark_ext ext = {.name = "tenant", .value = "t\xc3\xa4", .kind = HARK_EXT_STRING};
    assert_ok(&k->f, hark_subscribe(k->other, "b\xc3\xa4r:x", NULL, NULL, NULL, &s, &k->f.ei));
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "b\xc3\xa4r:x", .data = bytes, .data_len = sizeof bytes,
                  .datacontenttype = "application/octet-stream", .key = "k", .subject = "s",
                  .dataversion = 3, .correlationid = "c", .extensions = &ext, .n_extensions = 1);
    assert_ok(&k->f, hark_publish_ei(k->f.bus, spec, NULL, &k->f.ei));
    hark_delivery *d = pull(k, s);
    const hark_event *e = hark_delivery_event(d);
    size_t len;
    const void *data = hark_event_data(e, &len);
    assert_u64(len, sizeof bytes);
    assert_memory_equal(data, bytes, sizeof bytes);
    assert_string_equal(hark_event_key(e), "k");
    assert_string_equal(hark_event_subject(e), "s");
    assert_string_equal(hark_event_source(e), "/hark");
    assert_string_equal(hark_event_correlationid(e), "c");
    assert_string_equal(hark_event_attr(e, "tenant"), "t\xc3\xa4");
    assert_int_equal(hark_event_dataversion(e), 3);
    assert_true(hark_delivery_recorded_ns(d) > 0);
    assert_int_equal(hark_settle(&d, NULL), HARK_OK);
    hark_sub_close(s);
    hark_sub_unref(s);
}

static void test_a_large_event_comes_whole(void **state)
{
    kit *k = *state;
    enum { SIZE = 5 << 20 };
    hark_sub *s = NULL;
    char *data = malloc(SIZE);
    assert_non_null(data);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 + i / 255);
    assert_ok(&k->f, hark_subscribe(k->other, "big", NULL, NULL, NULL, &s, &k->f.ei));
    assert_ok(&k->f, hark_publish_ei(k->f.bus,
                                     HARK_OPTS(hark_event_spec, .type = "big", .data = data,
                                               .data_len = SIZE, .datacontenttype = "a/b"),
                                     NULL, &k->f.ei));
    hark_delivery *d = pull(k, s);
    size_t len;
    const void *got = hark_event_data(hark_delivery_event(d), &len);
    assert_u64(len, SIZE);
    assert_memory_equal(got, data, SIZE);
    assert_int_equal(hark_settle(&d, NULL), HARK_OK);
    hark_sub_close(s);
    hark_sub_unref(s);
    free(data);
}

/* ---- many publishers -------------------------------------------------------------------------- */

enum { THREADS = 4, EACH = 500 };

typedef struct publisher {
    pthread_t thread;
    hark_bus *bus;
    int number;
} publisher;

static void *publish_each(void *ud)
{
    publisher *p = ud;
    char type[16];
    hark_errinfo ei = {0};
    (void)snprintf(type, sizeof type, "from:%d", p->number);
    for (int i = 0; i < EACH; i++)
        MUST(say(p->bus, type, i, &ei) == HARK_OK);
    return NULL;
}

static void test_four_threads_publish_each_in_its_order(void **state)
{
    kit *k = *state;
    publisher p[THREADS];
    int next[THREADS] = {0};
    const hark_sub_opts *wide = HARK_OPTS(hark_sub_opts, .ring = 4096, .flags = HARK_SUB_GAPS);
    listener *a = listen_with(k, k->f.bus, "from:*", NULL, wide);
    listener *b = listen_with(k, k->other, "from:*", NULL, wide);
    for (int i = 0; i < THREADS; i++) {
        p[i] = (publisher){.bus = i % 2 ? k->f.bus : k->other, .number = i};
        MUST(pthread_create(&p[i].thread, NULL, publish_each, &p[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(p[i].thread, NULL);
    wait_heard(a, (size_t)THREADS * EACH);
    wait_heard(b, (size_t)THREADS * EACH);
    assert_same(a, b, (size_t)THREADS * EACH);
    for (size_t i = 0; i < (size_t)THREADS * EACH; i++) {
        int from = atoi(a->list[i].type + 5);
        assert_int_equal(atoi(a->list[i].data), next[from]++);
    }
}

static void test_a_batch_comes_without_anything_in_between(void **state)
{
    kit *k = *state;
    enum { N = 300 };
    static hark_event_spec specs[N];
    static const hark_event_spec *list[N];
    static hark_receipt receipts[N];
    publisher noise = {.bus = k->other, .number = 0};
    listener *l = listen_with(k, k->f.bus, "**", NULL, HARK_OPTS(hark_sub_opts, .ring = 4096));
    for (size_t i = 0; i < N; i++) {
        specs[i] = (hark_event_spec){.size = sizeof specs[i], .type = "batch"};
        list[i] = &specs[i];
    }
    MUST(pthread_create(&noise.thread, NULL, publish_each, &noise) == 0);
    assert_ok(&k->f, hark_publish_batch(k->f.bus, list, N, receipts, &k->f.ei));
    pthread_join(noise.thread, NULL);
    wait_heard(l, N + EACH);
    size_t first = 0;
    while (strcmp(l->list[first].type, "batch") != 0)
        first++;
    for (size_t i = 0; i < N; i++)
        assert_string_equal(l->list[first + i].type, "batch");
    assert_u64(receipts[N - 1].sequence, 0);
    assert_int_equal(receipts[N - 1].durability, HARK_MEMORY);
}

static void count_published(hark_err err, const hark_receipt *receipt, void *ud)
{
    MUST(!err && receipt->sequence == 0);
    atomic_fetch_add((atomic_int *)ud, 1);
}

static void test_a_loop_publishes_without_waiting(void **state)
{
    kit *k = *state;
    atomic_int published = 0;
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "a");
    listener *l = listen_with(k, k->other, "a", NULL, HARK_OPTS(hark_sub_opts, .ring = 4096));
    (void)hark_thread_nonblocking(true);
    hark_err blocking = hark_publish(k->f.bus, spec, NULL);
    for (int i = 0; i < 1000; i++)
        MUST(hark_publish_async(k->f.bus, spec, count_published, &published) == HARK_OK);
    (void)hark_thread_nonblocking(false);
    assert_int_equal(blocking, HARK_EWRONGTHREAD);
    wait_heard(l, 1000);
    WAIT_UNTIL(atomic_load(&published) == 1000);
}

static hark_verdict answer(hark_delivery *d, void *ud)
{
    (void)ud;
    MUST(hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = "answer"), NULL) == HARK_OK);
    return HARK_ACK;
}

static void test_a_handler_may_publish(void **state)
{
    kit *k = *state;
    hark_sub *s = NULL;
    listener *l = listen_to(k, k->f.bus, "answer");
    assert_ok(&k->f, hark_subscribe(k->other, "question", answer, NULL, NULL, &s, &k->f.ei));
    for (int i = 0; i < 20; i++)
        assert_ok(&k->f, say(k->f.bus, "question", i, &k->f.ei));
    wait_heard(l, 20);
    end_sub(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(test_two_buses_hear_each_other_in_the_same_order),
        KIT_TEST(test_a_receipt_has_no_place_and_class_memory),
        KIT_TEST(test_patterns_choose_segments_and_rests),
        KIT_TEST(test_other_prefixes_are_not_heard),
        KIT_TEST(test_redis_cli_reads_cloudevents_json),
        KIT_TEST(test_redis_cli_may_publish),
        KIT_TEST(test_everything_of_an_event_comes_through),
        KIT_TEST(test_a_large_event_comes_whole),
        KIT_TEST(test_four_threads_publish_each_in_its_order),
        KIT_TEST(test_a_batch_comes_without_anything_in_between),
        KIT_TEST(test_a_loop_publishes_without_waiting),
        KIT_TEST(test_a_handler_may_publish),
    };
    return kit_main("redis+pubsub", tests, HK_COUNTOF(tests));
}
