/* The in-flight slots of the crash guard: a file PATH-inflight beside the database, mapped, in which
 * workers say what they have in hand. It outlives the process, not the machine, so nothing is
 * flushed. Opening counts what an earlier process left there and removes the file; the first
 * consumer makes a new one. It is preallocated, because a store to a hole on a full disk is SIGBUS,
 * and grows by chunks that never move. Where it cannot be made the log works without: a warning, and
 * slots_take gives none.
 *
 * A handler that was abandoned at a drain still has its slot when the store is closed, so chunks
 * with slots that are out are not unmapped but cut off from the file. */
#include "store/sqlite/slots_i.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct chunk {
    struct chunk *next;
    hark_store_slot *slots; /* in the first chunk the header is the first of them */
    size_t n;
    uint8_t taken[];
} chunk;

struct hk_slots {
    pthread_mutex_t lock;
    char *path;
    int fd;    /* -1 = no file yet, */
    bool none; /* and there will be none */
    dev_t dev; /* which one it is */
    ino_t ino;
    size_t places;
    hk_slots_head *head;
    chunk *chunks;
};

/* ---- the file -------------------------------------------------------------------------------- */

/* No crash guard in this run, or no more of it. */
static void warn(const hk_slots *f, const char *what, int error)
{
    hk_log(HK_WARN,
           "%s: cannot %s: %s; crashes of handlers are not counted: make its directory writable "
           "and free some space, then open the log again",
           f->path, what, strerror(error));
}

static int allocate(int fd, size_t places, size_t more)
{
    const size_t size = sizeof(hark_store_slot);
    int error;
    do
        error = posix_fallocate(fd, (off_t)(places * size), (off_t)(more * size));
    while (error == EINTR);
    return error;
}

/* Adds a chunk with at least so many places; returns an errno. */
static int grow(hk_slots *f, size_t places)
{
    size_t n = (places + HK_SLOTS_CHUNK - 1) / HK_SLOTS_CHUNK * HK_SLOTS_CHUNK;
    if (n > HK_SLOTS_MAX - f->places)
        return EFBIG;
    int error = allocate(f->fd, f->places, n);
    chunk *c = error ? NULL : calloc(1, sizeof *c + n);
    if (!c)
        return error ? error : ENOMEM;
    void *at = mmap(NULL, n * sizeof *c->slots, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd,
                    (off_t)(f->places * sizeof *c->slots));
    if (at == MAP_FAILED) {
        error = errno;
        free(c);
        return error;
    }
    c->slots = at;
    c->n = n;
    c->next = f->chunks;
    f->chunks = c;
    f->places += n;
    if (f->head)
        f->head->places = f->places;
    return 0;
}

static void write_head(hk_slots *f, const hark_store *s)
{
    hk_slots_head head = {.version = HK_SLOTS_VERSION, .slot_size = sizeof(hark_store_slot)};
    memcpy(head.magic, HK_SLOTS_MAGIC, sizeof head.magic);
    memcpy(head.log_id, s->log_id, sizeof head.log_id);
    hk_random(head.run, sizeof head.run);
    head.check = hk_slots_head_check(&head);
    head.places = f->places;
    f->head = (hk_slots_head *)(void *)f->chunks->slots;
    f->chunks->taken[0] = 1;
    *f->head = head;
}

