/* PostgreSQL for tests: Debian keeps each version's programs in a directory of its own, outside of
 * PATH; the newest is taken. */
#include "servers_i.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#define VERSIONS "/usr/lib/postgresql"

/* The lines of postmaster.pid that matter here. */
enum { PID_LINE = 1, SHM_LINE = 7, STATUS_LINE = 8, FIELD_MAX = 128 };

static void program(const char *name, char *ret, size_t size)
{
    long newest = 0;
    DIR *d = opendir(VERSIONS);
    for (const struct dirent *e; d && (e = readdir(d));) {
        (void)snprintf(ret, size, VERSIONS "/%.20s/bin/postgres", e->d_name);
        long version = strtol(e->d_name, NULL, 10);
        if (version > newest && access(ret, X_OK) == 0)
            newest = version;
    }
    if (d)
        (void)closedir(d);
    if (newest)
        (void)snprintf(ret, size, VERSIONS "/%ld/bin/%s", newest, name);
    else
        (void)snprintf(ret, size, "%s", name);
}

static bool prepare(keeper *k)
{
    char initdb[FIELD_MAX];
    program("initdb", initdb, sizeof initdb);
    return keeper_run(k, (const char *const[]){initdb, "--no-sync", "--no-instructions", "-A",
                                               "trust", "-U", "hark", "-E", "UTF8", "--locale=C",
                                               "-D", "data", NULL});
}

/* No socket files, and no shared memory but what goes with the directory. */
static void command(keeper *k, const char **argv)
{
    static char postgres[FIELD_MAX], port[32];
    static const char *const fixed[] = {"listen_addresses=127.0.0.1",
                                        "unix_socket_directories=",
                                        "dynamic_shared_memory_type=mmap",
                                        "shared_buffers=16MB",
                                        "max_connections=50",
                                        "deadlock_timeout=200ms",
                                        NULL};
    size_t n = 0;
    program("postgres", postgres, sizeof postgres);
    (void)snprintf(port, sizeof port, "port=%d", k->port);
    argv[n++] = postgres;
    argv[n++] = "-D";
    argv[n++] = "data";
    argv[n++] = "-c";
    argv[n++] = port;
    for (const char *const *list = fixed; list; list = list == fixed ? k->settings : NULL)
        for (const char *const *s = list; *s && n < ARGV_MAX - 2; s++) {
            argv[n++] = "-c";
            argv[n++] = *s;
        }
}

/* A line of the file in which a running server tells about itself. */
static bool pid_file_line(const char *dir, int number, char ret[FIELD_MAX])
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/data/postmaster.pid", dir);
    FILE *f = fopen(path, "r");
    int i = 0;
    while (f && i < number && fgets(ret, FIELD_MAX, f))
        i++;
    if (f)
        (void)fclose(f);
    return i == number;
}

static bool answers(keeper *k)
{
    char line[FIELD_MAX];
    return pid_file_line(k->dir, PID_LINE, line) && strtol(line, NULL, 10) == (long)k->pid &&
           pid_file_line(k->dir, STATUS_LINE, line) && strncmp(line, "ready", 5) == 0;
}

static bool born(keeper *k)
{
    char createdb[FIELD_MAX], port[16];
    program("createdb", createdb, sizeof createdb);
    (void)snprintf(port, sizeof port, "%d", k->port);
    return keeper_run(k, (const char *const[]){createdb, "-h", "127.0.0.1", "-p", port, "-U",
                                               "hark", "--maintenance-db=postgres", "hark", NULL});
}

/* One that was killed leaves a segment of shared memory behind; it is recognised by its key, too. */
static void gone(const char *dir)
{
    char line[FIELD_MAX];
    unsigned long key;
    int id;
    struct shmid_ds ds;
    if (!pid_file_line(dir, SHM_LINE, line) || sscanf(line, "%lu %d", &key, &id) != 2)
        return;
    if (shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_nattch == 0 &&
        (unsigned long)ds.shm_perm.__key == key)
        (void)shmctl(id, IPC_RMID, NULL);
}

const server_kind server_kind_postgres = {
    .name = "PostgreSQL",
    .url = "postgresql://hark@127.0.0.1",
    .path = "/hark",
    .users = (const char *const[]){"postgres", "nobody", NULL},
    .stop = SIGINT,
    .abandon = SIGQUIT,
    .prepare = prepare,
    .command = command,
    .answers = answers,
    .born = born,
    .gone = gone,
};

server *server_postgres(const char *const *settings)
{
    return server_new(&server_kind_postgres, settings, NULL);
}
