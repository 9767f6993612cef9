/* The audit of a crew's lines is tested itself: what is allowed passes, and each way to break a promise
 * is found. */
#include "trail.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* H who pid key number sequence attempt us */
#define H(who, n, seq, attempt) "H " #who " 1 0 " #n " " #seq " " #attempt " 5\n"
#define A(who, n)               "A " #who " 0 " #n "\n"
#define R(who, n)               "R " #who " 0 " #n "\n"

typedef struct sample {
    const char *name, *lines;
    const char *says; /* NULL: it is fine */
} sample;

static const sample samples[] = {
    {"one after the other", H(1, 1, 1, 1) A(1, 1) H(2, 2, 5, 1) A(2, 2), NULL},
    {"a retry here", H(1, 1, 1, 1) R(1, 1) H(1, 1, 1, 2) A(1, 1), NULL},
    {"a retry there", H(1, 1, 1, 1) R(1, 1) H(2, 1, 1, 2) A(2, 1), NULL},
    {"in hand when it was killed", H(1, 1, 1, 1) "K 1\nG 1\n" H(2, 1, 1, 1) A(2, 1), NULL},
    {"taken over before it was gone", H(1, 1, 1, 1) "K 1\n" H(2, 1, 1, 1) A(1, 1) "G 1\n" A(2, 1),
     NULL},
    {"what was acked, not committed",
     H(1, 1, 1, 1) A(1, 1) H(1, 2, 2, 1) A(1, 2) "K 1\nG 1\n" H(2, 1, 1, 1) A(2, 1) H(2, 2, 2, 1)
         A(2, 2) H(2, 3, 3, 1) A(2, 3),
     NULL},
    {"a retry that was not committed", H(1, 1, 1, 1) R(1, 1) "K 1\nG 1\n" H(2, 1, 1, 1) A(2, 1),
     NULL},
    {"a stop, and what comes late",
     H(1, 1, 1, 1) "P 1\n" H(2, 1, 1, 1) A(2, 1) "C 1\nX 1 0 1\n" H(1, 2, 2, 1) A(1, 2), NULL},
    {"one that was about to begin",
     "P 1\n" H(2, 1, 1, 1) A(2, 1) "C 1\n" H(1, 1, 1, 1) A(1, 1) H(2, 2, 2, 1) A(2, 2), NULL},
    {"left out", H(1, 1, 1, 1) A(1, 1) H(1, 3, 3, 1), "leaves some out"},
    {"left out after a kill",
     H(1, 1, 1, 1) A(1, 1) H(1, 2, 2, 1) A(1, 2) "K 1\nG 1\n" H(2, 1, 1, 1) A(2, 1) H(2, 3, 3, 1),
     "leaves some out"},
    {"lost with its process", H(1, 1, 1, 1) "K 1\nG 1\n" H(2, 2, 2, 1), "ended with -"},
    {"before its retry", H(1, 1, 1, 1) R(1, 1) H(1, 2, 2, 1), "ended with R"},
    {"two at a time", H(1, 1, 1, 1) H(2, 2, 2, 1), "has not ended with number 1"},
    {"the same at a time", H(1, 1, 1, 1) H(2, 1, 1, 1), "has not ended with number 1"},
    {"again without a death", H(1, 1, 1, 1) A(1, 1) H(2, 1, 1, 1), "comes again"},
    {"again beyond a death", H(1, 1, 1, 1) A(1, 1) H(2, 2, 2, 1) A(2, 2) "K 2\nG 2\n" H(1, 1, 1, 1),
     "comes again"},
    {"a retry that lost count", H(1, 1, 1, 1) R(1, 1) H(1, 1, 1, 1), "was the last before"},
    {"a first time that is none", H(1, 1, 1, 2), "attempt 1"},
    {"two sequences", H(1, 1, 1, 1) R(1, 1) H(1, 1, 2, 2), "it had sequence 1"},
    {"sequences out of order", H(1, 1, 9, 1) A(1, 1) H(1, 2, 8, 1), "has sequence 9"},
    {"from the grave", "K 1\nG 1\n" H(1, 1, 1, 1), "is gone"},
    {"standing still, and working", "P 1\n" H(1, 1, 1, 1), "standing still"},
    {"too much that is late",
     "P 1\n" H(2, 1, 1, 1) A(2, 1) "C 1\n" H(1, 1, 1, 1) A(1, 1) H(1, 1, 1, 1), "comes again"},
    {"late, and it counts", H(1, 1, 1, 1) "P 1\n" H(2, 1, 1, 1) "C 1\nA 1 0 1\n" H(1, 2, 2, 1),
     "has not ended"},
    {"never published", H(1, 9, 9, 1), "never published"},
    {"an end without a beginning", A(1, 1), "did not have"},
    {"rejected for nothing", H(1, 1, 1, 1) "X 1 0 1\n", "without having stood still"},
};

static trail seen;

static _Noreturn void read_it(const crew *c, const crew_speaker *speaker)
{
    int err = open(kit_path("said"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (dup2(err, STDERR_FILENO) < 0)
        _exit(2);
    trail_open(&seen, c, speaker);
    trail_read(&seen);
    _exit(0);
}

static void try(const sample *s)
{
    const crew c = {.path = kit_path("lines"), .how = {.workers = 1}};
    const crew_speaker speaker = {.keys = 1, .said = {4}, .total = 4};
    int status;
    kit_write_file(c.path, s->lines, strlen(s->lines));
    pid_t pid = fork();
    if (pid == 0)
        read_it(&c, &speaker);
    KIT_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    char *said = kit_slurp(kit_path("said"), NULL);
    if (!s->says)
        KIT_CHECK(kit_exited(status, 0), "'%s' is allowed, and was not: %s", s->name, said);
    else
        KIT_CHECK(kit_exited(status, 1) && strstr(said, s->says),
                  "'%s': expected '%s', got wait status %#x: %s", s->name, s->says,
                  (unsigned)status, said);
    free(said);
}

int main(void)
{
    kit_guard();
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        try(&samples[i]);
    printf("%zu samples\n", sizeof samples / sizeof *samples);
    return 0;
}
