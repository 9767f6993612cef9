/* Orders posted by many clients at once, each with one of a hundred keys and ten times over, to
 * kill_posts_victim, which is killed -9 again and again and started on the same port and file. Clients repeat
 * what got no answer, 409 or 503. In the end there is one row and one event for each key, and all replies
 * that were received to a key are the same bytes. */
#include "client.h"
#include "kit.h"
#include "lines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 16, KEYS = 100, NEAR = 5, BYTES = 256 };

/* What came back, as far as it must be the same each time. */
typedef struct answer {
    int status;
    char type[64], location[64], body[BYTES];
} answer;

typedef struct campaign {
    const char *victim, *path;
    char url[160], address[32];
    uint64_t random;
    int port;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    bool up; /* as far as is known */
    size_t posts, taken, done;
    answer first[KEYS]; /* received; status 0 = none yet */
    bool made[KEYS];    /* the reply of the order itself was received, not a replay of it */
    size_t replays, tries, refused, again, busy;
} campaign;

/* ---- clients -------------------------------------------------------------------------------------- */

static void nap(campaign *c)
{
    pthread_mutex_lock(&c->lock);
    do
        kit_await_locked(&c->changed, &c->lock);
    while (!c->up);
    pthread_mutex_unlock(&c->lock);
}

static void set_up(campaign *c, bool up)
{
    pthread_mutex_lock(&c->lock);
    c->up = up;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* One try; false when nothing whole came back. */
static bool post(const campaign *c, unsigned key, reply *r)
{
    char lines[256], body[32], v[32];
    (void)snprintf(lines, sizeof lines,
                   "Idempotency-Key: key-%u\r\nContent-Type: text/plain\r\nConnection: close\r\n",
                   key);
    (void)snprintf(body, sizeof body, "sku-%u", key);
    client_do(c->port, "POST", "/orders", lines, body, r);
    return r->status && r->len == (size_t)atoll(reply_header(r, "Content-Length", v, sizeof v));
}

static void take_created(campaign *c, unsigned key, const reply *r)
{
    answer a = {.status = r->status};
    char v[8], *seen = c->first[key].body;
    bool replay = strcmp(reply_header(r, "Idempotent-Replay", v, sizeof v), "true") == 0;
    (void)reply_header(r, "Content-Type", a.type, sizeof a.type);
    (void)reply_header(r, "Location", a.location, sizeof a.location);
    KIT_CHECK(r->len < sizeof a.body, "a reply of %zu bytes", r->len);
    memcpy(a.body, r->body, r->len);
    pthread_mutex_lock(&c->lock);
    c->replays += replay;
    KIT_CHECK(replay || !c->made[key], "two first replies to key %u: %s and %s", key, a.body, seen);
    c->made[key] = c->made[key] || !replay;
    if (!c->first[key].status)
        c->first[key] = a;
    KIT_CHECK(memcmp(&c->first[key], &a, sizeof a) == 0,
              "another reply to key %u: %d %s %s %s, before: %d %s %s %s", key, a.status, a.type,
              a.location, a.body, c->first[key].status, c->first[key].type, c->first[key].location,
              seen);
    c->done++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void count(campaign *c, size_t *which)
{
    pthread_mutex_lock(&c->lock);
    ++*which;
    pthread_mutex_unlock(&c->lock);
}

static void order_until_done(campaign *c, unsigned key)
{
    reply r;
    for (;;) {
        count(c, &c->tries);
        bool whole = post(c, key, &r);
        if (whole && r.status == 201)
            break;
        KIT_CHECK(!whole || r.status == 409 || r.status == 503, "key %u: %s%s", key, r.head,
                  r.body);
        count(c, !whole ? &c->refused : r.status == 409 ? &c->again : &c->busy);
        nap(c);
    }
    take_created(c, key, &r);
}

/* One key after the other, so that there are new ones to the end; half of the posts are of one close by. */
static unsigned key_of(const campaign *c, size_t i, uint64_t random)
{
    unsigned key = (unsigned)(i * KEYS / c->posts);
    return i % 2 ? key : (key + (unsigned)(random / 8 % NEAR)) % KEYS;
}

static void *client_main(void *arg)
{
    campaign *c = arg;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        size_t i = c->taken < c->posts ? c->taken++ : SIZE_MAX;
        uint64_t random = kit_random(&c->random);
        pthread_mutex_unlock(&c->lock);
        if (i == SIZE_MAX)
            return NULL;
        order_until_done(c, key_of(c, i, random));
    }
}

/* ---- the victim ------------------------------------------------------------------------------------ */

/* Nobody else is given the port while the victim is dead; it binds beside us. */
static int hold_port(int *ret_port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    KIT_CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                  bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 &&
                  getsockname(fd, (struct sockaddr *)&sa, &len) == 0,
              "no port: %s", strerror(errno));
    *ret_port = ntohs(sa.sin_port);
    return fd;
}

