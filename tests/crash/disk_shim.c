/* A disk that fails: preloaded into a node by tests/crash/test_disk_errors.py.
 *
 *   SHIM_PATH    only files with this in their path are touched, such as "/wal/"
 *   SHIM_FAULT   "call:number:errno": this call (fdatasync or write) fails with errno, counted from the moment the disk
 *                is armed
 *                "short": every write of more than one block takes only a part; "eintr": every second call fails with
 *                EINTR
 *   SHIM_ARMED   a path: nothing fails before such a file exists; the file gets a byte for each call that failed
 *
 * An fdatasync that fails loses what was written since the last one, as Linux does after an error of the device: the
 * pages are zero afterwards, and a later fdatasync succeeds. A promise that counts on them is a lie.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DIRTY_MAX = 4096, PIECES_MAX = 1024 };
static struct { int descriptor; off_t offset; size_t size; } dirty[DIRTY_MAX];
static int dirty_count;
static long calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_touched(int descriptor) {
    const char *part = getenv("SHIM_PATH");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return part != NULL && strstr(path, part) != NULL;
}

static int armed(void) {
    const char *path = getenv("SHIM_ARMED");
    return path != NULL && access(path, F_OK) == 0;
}

static void note(void) {
    int descriptor = open(getenv("SHIM_ARMED"), O_WRONLY | O_APPEND);
    if (descriptor < 0 || write(descriptor, "!", 1) != 1) perror("disk_shim");
    if (descriptor >= 0) close(descriptor);
}

/* The errno this call has to fail with; 0 if it need not. */
static int wanted_error(const char *call) {
    const char *wanted = getenv("SHIM_FAULT");
    char name[32];
    long number;
    int error;
    if (wanted == NULL || !armed()) return 0;
    if (strcmp(wanted, "eintr") == 0) return ++calls % 2 ? EINTR : 0;
    if (sscanf(wanted, "%31[a-z]:%ld:%d", name, &number, &error) != 3 || strcmp(name, call) != 0) return 0;
    return ++calls == number ? error : 0;
}

static int fault(const char *call) {
    int error = wanted_error(call);
    if (error != 0) note();
    return error;
}

static void lose(int descriptor) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "pwrite64");
    for (int index = 0; index < dirty_count; index++) {
        if (dirty[index].descriptor != descriptor) continue;
        void *zeros = calloc(1, dirty[index].size);
        if (zeros == NULL || next(descriptor, zeros, dirty[index].size, dirty[index].offset) < 0) perror("disk_shim");
        free(zeros);
    }
}

static void forget(int descriptor) {
    int kept = 0;
    for (int index = 0; index < dirty_count; index++)
        if (dirty[index].descriptor != descriptor) dirty[kept++] = dirty[index];
    dirty_count = kept;
}

int fdatasync(int descriptor) {
    static int (*next)(int);
    if (next == NULL) next = dlsym(RTLD_NEXT, "fdatasync");
    if (!is_touched(descriptor)) return next(descriptor);
    pthread_mutex_lock(&lock);
    int error = fault("fdatasync");
    if (error != 0 && error != EINTR) lose(descriptor);
    if (error != EINTR) forget(descriptor);
    pthread_mutex_unlock(&lock);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return next(descriptor);
}

ssize_t pwritev64(int descriptor, const struct iovec *pieces, int count, off_t offset) {
    static ssize_t (*next)(int, const struct iovec *, int, off_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "pwritev64");
    if (!is_touched(descriptor)) return next(descriptor, pieces, count, offset);
    const char *wanted = getenv("SHIM_FAULT");
    struct iovec part[PIECES_MAX];
    pthread_mutex_lock(&lock);
    int error = fault("write");
    pthread_mutex_unlock(&lock);
    if (error != 0) {
        errno = error;
        return -1;
    }
    if (wanted != NULL && strcmp(wanted, "short") == 0 && armed() && count > 0 && count <= PIECES_MAX && pieces[0].iov_len > 1) {
        part[0] = pieces[0];
        part[0].iov_len = pieces[0].iov_len / 2 + 1;
        note();
        pieces = part;
        count = 1;
    }
    ssize_t written = next(descriptor, pieces, count, offset);
    pthread_mutex_lock(&lock);
    if (written > 0 && dirty_count < DIRTY_MAX) {
        dirty[dirty_count].descriptor = descriptor;
        dirty[dirty_count].offset = offset;
        dirty[dirty_count++].size = (size_t)written;
    }
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwritev(int descriptor, const struct iovec *pieces, int count, off_t offset) {
    return pwritev64(descriptor, pieces, count, offset);
}

ssize_t pwritev2(int descriptor, const struct iovec *pieces, int count, off_t offset, int flags) {
    (void)flags;
    return pwritev64(descriptor, pieces, count, offset);
}

ssize_t pwritev64v2(int descriptor, const struct iovec *pieces, int count, off_t offset, int flags) {
    (void)flags;
    return pwritev64(descriptor, pieces, count, offset);
}
