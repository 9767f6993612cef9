/* The test program's side of a server: a handle that sends wishes to the server's keeper. The keeper
 * learns of this program's end by the end of the socket between them. */
#include "servers_i.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
    const server_kind *kind;
    pid_t keeper;
    int sock, port;
    char dir[80], url[80];
    pthread_mutex_t lock; /* one wish at a time */
    server *next;
};

/* All that are not freed, for the program's exit. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static server *all;
static pid_t owner;

/* ---- failing ---- */

static void show_log(const char *dir)
{
    char path[96], buf[4096];
    (void)snprintf(path, sizeof path, "%s/log", dir);
    FILE *f = fopen(path, "rb");
    if (!f)
        return;
    if (fseek(f, -(long)sizeof buf, SEEK_END) != 0)
        rewind(f);
    size_t n = fread(buf, 1, sizeof buf, f);
    (void)fclose(f);
    (void)fprintf(stderr, "---- the end of its log:\n%.*s----\n", (int)n, buf);
}

static _Noreturn void give_up(const server *s, const char *what, const char *why)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "FAILED: %s a test's %s: %s\n", what, s->kind->name, why);
    show_log(s->dir);
    abort();
}

/* ---- wishes ---- */

static void ask(server *s, keeper_op op, const char *what)
{
    const unsigned char wish = (unsigned char)op;
    keeper_answer a = {.ok = false};
    ssize_t n;
    pthread_mutex_lock(&s->lock);
    if (send(s->sock, &wish, 1, MSG_NOSIGNAL) != 1)
        give_up(s, what, "its keeper is gone");
    do
        n = recv(s->sock, &a, sizeof a, 0);
    while (n < 0 && errno == EINTR);
    pthread_mutex_unlock(&s->lock);
    if (n != (ssize_t)sizeof a)
        give_up(s, what, "its keeper is gone");
    if (!a.ok)
        give_up(s, what, a.error);
    s->port = a.port;
}

void server_stop(server *s)
{
    ask(s, OP_STOP, "stopping");
}

void server_kill(server *s)
{
    ask(s, OP_KILL, "killing");
}

void server_start(server *s)
{
    ask(s, OP_START, "starting");
}

void server_freeze(server *s)
{
    ask(s, OP_FREEZE, "freezing");
}

void server_thaw(server *s)
{
    ask(s, OP_THAW, "thawing");
}

void server_await_end(server *s)
{
    ask(s, OP_AWAIT_END, "waiting for the end of");
}

const char *server_url(const server *s)
{
    return s->url;
}

int server_port(const server *s)
{
    return s->port;
}

const char *server_dir(const server *s)
{
    return s->dir;
}

/* ---- beginning and end ---- */

static void end(server *s)
{
    (void)close(s->sock);
    while (waitpid(s->keeper, NULL, 0) < 0 && errno == EINTR)
        continue;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void end_all(void)
{
    if (getpid() != owner) /* a child of the test's; the servers are not its */
        return;
    for (server *s = all, *next; s; s = next) {
        next = s->next;
        end(s);
    }
    all = NULL;
}

void server_free(server *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&all_lock);
    server **at = &all;
    while (*at && *at != s)
        at = &(*at)->next;
    if (*at)
        *at = s->next;
    pthread_mutex_unlock(&all_lock);
    end(s);
}

static void remember(server *s)
{
    pthread_mutex_lock(&all_lock);
    if (owner != getpid()) {
        owner = getpid();
        (void)atexit(end_all);
    }
    s->next = all;
    all = s;
    pthread_mutex_unlock(&all_lock);
}

/* Whom the server runs as: there are some that refuse to be root. */
static bool choose_user(const server_kind *kind, keeper *k)
{
    k->uid = geteuid();
    k->gid = getegid();
    for (const char *const *name = kind->users; k->uid == 0 && name && *name; name++) {
        const struct passwd *p = getpwnam(*name);
        if (p) {
            k->uid = p->pw_uid;
            k->gid = p->pw_gid;
        }
    }
    return k->uid != 0 || !kind->users;
}

static void hire(server *s, keeper *k)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        give_up(s, "starting", strerror(errno));
    (void)fflush(NULL);
    s->keeper = fork();
    if (s->keeper < 0)
        give_up(s, "starting", strerror(errno));
    if (s->keeper == 0)
        keeper_main(k, ends[1]);
    (void)close(ends[1]);
    s->sock = ends[0];
}

server *server_new(const server_kind *kind, const char *const *settings, const char *preload)
{
    keeper k = {.kind = kind, .settings = settings, .preload = preload, .claim = -1};
    server *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->kind = kind;
    s->sock = -1;
    pthread_mutex_init(&s->lock, NULL);
    scratch_sweep();
    if (!choose_user(kind, &k))
        give_up(s, "starting", "it does not run as root, and there is no user for it");
    if (!scratch_make(k.dir))
        give_up(s, "starting", "no scratch directory, neither in /dev/shm nor in TMPDIR");
    (void)snprintf(s->dir, sizeof s->dir, "%s", k.dir);
    hire(s, &k);
    remember(s);
    server_start(s);
    (void)snprintf(s->url, sizeof s->url, "%s:%d%s", kind->url, s->port, kind->path);
    return s;
}

static const server_kind *kind_of(const char *scheme)
{
    if (strcmp(scheme, "postgresql") == 0)
        return &server_kind_postgres;
    return strcmp(scheme, "redis") == 0 ? &server_kind_redis : NULL;
}

server *server_of(const char *scheme)
{
    const server_kind *kind = kind_of(scheme);
    return kind ? server_new(kind, NULL, NULL) : NULL;
}

server *server_with_disk(const char *scheme, const char *const *settings, const char *preload)
{
    const server_kind *kind = kind_of(scheme);
    return kind ? server_new(kind, settings, preload) : NULL;
}

void server_disk_full(server *s, bool full)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/full", s->dir);
    FILE *f = full ? fopen(path, "w") : NULL;
    if (full ? !f || fclose(f) != 0 : unlink(path) != 0)
        give_up(s, "filling the disk of", strerror(errno));
}
