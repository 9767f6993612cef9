/* with_server SCHEME PROGRAM [ARGUMENT...]: runs a program beside a fresh server that is gone when the
 * program has ended. The server's URL is in HARK_TEST_SERVER, and in place of each argument {}. Exits as
 * the program does:
 *
 *   with_server postgresql psql {}
 *   with_server redis examples/quickstart --store {} */
#include "servers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void become(char **argv, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        (void)execvp(argv[0], argv);
    (void)fprintf(stderr, "with_server: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int run(char **argv)
{
    int status = 0;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(argv, parent);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid < 0)
        perror("with_server: fork");
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    char *url;
    server *s = argc > 2 ? server_of(argv[1]) : NULL;
    if (!s) {
        (void)fprintf(stderr, "usage: %s postgresql|redis PROGRAM [ARGUMENT...]\n", argv[0]);
        return 64;
    }
    url = strdup(server_url(s));
    if (!url || setenv("HARK_TEST_SERVER", url, 1) != 0)
        abort();
    for (int i = 3; i < argc; i++)
        if (strcmp(argv[i], "{}") == 0)
            argv[i] = url;
    int status = run(argv + 2);
    server_free(s);
    free(url);
    return status;
}
