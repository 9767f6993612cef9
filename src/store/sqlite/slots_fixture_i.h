/* fixture: what the tests of in-flight slots share: a log with events and two consumers, and
 * processes that die with slots in hand. <cmocka.h> comes before it. */
#ifndef HK_SQLITE_SLOTS_FIXTURE_I_H
#define HK_SQLITE_SLOTS_FIXTURE_I_H

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/slots_i.h"

#include <signal.h>
#include <sys/wait.h>

#define EVENTS 3000

static inline void inflight(const fixture *f, char ret[128])
{
    (void)snprintf(ret, 128, "%s-inflight", f->path);
}

static inline bool has_file(const fixture *f)
{
    char path[128];
    inflight(f, path);
    return access(path, F_OK) == 0;
}

static inline void running(hark_store_slot *slot, uint64_t consumer, uint64_t seq, int64_t attempt)
{
    *slot = (hark_store_slot){.consumer = consumer,
                              .generation = 1,
                              .sequence = seq,
                              .attempt = attempt,
                              .started_ns = 1000 + (int64_t)seq};
    slot->check = hk_hash(slot, offsetof(hark_store_slot, address));
    slot->state = HARK_SLOT_RUNNING;
}

static inline void crashed(hark_store_slot *slot, uint64_t consumer, uint64_t seq, int64_t attempt)
{
    running(slot, consumer, seq, attempt);
    slot->signal = SIGSEGV;
    slot->address = 0x10;
    slot->state = HARK_SLOT_CRASHED;
}

static inline hark_store_consumer consumer(const char *name)
{
    return (hark_store_consumer){.size = sizeof(hark_store_consumer),
                                 .name = name,
                                 .pattern = "t",
                                 .policy = "p",
                                 .start = 1 /* the first event */};
}

static inline hark_store_consumer load(fixture *f, const char *name)
{
    hark_store_consumer c = consumer(name);
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    commit(f);
    return c;
}

/* A log with events and the consumers 1 and 2, closed. */
static inline int set_up_log(void **state)
{
    (void)set_up(state);
    fixture *f = *state;
    begin(f);
    for (int i = 0; i < EVENTS; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%d", i);
        (void)add(f, "t", id);
    }
    commit(f);
    for (int i = 0; i < 2; i++) {
        hark_store_consumer c = load(f, i ? "two" : "one");
        assert_int_equal(c.ret_id, i + 1);
        hark_store_consumer_clear(&c);
    }
    close_log(f);
    return 0;
}

/* A process that opens the log, takes slots, fills them and is killed. */
static inline void die_with(fixture *f, size_t n, void (*fill)(hark_store_slot *slots))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        hark_store_slot *slots = NULL;
        if (open_log(f) != HARK_OK || OPS.slots_take(f->store, n, &slots, NULL) != HARK_OK ||
            !slots)
            _exit(1);
        fill(slots);
        (void)kill(getpid(), SIGKILL);
        _exit(2);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* The rows of a consumer as text: "seq:state:attempts:crashes:interruptions ". */
static inline const char *rows(fixture *f, const char *name, char ret[256])
{
    hark_store_consumer c = load(f, name);
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < c.ret_n_rows; i++) {
        const hark_store_row *r = &c.ret_rows[i];
        at +=
            (size_t)snprintf(ret + at, 256 - at, "%d:%d:%d:%d:%d ", (int)r->sequence, (int)r->state,
                             (int)r->attempts, (int)r->crashes, (int)r->interruptions);
    }
    hark_store_consumer_clear(&c);
    return ret;
}

#define assert_rows(f, name, expected)                                                             \
    do {                                                                                           \
        char rows_[256];                                                                           \
        assert_string_equal(expected, rows(f, name, rows_));                                       \
    } while (0)

static inline void one_crash(hark_store_slot *s)
{
    running(&s[0], 1, 3, 1);
    crashed(&s[1], 1, 7, 1);
    running(&s[2], 2, 7, 1);
}

#endif