static kit_proc start(campaign *c)
{
    char line[LINE_MAX_BYTES];
    const char *argv[] = {c->victim, c->url, c->address, NULL};
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    if (!line_next(&p, line, KIT_HUNG_MS))
        kit_fail("the victim ended: %s", kit_slurp(kit_path("stderr"), NULL));
    set_up(c, true);
    return p;
}

static bool await_done(campaign *c, size_t n)
{
    int64_t until = kit_ms() + KIT_HUNG_MS;
    pthread_mutex_lock(&c->lock);
    while (c->done < n && c->done < c->posts) {
        KIT_CHECK(kit_ms() < until, "%zu of %zu posts are done, and no more; standard error: %s",
                  c->done, c->posts, kit_slurp(kit_path("stderr"), NULL));
        kit_await_locked(&c->changed, &c->lock);
    }
    bool more = c->done < c->posts;
    pthread_mutex_unlock(&c->lock);
    return more;
}

static uint64_t draw(campaign *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t r = kit_random(&c->random);
    pthread_mutex_unlock(&c->lock);
    return r;
}

static void kill_at_some_time(campaign *c, kit_proc *p)
{
    int64_t until = kit_ms() + (int64_t)(draw(c) % 4);
    while (kit_ms() < until)
        nap(c);
    kill(p->pid, SIGKILL);
    int status = kit_wait(p, KIT_HUNG_MS);
    set_up(c, false);
    KIT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "wait status %#x: %s",
              (unsigned)status, kit_slurp(kit_path("stderr"), NULL));
}

/* ---- the file --------------------------------------------------------------------------------------- */

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    KIT_CHECK(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
                  sqlite3_step(st) == SQLITE_ROW,
              "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static void expect(sqlite3 *db, const char *what, int64_t n, const char *sql)
{
    KIT_CHECK(number(db, sql) == n, "%lld %s, expected %lld", (long long)number(db, sql), what,
              (long long)n);
}

static void audit(const campaign *c)
{
    sqlite3 *db = NULL;
    KIT_CHECK(sqlite3_open_v2(c->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK,
              "cannot open %s", c->path);
    expect(db, "orders", KEYS, "SELECT count(*) FROM orders");
    expect(db, "keys with an order", KEYS, "SELECT count(DISTINCT key) FROM orders");
    expect(
        db, "events", KEYS,
        "SELECT count(*) FROM hark_events e JOIN hark_types t ON t.id = e.type_id WHERE t.name = "
        "'order:created'");
    expect(db, "orders with their event", KEYS,
           "SELECT count(*) FROM orders o JOIN hark_events e ON e.subject = o.id");
    for (unsigned k = 0; k < KEYS; k++) {
        char sql[256];
        (void)snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM orders WHERE key = 'key-%u' AND '%s' = '/orders/' || id", k,
            c->first[k].location);
        expect(db, "orders that are what their reply said", 1, sql);
    }
    sqlite3_close(db);
}

/* Until all posts are done; returns the kills. */
static size_t kill_often(campaign *c)
{
    size_t kills = 0, n = 0;
    kit_proc p = start(c);
    for (; await_done(c, n += draw(c) % 24); kills++) {
        kill_at_some_time(c, &p);
        p = start(c);
    }
    kit_stop(&p, c->port);
    return kills;
}

static void campaign_on(const char *victim, const char *name, int port, uint64_t *random)
{
    pthread_t clients[CLIENTS];
    campaign c = {.victim = victim,
                  .path = kit_path(name),
                  .port = port,
                  .random = kit_random(random),
                  .posts = 1000,
                  .lock = PTHREAD_MUTEX_INITIALIZER,
                  .changed = PTHREAD_COND_INITIALIZER};
    int64_t begin = kit_ms();
    (void)snprintf(c.url, sizeof c.url, "sqlite:%s", c.path);
    (void)snprintf(c.address, sizeof c.address, "127.0.0.1:%d", port);
    for (size_t i = 0; i < CLIENTS; i++)
        KIT_CHECK(pthread_create(&clients[i], NULL, client_main, &c) == 0, "no thread");
    size_t kills = kill_often(&c);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(clients[i], NULL);
    audit(&c);
    printf(
        "%zu posts with %d keys: %zu tries, %zu without an answer, %zu times 409, %zu times 503, "
        "%zu replays; %zu kills in %lld ms\n",
        c.posts, KEYS, c.tries, c.refused, c.again, c.busy, c.replays, kills,
        (long long)(kit_ms() - begin));
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_posts_test VICTIM");
    kit_guard();
    const char *victim = kit_program(argv[1]);
    uint64_t random = kit_seed();
    int port, held = hold_port(&port);
    for (int i = 0; i < (kit_long() ? 100 : 4); i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d.db", i);
        campaign_on(victim, name, port, &random);
    }
    close(held);
    return 0;
}
