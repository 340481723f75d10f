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
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum file { OTHER, DATA, LOG };

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

static ssize_t write_at(const char *name, int fd, const void *bytes, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    // A meta page is written from its map size on, and alone.
    int is_meta = size < 256 && at < 8192 && getenv("WEIR_FAULTS") && file_of(fd) == DATA;
    if (is_meta && take("fail-meta-once")) {
        errno = EIO;
        return -1;
    }
    ssize_t written = real(fd, bytes, size, at);
    if (is_meta && is_on("hold-meta")) {
        say("held-meta");
        // A minute at most, whatever becomes of the test.
        for (int i = 0; i < 60000 && is_on("hold-meta"); i++) usleep(1000);
        take("held-meta");
    }
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return write_at("pwrite", fd, bytes, size, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) { return write_at("pwrite64", fd, bytes, size, at); }

int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    enum file file = getenv("WEIR_FAULTS") ? file_of(fd) : OTHER;
    if ((file == DATA && is_on("fail-data-sync")) || (file == LOG && is_on("fail-log-sync"))) {
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    if (file != OTHER && is_on("note-syncs")) say(file == DATA ? "synced-data" : "synced-log");
    return result;
}
