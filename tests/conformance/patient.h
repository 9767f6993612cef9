/* A consumer "c" whose handler rejects what is bad while it is sick, and the dead letters that come of
 * it; shared by the tests of dead letters. */
#ifndef HK_CONFORMANCE_PATIENT_H
#define HK_CONFORMANCE_PATIENT_H

#include "fixture.h"

#define OPTS(...)   HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)
#define FILTER(...) HARK_OPTS(hark_dead_filter, __VA_ARGS__)

/* Its handler's answer to events whose data begins with "bad" is `verdict` while `sick`. */
typedef struct patient {
    recorder *r;
    hark_sub *sub;
    atomic_int sick;
    hark_verdict verdict;
} patient;

static inline hark_verdict treat(hark_delivery *d, void *ud)
{
    patient *p = ud;
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    record_only(p->r, d);
    if (len < 3 || memcmp(data, "bad", 3) != 0 || !atomic_load(&p->sick))
        return HARK_ACK;
    hark_delivery_explain(d, "cannot treat %s", hark_event_key(hark_delivery_event(d)));
    hark_delivery_retry_after(d, 0);
    return p->verdict;
}

static inline void patient_subscribe(fixture *f, patient *p, const hark_sub_opts *opts)
{
    assert_ok(f, hark_subscribe(f->bus, "t", treat, p, opts, &p->sub, &f->ei));
}

static inline patient *patient_new(fixture *f, const hark_sub_opts *opts)
{
    patient *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->r = recorder_new();
    p->verdict = HARK_REJECT;
    atomic_store(&p->sick, 1);
    patient_subscribe(f, p, opts);
    return p;
}

/* After its subscription has ended. */
static inline void patient_free(patient *p)
{
    recorder_free(p->r);
    free(p);
}

static inline void patient_end(patient *p)
{
    end_sub(p->sub);
    patient_free(p);
}

static inline uint64_t say(fixture *f, const char *key, const char *data)
{
    hark_receipt r;
    assert_ok(f, hark_publish_ei(f->bus,
                                 HARK_OPTS(hark_event_spec, .type = "t", .subject = key,
                                           .data = data, .data_len = strlen(data)),
                                 &r, &f->ei));
    return r.sequence;
}

/* The letters of a filter, counted; the last one copied. */
typedef struct found {
    size_t n;
    uint64_t id, sequence;
    int64_t attempts, redriven;
    size_t n_log;
    char reason[32], error[64], key[16], outcomes[64];
} found;

static inline bool note(const hark_dead_letter *l, void *ud)
{
    found *x = ud;
    x->n++;
    x->id = l->id;
    x->sequence = l->sequence;
    x->attempts = l->attempts;
    x->redriven = l->redriven;
    x->n_log = l->n_log;
    (void)snprintf(x->reason, sizeof x->reason, "%s", l->reason);
    (void)snprintf(x->error, sizeof x->error, "%s", l->error ? l->error : "");
    (void)snprintf(x->key, sizeof x->key, "%s", hark_event_key(l->event));
    x->outcomes[0] = '\0';
    for (size_t i = 0; i < l->n_log; i++) {
        size_t at = strlen(x->outcomes);
        (void)snprintf(x->outcomes + at, sizeof x->outcomes - at, "%lld %s;",
                       (long long)l->log[i].number, l->log[i].outcome);
    }
    assert_string_equal(l->consumer, "c");
    assert_true(l->dead_ns >= l->first_ns && l->first_ns > 0);
    return true;
}

static inline found letters(fixture *f, const hark_dead_filter *filter)
{
    found x = {0};
    assert_ok(f, hark_dead_letters(f->bus, filter, note, &x, &f->ei));
    return x;
}

/* Says that key "k" is bad until `n` dead letters are there; returns the last one. */
static inline found bury(fixture *f, size_t n)
{
    for (size_t i = letters(f, NULL).n; i < n; i++)
        say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == n);
    return letters(f, NULL);
}

#endif
