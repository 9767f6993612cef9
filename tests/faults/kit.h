/* kit: what tests that start and kill programs share: a scratch directory and children that are gone
 * at the end whatever happens, a seed that is printed, deadlines, and a program's output. */
#ifndef HK_FAULTS_KIT_H
#define HK_FAULTS_KIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Nothing takes that long unless it hangs, also under a sanitizer on a busy machine. */
#define KIT_HUNG_MS 60000

/* To be called first in main: the rest of the program runs in a child. When that ends, or the test is
 * told to stop, its descendants are killed and the scratch directory is removed. */
void kit_guard(void);
const char *kit_dir(void);                  /* the scratch directory */
const char *kit_path(const char *name);     /* a path in it; stays allocated */
const char *kit_program(const char *path);  /* absolute, so that it is found from any directory */
bool kit_brief(void);                       /* HARK_TEST_BRIEF is set: a slow build */
bool kit_long(void);                        /* HARK_TEST_LONG is set */
uint64_t kit_seed(void);                    /* HARK_TEST_SEED or a fresh one; printed once */
uint64_t kit_random(uint64_t *state);       /* splitmix64 */
uint64_t kit_hash(const void *p, size_t n); /* FNV-1a */
int64_t kit_ms(void);                       /* monotonic */
/* Makes an array longer when it is full; what is new is zero. */
void *kit_grow(void *p, size_t n, size_t *cap, size_t size);
/* Waits for a change of what the lock guards, or 2 ms; the lock is held. */
void kit_await_locked(pthread_cond_t *changed, pthread_mutex_t *lock);

/* Ends the test as failed, with a text. */
_Noreturn void kit_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define KIT_CHECK(cond, ...)                                                                       \
    do {                                                                                           \
        if (!(cond))                                                                               \
            kit_fail(__VA_ARGS__);                                                                 \
    } while (0)

/* A running program; `out` is its standard output. */
typedef struct kit_proc {
    pid_t pid;
    int out;
    int err; /* -1 when it goes to a file */
} kit_proc;

typedef struct kit_how {
    const char *err_path; /* standard error goes there (truncated); NULL = a pipe */
    const char *in_dir;   /* working directory; NULL = the scratch directory */
    bool no_override;     /* file modes hold for root too */
} kit_how;

kit_proc kit_start(const char *const *argv, const kit_how *how);
/* Waits for its end; returns the status of waitpid, or fails when it hangs. */
int kit_wait(kit_proc *p, int64_t ms);
/* kill -9 and wait. */
void kit_kill(kit_proc *p);

typedef struct kit_output {
    int status; /* of waitpid */
    char out[65536];
    char err[65536];
} kit_output;

/* Runs a program to its end. */
void kit_run(const char *const *argv, const kit_how *how, kit_output *ret);
/* Collects the output of a running program until its end. */
void kit_finish(kit_proc *p, kit_output *ret);
bool kit_exited(int status, int code);

/* What a program says, cut into lines; zeroed for each program. */
typedef struct kit_lines {
    char line[512];
    size_t n;
} kit_lines;

/* Reads what is there, or waits for it, and hands over each whole line without its end; false at the
 * end of the output. */
bool kit_read_lines(kit_lines *l, int fd, void (*take)(void *ud, const char *line), void *ud);

/* Starts a quickstart and waits for the line that tells its port; lines before it are lost. */
kit_proc kit_quickstart(const char *program, const char *store, const char *err_path,
                        int *ret_port);
/* Waits until it serves, sends SIGTERM, and expects it to end well. */
void kit_stop(kit_proc *p, int port);

/* The whole file, NUL-terminated, malloc'ed; NULL when there is none. */
char *kit_slurp(const char *path, size_t *ret_len);
void kit_write_file(const char *path, const void *data, size_t len);
/* Names in a directory, sorted, each followed by a space; malloc'ed. */
char *kit_list(const char *dir);

#endif
