/* A server's directory and port. The directory is in memory where there is room, for syncs that cost
 * nothing, or where HARK_SERVER_DIR says; a lock on it tells others that its keeper lives. The port is
 * outside of what the kernel gives away by itself, so that it is still free when a server comes back to
 * it. */
#include "servers_i.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "hark-server-"

enum { ENOUGH_MB = 512, STALE_S = 30, LOWEST_PORT = 10000, PORT_TRIES = 1000 };

/* ---- directories ---- */

static const char *base(void)
{
    struct statvfs v;
    const char *tmp = getenv("TMPDIR"), *wanted = getenv("HARK_SERVER_DIR");
    if (wanted)
        return wanted;
    if (access("/dev/shm", W_OK | X_OK) == 0 && statvfs("/dev/shm", &v) == 0 &&
        v.f_bavail / 1024 * v.f_frsize / 1024 >= ENOUGH_MB)
        return "/dev/shm";
    return tmp ? tmp : "/tmp";
}

bool scratch_make(char ret[80])
{
    int n = snprintf(ret, 80, "%s/" PREFIX "XXXXXX", base());
    return n < 80 && mkdtemp(ret) && chmod(ret, 0755) == 0;
}

/* A file whose lock lasts as long as it is open here, or -1. */
static int lock(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

void scratch_hold(const char *dir)
{
    (void)lock(dir); /* open until the process ends */
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void scratch_remove(const char *dir)
{
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        (void)fprintf(stderr, "cannot remove %s: %s\n", dir, strerror(errno));
}

/* Is it ours to remove, and has it been so for a while? A new one is not locked yet. */
static bool is_stale(const char *dir)
{
    struct stat st;
    return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && time(NULL) - st.st_mtime > STALE_S &&
           access(dir, W_OK) == 0;
}

void scratch_sweep(void)
{
    char path[320];
    const char *where = base();
    DIR *d = opendir(where);
    for (const struct dirent *e; d && (e = readdir(d));) {
        (void)snprintf(path, sizeof path, "%s/%s", where, e->d_name);
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 || !is_stale(path))
            continue;
        int mine = lock(path); /* not if its keeper lives */
        if (mine < 0)
            continue;
        server_kind_postgres.gone(path);
        scratch_remove(path);
        (void)close(mine);
    }
    if (d)
        (void)closedir(d);
}

/* ---- ports ---- */

/* Among keepers: a name that lasts as long as the socket. */
static int claim(int port)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int n = snprintf(sa.sun_path + 1, sizeof sa.sun_path - 1, "hark-server-port-%d", port);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&sa, len) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static bool is_free(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
    if (fd >= 0)
        (void)close(fd);
    return bound;
}

/* The end of the ports that the kernel does not give away. */
static int highest_port(void)
{
    int low = 0;
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (f && fscanf(f, "%d", &low) != 1)
        low = 0;
    if (f)
        (void)fclose(f);
    return low > LOWEST_PORT + PORT_TRIES ? low : 65536;
}

int port_claim(int *ret_claim)
{
    int end = highest_port();
    for (int i = 0; i < PORT_TRIES; i++) {
        uint32_t r;
        if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
            return 0;
        int port = LOWEST_PORT + (int)(r % (uint32_t)(end - LOWEST_PORT));
        *ret_claim = claim(port);
        if (*ret_claim >= 0 && is_free(port))
            return port;
        if (*ret_claim >= 0)
            (void)close(*ret_claim);
        *ret_claim = -1;
    }
    return 0;
}
