// LD_PRELOAD: faults of the disk below LMDB and the write-ahead log, switched on and off by files in the directory that
// WEIR_FAULTS names. Without that variable every call is passed on as it is.
//
// | file            | while it is there                                                                        |
// |-----------------|------------------------------------------------------------------------------------------|
// | hold-meta       | a write of LMDB's meta page does not return (others see what it wrote); "held-meta" says so |
// | fail-meta-once  | the next write of LMDB's meta page fails with EIO; the file is removed                     |
// | fail-data-sync  | fdatasync of the data file fails with EIO, which is a commit that fails                    |
// | fail-log-sync   | fdatasync of the write-ahead log fails with EIO, after the write                           |
// | note-syncs      | "synced-data" and "synced-log" are made when those files are synced                        |
// | fail            | holds "FILE OPERATION ERROR SKIP COUNT", such as "pages write EIO 2 1": of the calls since  |
// |                 | it is there, SKIP succeed and COUNT then fail; "failed" is made at the first that does      |
//
// In "fail", FILE is "log", or "pages" or "meta" of the data file; OPERATION is "write" or "sync"; ERROR is "EIO" or
// "ENOSPC"; COUNT may be "all". A write that fails writes nothing. A meta page is written through to the disk (O_DSYNC):
// its "sync" fails after the write.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum file { OTHER, DATA, LOG };

// A meta page is written from its map size on, and alone.
static int is_meta(size_t size, off_t at) { return size < 256 && at >= 0 && at < 8192; }

static enum file file_of(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return OTHER;
    path[n] = 0;
    return strstr(path, "/data.mdb") ? DATA : strstr(path, "/write-ahead.log") ? LOG : OTHER;
}

// The path of a switch; NULL without a directory of them.
static const char *path_of(char *path, size_t size, const char *name) {
    const char *directory = getenv("WEIR_FAULTS");
    if (!directory) return NULL;
    snprintf(path, size, "%s/%s", directory, name);
    return path;
}

static int is_on(const char *name) {
    char path[4096];
    return path_of(path, sizeof path, name) && access(path, F_OK) == 0;
}

static int take(const char *name) {
    char path[4096];
    return path_of(path, sizeof path, name) && unlink(path) == 0;
}

static void say(const char *name) {
    char path[4096];
    if (path_of(path, sizeof path, name)) {
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (fd >= 0) close(fd);
    }
}

// Whether the switch "fail" says that this call fails; sets `errno` then.
static int fails(const char *file, const char *operation) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char rule[64], last[64];
    static int calls;
    char path[4096], of[16], call[16], error[16], count[16];
    int skip;
    if (!path_of(path, sizeof path, "fail")) return 0;
    pthread_mutex_lock(&lock);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, rule, sizeof rule - 1);
    if (fd >= 0) close(fd);
    rule[n > 0 ? n : 0] = 0;
    // A new rule counts from its own beginning.
    if (strcmp(rule, last)) calls = 0;
    strcpy(last, rule);
    int is_hit = sscanf(rule, "%15s %15s %15s %d %15s", of, call, error, &skip, count) == 5 && !strcmp(of, file) &&
                 !strcmp(call, operation);
    int number = is_hit ? calls++ : 0;
    is_hit = is_hit && number >= skip && (!strcmp(count, "all") || number < skip + atoi(count));
    pthread_mutex_unlock(&lock);
    if (!is_hit) return 0;
    say("failed");
    errno = strcmp(error, "ENOSPC") ? EIO : ENOSPC;
    return 1;
}

// Whether a write to this file fails.
static int write_fails(int fd, size_t size, off_t at) {
    if (!getenv("WEIR_FAULTS")) return 0;
    enum file file = file_of(fd);
    return file != OTHER && fails(file == LOG ? "log" : is_meta(size, at) ? "meta" : "pages", "write");
}

static ssize_t write_at(const char *name, int fd, const void *bytes, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    int is_meta_page = is_meta(size, at) && getenv("WEIR_FAULTS") && file_of(fd) == DATA;
    if (is_meta_page && take("fail-meta-once")) {
        errno = EIO;
        return -1;
    }
    if (write_fails(fd, size, at)) return -1;
    ssize_t written = real(fd, bytes, size, at);
    if (is_meta_page && is_on("hold-meta")) {
        say("held-meta");
        // A minute at most, whatever becomes of the test.
        for (int i = 0; i < 60000 && is_on("hold-meta"); i++) usleep(1000);
        take("held-meta");
    }
    if (is_meta_page && (fcntl(fd, F_GETFL) & O_DSYNC) && fails("meta", "sync")) return -1;
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return write_at("pwrite", fd, bytes, size, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) { return write_at("pwrite64", fd, bytes, size, at); }

// LMDB writes several pages at once.
ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    return write_fails(fd, 0, -1) ? -1 : real(fd, parts, count);
}

int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    enum file file = getenv("WEIR_FAULTS") ? file_of(fd) : OTHER;
    if ((file == DATA && is_on("fail-data-sync")) || (file == LOG && is_on("fail-log-sync"))) {
        errno = EIO;
        return -1;
    }
    if (file != OTHER && fails(file == DATA ? "pages" : "log", "sync")) return -1;
    int result = real(fd);
    if (file != OTHER && is_on("note-syncs")) say(file == DATA ? "synced-data" : "synced-log");
    return result;
}
