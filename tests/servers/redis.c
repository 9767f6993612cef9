/* Redis for tests, with every command synced before it is answered unless a setting says otherwise. */
#include "servers_i.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void command(keeper *k, const char **argv)
{
    static char port[16];
    static const char *const fixed[] = {
        "--bind", "127.0.0.1",     "--daemonize", "no",     "--dir", "data", "--appendonly",
        "yes",    "--appendfsync", "always",      "--save", "",      NULL};
    size_t n = 0;
    (void)snprintf(port, sizeof port, "%d", k->port);
    argv[n++] = "redis-server";
    argv[n++] = "--port";
    argv[n++] = port;
    for (const char *const *list = fixed; list; list = list == fixed ? k->settings : NULL)
        for (const char *const *s = list; *s && n < ARGV_MAX - 1; s++)
            argv[n++] = *s;
}

static bool prepare(keeper *k)
{
    return keeper_run(k, (const char *const[]){"mkdir", "data", NULL});
}

/* It accepts before it has read its data; what it says then is that it is loading. That it wants a
 * password is an answer. */
static bool answers(keeper *k)
{
    static const char ping[] = "PING\r\n";
    char reply[64] = "";
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)k->port)};
    const struct timeval most = {.tv_sec = 1};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return false;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    bool said = connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 &&
                send(fd, ping, sizeof ping - 1, MSG_NOSIGNAL) > 0 &&
                recv(fd, reply, sizeof reply - 1, 0) > 0;
    (void)close(fd);
    return said && strncmp(reply, "-LOADING", 8) != 0;
}

const server_kind server_kind_redis = {
    .name = "Redis",
    .url = "redis://127.0.0.1",
    .path = "",
    .stop = SIGTERM,
    .abandon = SIGKILL,
    .prepare = prepare,
    .command = command,
    .answers = answers,
};

server *server_redis(const char *const *settings)
{
    return server_new(&server_kind_redis, settings, NULL);
}
