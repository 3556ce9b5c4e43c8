/*
 * Between a process and its files: writes down what is written and what is synced, so that a test can
 * tell what a power loss would leave; and lets a disk be full on command. Loaded with LD_PRELOAD.
 *
 * TORTURE_FILES  what the names of the files begin with
 * TORTURE_LOG    where to write it down
 * TORTURE_FULL   while this file exists, no file can grow
 *
 * A record: a mark, operation, length of the name, offset, length, then the name and, of a write, the
 * data. It may be cut off by the death of its process; others go on behind it.
 * A write is recorded when it has been done. A sync is recorded when it has been done, with the place
 * in the log where it began as its offset: what was recorded before that place is on disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, UNLINK = 4 };

static const uint64_t MARK = UINT64_C(0x9d1f0c5eb7a3e641);

struct record {
    uint64_t mark;
    uint32_t operation, name_length;
    uint64_t offset, length;
};

static const char *prefix, *full;
static int log_fd = -1;
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_truncate)(const char *, off_t);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_truncate = dlsym(RTLD_NEXT, "truncate");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    prefix = getenv("TORTURE_FILES");
    full = getenv("TORTURE_FULL");
    const char *log = getenv("TORTURE_LOG");
    if (prefix && log) log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* The name of an open file; empty if it has none. */
static void name_of(int fd, char *name) {
    char link[64];
    char *end = link + sizeof link - 1;
    *end = 0;
    do { *--end = '0' + fd % 10; fd /= 10; } while (fd > 0);
    const char *directory = "/proc/self/fd/";
    end -= strlen(directory);
    memcpy(end, directory, strlen(directory));
    ssize_t length = readlink(end, name, PATH_MAX - 1);
    name[length < 0 ? 0 : length] = 0;
}

/* Whether an open file is one that is watched, and its name. */
static int watched(int fd, char *name) {
    struct stat status;
    if (!prefix || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    name_of(fd, name);
    size_t length = strlen(name);
    /* The shared memory of SQLite is not kept on disk. */
    const char *shared = "-shm";
    if (length > 4 && strcmp(name + length - 4, shared) == 0) return 0;
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static void record(uint32_t operation, const char *name, uint64_t offset, uint64_t length,
                   const void *data) {
    if (log_fd < 0) return;
    int saved = errno;
    struct record head = {MARK, operation, strlen(name), offset, length};
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)name, head.name_length}, {(void *)data, data ? length : 0}};
    if (writev(log_fd, parts, 3) < 0) abort();
    errno = saved;
}

/* Whether there is no room for this. */
static int no_room(int fd, off_t end) {
    struct stat status;
    if (!full || access(full, F_OK) != 0) return 0;
    return fstat(fd, &status) == 0 && end > status.st_size;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    char name[PATH_MAX];
    int saved = errno, mine = watched(fd, name);
    if (mine && no_room(fd, offset + length)) { errno = ENOSPC; return -1; }
    errno = saved;
    ssize_t written = real_pwrite(fd, data, length, offset);
    if (mine && written > 0) record(WRITE, name, offset, written, data);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    return pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    char name[PATH_MAX];
    int saved = errno, mine = watched(fd, name);
    if (mine && no_room(fd, lseek(fd, 0, SEEK_CUR) + length)) { errno = ENOSPC; return -1; }
    errno = saved;
    ssize_t written = real_write(fd, data, length);
    if (mine && written > 0) record(WRITE, name, lseek(fd, 0, SEEK_CUR) - written, written, data);
    return written;
}

/* Whether this is the directory of the watched files; a removal is on disk when that is synced. */
static int directory(int fd, char *name) {
    struct stat status;
    if (!prefix || fstat(fd, &status) != 0 || !S_ISDIR(status.st_mode)) return 0;
    name_of(fd, name);
    size_t length = strlen(name);
    return strncmp(name, prefix, length) == 0 && prefix[length] == '/' && !strchr(prefix + length + 1, '/');
}

static int sync_file(int fd) {
    char name[PATH_MAX];
    struct stat status;
    if (log_fd >= 0 && (watched(fd, name) || directory(fd, name)) && fstat(log_fd, &status) == 0) {
        /* The disk itself is not part of the test: nothing is waited for. */
        record(SYNC, name, status.st_size, 0, NULL);
    }
    return 0;
}

int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }

int ftruncate(int fd, off_t length) {
    char name[PATH_MAX];
    int mine = watched(fd, name), result = real_ftruncate(fd, length);
    if (mine && result == 0) record(TRUNCATE, name, 0, length, NULL);
    return result;
}

int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

int truncate(const char *name, off_t length) {
    char whole[PATH_MAX];
    int result = real_truncate(name, length);
    if (result == 0 && prefix && realpath(name, whole) && strncmp(whole, prefix, strlen(prefix)) == 0)
        record(TRUNCATE, whole, 0, length, NULL);
    return result;
}

int truncate64(const char *name, off_t length) { return truncate(name, length); }

int unlink(const char *name) {
    char whole[PATH_MAX];
    int mine = prefix && realpath(name, whole) && strncmp(whole, prefix, strlen(prefix)) == 0;
    int result = real_unlink(name);
    if (mine && result == 0) record(UNLINK, whole, 0, 0, NULL);
    return result;
}
