/* servers: real PostgreSQL and Redis servers for tests, from the programs that are installed here. Each
 * has a free port of its own on 127.0.0.1 and a scratch directory, in memory where there is room. A
 * keeper, a process of its own, runs it, and removes server and directory when the test program ends,
 * however it ends; so servers may be started from any thread. What cannot be done aborts the test with
 * the end of the server's log. */
#ifndef HK_SERVERS_H
#define HK_SERVERS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct server server;

/* A server that answers. `settings` end with NULL, or are NULL: "name=value" for PostgreSQL, arguments
 * for Redis ("--maxmemory", "10mb"). PostgreSQL: the role hark, a superuser, is let in without a password,
 * the database is hark, fsync is on. Redis: every command is synced (appendfsync always). */
server *server_postgres(const char *const *settings);
server *server_redis(const char *const *settings);
/* By the scheme of its URL: "postgresql" or "redis"; NULL when there is no such server. */
server *server_of(const char *scheme);

/* One whose disk can be full: no file becomes longer then. `preload` is the path of the library that
 * tests/servers/full.c makes. */
server *server_with_disk(const char *scheme, const char *const *settings, const char *preload);
void server_disk_full(server *s, bool full);

/* "postgresql://hark@127.0.0.1:PORT/hark", "redis://127.0.0.1:PORT"; lasts as long as the server. */
const char *server_url(const server *s);
int server_port(const server *s);
const char *server_dir(const server *s); /* the log is in its file "log", data in "data" */

/* These return when it is so. */
void server_stop(server *s);      /* in good order, all sessions ended */
void server_kill(server *s);      /* all its processes at once: SIGKILL */
void server_start(server *s);     /* after its end: the same port and data; it answers */
void server_await_end(server *s); /* until it has ended by itself */
void server_freeze(server *s);    /* all its processes stand still: SIGSTOP */
void server_thaw(server *s);      /* and go on: SIGCONT */

/* Not running any more, and the scratch directory is gone. NULL is fine. At the program's exit this is
 * done with all that are left. */
void server_free(server *s);

#endif
