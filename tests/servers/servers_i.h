/* The inside of the servers' kit: what a kind of server consists of, and the keeper's tools for it.
 * servers.c runs in the test program; everything here runs in the keeper. */
#ifndef HK_SERVERS_I_H
#define HK_SERVERS_I_H

#include "servers.h"

#include <sys/types.h>

enum { ARGV_MAX = 64 };

typedef struct keeper keeper;

/* A kind of server. The functions return false when they fail, after keeper_says. */
typedef struct server_kind {
    const char *name;
    const char *url, *path;     /* what is before and behind the port */
    const char *const *users;   /* whom to run as instead of root; NULL = root will do */
    int stop;                   /* the signal that ends it in good order */
    int abandon;                /* the one for when nobody will use it again */
    bool (*prepare)(keeper *k); /* before the first start; may be NULL */
    void (*command)(keeper *k, const char **ret_argv); /* ARGV_MAX entries, zeroed */
    bool (*answers)(keeper *k);                        /* once; does not wait */
    bool (*born)(keeper *k);       /* it answers for the first time; may be NULL */
    void (*gone)(const char *dir); /* it runs no more; may be NULL */
} server_kind;

extern const server_kind server_kind_postgres, server_kind_redis;

struct keeper {
    const server_kind *kind;
    const char *const *settings;
    const char *preload; /* a library's path, or NULL */
    char dir[80];        /* its scratch directory */
    int port;
    int claim; /* a socket: the port is ours among the keepers; -1 = not yet */
    uid_t uid; /* whom to run as */
    gid_t gid;
    pid_t pid; /* of the server; 0 = not running */
    bool born;
    char error[400];
};

/* preload: a library for the server, or NULL. */
server *server_new(const server_kind *kind, const char *const *settings, const char *preload);

/* The keeper's life: obeys what comes over the socket, and cleans up at its end. */
_Noreturn void keeper_main(keeper *k, int sock);
/* What the test asks for: one byte each; the answer is keeper_answer. */
typedef enum keeper_op { OP_START, OP_STOP, OP_KILL, OP_FREEZE, OP_THAW, OP_AWAIT_END } keeper_op;
typedef struct keeper_answer {
    bool ok;
    int port;
    char error[400];
} keeper_answer;

/* Keeps the text of what failed; false, so that callers return it. */
bool keeper_says(keeper *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Runs a program to its end, as the server's user, its output to the log; argv ends with NULL. */
bool keeper_run(keeper *k, const char *const *argv);

/* procs.c: processes by the number of their parent. */
void procs_signal_children(pid_t of, int sig); /* of all generations */
bool procs_all_stopped(pid_t of);              /* it and all below stand still */
void procs_reap(void);                         /* kills and reaps all below this process */
bool procs_wait(pid_t pid, int ms);            /* has it ended? It is not reaped. */

/* scratch.c: directories and ports. */
bool scratch_make(char ret[80]);
void scratch_hold(const char *dir); /* until this process ends, nobody sweeps it away */
void scratch_remove(const char *dir);
/* Removes what killed keepers have left behind. */
void scratch_sweep(void);
int port_claim(int *ret_claim); /* a free port, or 0 */

#endif
