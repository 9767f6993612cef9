/* A program to be killed while it redrives dead letters. Each answer of its handler is appended to a
 * file before it is given (redrive_work.h).
 *
 *   kill_redrive_victim URL 1 PARK RATE LETTERS PARKED  rejects until LETTERS are dead and PARKED events
 *                                         wait behind them, and ends
 *   kill_redrive_victim URL LIFE PARK RATE MARK STOP HOLD  redrives all; RATE is that of the first half
 *
 * HOLD is a number of letters, or 0. If it is given, the letters are redriven in small portions until
 * so few are left; "at" is said when MARK are redriven, and its handlers wait at their answer STOP. Else
 * all are redriven; "at" is said at answer MARK, and handlers wait at STOP as well. Then it is killed;
 * with STOP 0 it goes on to the end instead, says "end", and ends. */
#include "lines.h"
#include "redrive_work.h"

#include <errno.h>
#include <fcntl.h>
#include <hark/hark.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { PORTION = 32, TWICE = 8 };

static hark_bus *bus;
static hark_sub *sub;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int record_fd;
static uint32_t life;
static uint64_t mark, stop, hold, answers; /* answers: under the lock */
static int64_t rate;

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

static void await_change(void)
{
    pthread_mutex_lock(&lock);
    kit_await_locked(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* ---- consuming ---- */

static void note(hark_delivery *d, char verdict)
{
    const redrive_record r = {.seq = hark_delivery_sequence(d),
                              .life = life,
                              .attempt = (uint8_t)hark_delivery_attempt(d),
                              .verdict = verdict};
    KIT_CHECK(write(record_fd, &r, sizeof r) == (ssize_t)sizeof r, "cannot write: %s",
              strerror(errno));
}

static void pass_gate(void)
{
    pthread_mutex_lock(&lock);
    answers++;
    if (!hold && stop && answers == mark)
        line_say("at");
    while (stop && answers >= stop)
        kit_await_locked(&changed, &lock);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    bool bad = len >= 3 && memcmp(data, "bad", 3) == 0;
    (void)ud;
    char v = redrive_verdict(life == 1, bad, hark_delivery_sequence(d), hark_delivery_attempt(d));
    note(d, v);
    pass_gate();
    return v == 'A' ? HARK_ACK : v == 'R' ? HARK_RETRY : HARK_REJECT;
}

static void consume(bool park)
{
    hark_errinfo ei;
    if (hark_subscribe(bus, REDRIVE_TYPE, handle, NULL,
                       HARK_OPTS(hark_sub_opts, .consumer = REDRIVE_CONSUMER, .workers = 4,
                                 .start = HARK_START_FIRST, .retry_delay_ms = 10,
                                 .dead_policy = park ? HARK_DEAD_PARK : HARK_DEAD_CONTINUE),
                       &sub, &ei))
        kit_fail("hark_subscribe: %s", ei.text);
}

static bool take_info(const hark_consumer_info *info, void *ud)
{
    *(hark_consumer_info *)ud = *info;
    return true;
}

static hark_consumer_info look(void)
{
    hark_consumer_info info = {.size = 0};
    hark_errinfo ei;
    if (hark_consumers(bus, take_info, &info, &ei))
        kit_fail("hark_consumers: %s", ei.text);
    return info;
}

static void end(void)
{
    hark_errinfo ei;
    if (hark_drain(bus, 10000, &ei))
        kit_fail("hark_drain: %s", ei.text);
    hark_sub_unref(sub);
    hark_bus_unref(bus);
    line_say("end");
}

static void reject_all(uint64_t letters, uint64_t parked)
{
    hark_consumer_info info;
    do {
        await_change();
        info = look();
    } while (info.dead_letters < letters || info.parked < parked || info.behind || info.retrying);
    KIT_CHECK(info.dead_letters == letters && info.parked == parked,
              "%llu dead letters, %llu parked", (unsigned long long)info.dead_letters,
              (unsigned long long)info.parked);
    end();
}

/* ---- redriving ---- */

typedef struct ids {
    uint64_t list[TWICE];
    size_t n;
} ids;

static bool take_id(const hark_dead_letter *l, void *ud)
{
    ids *all = ud;
    all->list[all->n++] = l->id;
    return all->n < TWICE;
}

/* Each id twice in a row: the second time it is under way, or gone already. */
static void redrive_some_twice(void)
{
    ids all = {.n = 0};
    hark_errinfo ei;
    if (hark_dead_letters(bus, NULL, take_id, &all, &ei))
        kit_fail("hark_dead_letters: %s", ei.text);
    for (size_t i = 0; i < all.n; i++) {
        if (hark_redrive(bus, all.list[i], &ei))
            kit_fail("hark_redrive: %s", ei.text);
        hark_err err = hark_redrive(bus, all.list[i], &ei);
        KIT_CHECK(err == HARK_ECONFLICT || err == HARK_ENOTFOUND, "redriven twice: %s",
                  hark_err_name(err));
    }
}

static uint64_t redrive(size_t limit, int64_t at_rate)
{
    uint64_t n = 0;
    hark_errinfo ei;
    if (hark_redrive_all(bus, HARK_OPTS(hark_dead_filter, .limit = limit), at_rate, &n, &ei))
        kit_fail("hark_redrive_all: %s", ei.text);
    return n;
}

static bool count_letter(const hark_dead_letter *l, void *ud)
{
    (void)l;
    ++*(uint64_t *)ud;
    return true;
}

static uint64_t count_letters(bool redriven_too)
{
    uint64_t n = 0;
    hark_errinfo ei;
    if (hark_dead_letters(bus, HARK_OPTS(hark_dead_filter, .redriven = redriven_too), count_letter,
                          &n, &ei))
        kit_fail("hark_dead_letters: %s", ei.text);
    return n;
}

static void redrive_in_portions(void)
{
    uint64_t left = count_letters(false), done = 0;
    for (bool said = false; left - done > hold + PORTION;) {
        uint64_t n = redrive(PORTION, done < left / 2 ? rate : 0);
        KIT_CHECK(n == PORTION, "%llu of a portion were redriven", (unsigned long long)n);
        done += n;
        if (done < mark || said)
            continue;
        said = true;
        line_say("at");
    }
}

static void redrive_to_the_end(void)
{
    hark_consumer_info info;
    do {
        (void)redrive(0, 0);
        await_change();
        info = look();
    } while (count_letters(true) || info.parked || info.behind || info.retrying);
    end();
}

static void mend(void)
{
    redrive_some_twice();
    if (hold) {
        redrive_in_portions();
    } else {
        (void)redrive((size_t)count_letters(false) / 2, rate);
        (void)redrive(0, 0);
        (void)redrive(0, 0);
    }
    while (stop)
        await_change();
    redrive_to_the_end();
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    KIT_CHECK(argc >= 7, "usage: kill_redrive_victim URL LIFE PARK RATE ...");
    life = (uint32_t)number(argv[2]);
    rate = (int64_t)number(argv[4]);
    record_fd = open(REDRIVE_RECORD, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    KIT_CHECK(record_fd >= 0, "cannot open the record: %s", strerror(errno));
    if (life > 1) {
        KIT_CHECK(argc == 8, "usage: kill_redrive_victim URL LIFE PARK RATE MARK STOP HOLD");
        mark = number(argv[5]);
        stop = number(argv[6]);
        hold = number(argv[7]);
    }
    if (hark_open(argv[1], NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    consume(number(argv[3]) != 0);
    if (life == 1)
        reject_all(number(argv[5]), number(argv[6]));
    else
        mend();
    return 0;
}