/* Makes the file, with room for n slots. */
static void make_file(hk_slots *f, const hark_store *s, size_t n)
{
    struct stat st;
    f->none = true;
    f->fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    if (f->fd < 0) {
        warn(f, "make it", errno);
        return;
    }
    int error = fstat(f->fd, &st) == 0 ? grow(f, n + 1) : errno;
    if (error) {
        warn(f, "make room in it", error);
        (void)unlink(f->path);
        close(f->fd);
        f->fd = -1;
        return;
    }
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    write_head(f, s);
    f->none = false;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static hark_store_slot *take_from(chunk *c, size_t n)
{
    size_t free_run = 0;
    for (size_t i = 0; i < c->n; i++) {
        free_run = c->taken[i] ? 0 : free_run + 1;
        if (free_run == n) {
            memset(&c->taken[i + 1 - n], 1, n);
            return &c->slots[i + 1 - n];
        }
    }
    return NULL;
}

static hark_store_slot *take_locked(hk_slots *f, size_t n)
{
    hark_store_slot *slots = NULL;
    for (chunk *c = f->chunks; c && !slots; c = c->next)
        slots = take_from(c, n);
    return slots;
}

hark_err hk_slots_take(hark_store *s, size_t n, hark_store_slot **ret, hark_errinfo *ei)
{
    hk_slots *f = s->slots;
    int error = 0;
    if (n == 0 || n >= HK_SLOTS_MAX)
        return hk_fail(ei, HARK_EINVAL, "%zu slots; take 1 to %d", n, HK_SLOTS_MAX - 1);
    pthread_mutex_lock(&f->lock);
    if (f->fd < 0 && !f->none)
        make_file(f, s, n);
    *ret = take_locked(f, n);
    if (!*ret && !f->none && (error = grow(f, n)) == 0)
        *ret = take_locked(f, n);
    pthread_mutex_unlock(&f->lock);
    if (error)
        warn(f, "make more room in it", error);
    return HARK_OK;
}

void hk_slots_give(hark_store *s, hark_store_slot *slots, size_t n)
{
    hk_slots *f = s->slots;
    if (!slots)
        return;
    pthread_mutex_lock(&f->lock);
    for (chunk *c = f->chunks; c; c = c->next)
        if (slots >= c->slots && slots < c->slots + c->n) {
            memset(slots, 0, n * sizeof *slots);
            memset(&c->taken[slots - c->slots], 0, n);
        }
    pthread_mutex_unlock(&f->lock);
}

/* ---- opening and closing --------------------------------------------------------------------- */

/* Counts and removes what an earlier process left. Where that cannot be done for the moment the file
 * waits for the next opening. */
static hark_err settle_left(hark_store *s, hk_slots *f, hark_errinfo *ei)
{
    hk_slots_left left = {0};
    hark_err err = hk_slots_read(s, f->path, &left, ei);
    if (!err && left.n > 0)
        err = hk_slots_merge(s, &left, ei);
    free(left.slots);
    f->none = left.keep;
    if (err == HARK_EFULL) {
        hk_log(HK_WARN,
               "%s: free some space, then open the log again to have what the last "
               "process left in hand counted",
               f->path);
        f->none = true;
        return HARK_OK;
    }
    if (!err && left.there && unlink(f->path) != 0) {
        warn(f, "remove it", errno);
        f->none = true;
    }
    return err;
}

hark_err hk_slots_open(hark_store *s, hark_errinfo *ei)
{
    hk_slots *f = calloc(1, sizeof *f);
    hk_buf path = {0};
    hk_buf_addf(&path, "%s-inflight", s->path);
    if (!f || path.failed) {
        hk_buf_free(&path);
        free(f);
        return hk_fail(ei, HARK_ENOMEM, "no memory to open %s", s->path);
    }
    pthread_mutex_init(&f->lock, NULL);
    f->path = hk_buf_steal(&path, NULL);
    f->fd = -1;
    s->slots = f;
    return settle_left(s, f, ei);
}

/* Unmaps a chunk; with slots that are out, its memory stays and is nobody's business any more. */
static void end_chunk(chunk *c, size_t first)
{
    size_t len = c->n * sizeof *c->slots;
    if (!memchr(c->taken + first, 1, c->n - first))
        (void)munmap(c->slots, len);
    else if (mmap(c->slots, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                  -1, 0) == MAP_FAILED)
        hk_log(HK_WARN, "no memory to cut off the slots of handlers that still run");
    free(c);
}

/* A forked child closes what it inherited; the file is its parent's. */
static bool owns_file(const hark_store *s, const hk_slots *f)
{
    struct stat st;
    return s->lock && s->lock->pid == getpid() && lstat(f->path, &st) == 0 && st.st_dev == f->dev &&
           st.st_ino == f->ino;
}

void hk_slots_close(hark_store *s)
{
    hk_slots *f = s->slots;
    if (!f)
        return;
    if (f->fd >= 0) {
        if (owns_file(s, f))
            (void)unlink(f->path);
        close(f->fd);
    }
    while (f->chunks) {
        chunk *c = f->chunks;
        f->chunks = c->next;
        end_chunk(c, (void *)c->slots == (void *)f->head);
    }
    pthread_mutex_destroy(&f->lock);
    free(f->path);
    free(f);
    s->slots = NULL;
}
