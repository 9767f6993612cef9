/* A scratch server for the rows of the stores: store_server postgresql|redis [SETTING...]. It prints its
 * port as JSON and runs until SIGTERM; server and files are gone then. It lives in the directory in
 * HARK_SERVER_DIR, so that a sync costs what it costs on that disk. Settings as in tests/servers.
 */
#include "servers.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    const char *settings[40] = {NULL}; /* the rest stay NULL, which ends the list */
    sigset_t end;
    int sig;
    for (int i = 2; i < argc && i < 40; i++)
        settings[i - 2] = argv[i];
    bool postgres = argc > 1 && strcmp(argv[1], "postgresql") == 0;
    if (!postgres && (argc < 2 || strcmp(argv[1], "redis") != 0)) {
        (void)fprintf(stderr, "usage: %s postgresql|redis [SETTING...]\n", argv[0]);
        return 64;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive who started it */
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    sigprocmask(SIG_BLOCK, &end, NULL);
    server *s = postgres ? server_postgres(settings) : server_redis(settings);
    printf("{\"name\":\"%s\",\"url\":\"%s\",\"port\":%d}\n", argv[1], server_url(s),
           server_port(s));
    fflush(stdout);
    (void)sigwait(&end, &sig);
    server_free(s);
    return 0;
}
