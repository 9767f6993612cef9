/* Reads the file of in-flight slots that an earlier process left. What is there is not trusted: it
 * is read, not mapped (it may be cut while it is looked at), a slot counts only with a good check, and
 * a file that is not ours is left alone. */
#include "store/sqlite/slots_i.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whole places from a place on; returns how many there were, -1 on an error. */
static ssize_t read_places(int fd, size_t at, void *ret, size_t n)
{
    const size_t size = sizeof(hark_store_slot);
    size_t got = 0;
    while (got < n * size) {
        ssize_t r = pread(fd, (char *)ret + got, n * size - got, (off_t)(at * size + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)(got / size);
}

static bool good(const hark_store_slot *slot)
{
    return (slot->state == HARK_SLOT_RUNNING || slot->state == HARK_SLOT_CRASHED) &&
           slot->check == hk_hash(slot, offsetof(hark_store_slot, address));
}

static bool add(hk_slots_left *left, size_t *cap, const hark_store_slot *slot)
{
    if (left->n == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        hark_store_slot *slots = realloc(left->slots, more * sizeof *slots);
        if (!slots)
            return false;
        left->slots = slots;
        *cap = more;
    }
    left->slots[left->n++] = *slot;
    return true;
}

/* Returns an errno. */
static int read_slots(int fd, uint64_t places, hk_slots_left *left)
{
    hark_store_slot *some = malloc(HK_SLOTS_CHUNK * sizeof *some);
    size_t cap = 0, at = 1, end = places < HK_SLOTS_MAX ? (size_t)places : HK_SLOTS_MAX;
    int error = some ? 0 : ENOMEM;
    while (!error && at < end) {
        size_t n = end - at < HK_SLOTS_CHUNK ? end - at : HK_SLOTS_CHUNK;
        ssize_t got = read_places(fd, at, some, n);
        if (got <= 0) {
            error = got < 0 ? errno : 0;
            break;
        }
        for (ssize_t i = 0; i < got && !error; i++)
            if (good(&some[i]) && !add(left, &cap, &some[i]))
                error = ENOMEM;
        at += (size_t)got;
    }
    free(some);
    return error;
}

static bool of_this_log(const hark_store *s, const hk_slots_head *h)
{
    return h->version == HK_SLOTS_VERSION && h->slot_size == sizeof(hark_store_slot) &&
           h->check == hk_slots_head_check(h) &&
           memcmp(h->log_id, s->log_id, sizeof s->log_id) == 0;
}

/* A process may have died between making the file and writing its header. */
static bool unfinished(int fd, const hk_slots_head *h, ssize_t got)
{
    static const hk_slots_head zeros;
    struct stat st;
    if (got == 1)
        return memcmp(h, &zeros, sizeof zeros) == 0;
    return fstat(fd, &st) == 0 && st.st_size == 0;
}

static int read_file(const hark_store *s, int fd, hk_slots_left *ret)
{
    hk_slots_head head;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EEXIST;
    ssize_t got = read_places(fd, 0, &head, 1);
    if (got < 0)
        return errno;
    if (got == 1 && memcmp(head.magic, HK_SLOTS_MAGIC, sizeof head.magic) == 0) {
        ret->there = true;
        memcpy(ret->run, head.run, sizeof ret->run);
        return of_this_log(s, &head) ? read_slots(fd, head.places, ret) : 0;
    }
    ret->there = unfinished(fd, &head, got);
    return ret->there ? 0 : EEXIST;
}

hark_err hk_slots_read(const hark_store *s, const char *path, hk_slots_left *ret, hark_errinfo *ei)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return HARK_OK;
    int error = fd < 0 ? errno : read_file(s, fd, ret);
    if (fd >= 0)
        close(fd);
    if (error == ENOMEM)
        return hk_fail(ei, HARK_ENOMEM, "no memory to read %s", path);
    if (error) {
        ret->keep = true;
        ret->there = false;
        ret->n = 0;
        hk_log(HK_WARN,
               "%s is no file of hark's that can be read (%s) and is left alone; crashes "
               "of handlers are not counted: move it away, then open the log again",
               path, error == EEXIST ? "it is something else" : strerror(error));
    }
    return HARK_OK;
}
