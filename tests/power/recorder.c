// LD_PRELOAD: records what a process does to the files below one directory, so that a test can build the disk of any
// instant: each write with its bytes, each change of a length or of a directory, and each sync, with the times at which
// the call began and ended. Every call is a system call of its own here; nothing is passed to the C library.
//
// | variable         | meaning                                                                              |
// |------------------|--------------------------------------------------------------------------------------|
// | WEIR_POWER_ROOT  | the directory, as an absolute path without symbolic links; without it nothing is noted |
// | WEIR_POWER_TRACE | the file that records are appended to, by any number of processes; outside the root   |
// | WEIR_POWER_LIES  | syncs that are not done although the process is told that they are: any of "log",     |
// |                  | "pages" and "meta" (of LMDB's data file) and "directory"                             |
//
// A record is a `struct record`, two paths and the bytes that were written. What is not modelled (links, writes through
// a map, copies within the kernel) is recorded as UNKNOWN, which the test takes for a failure.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, WRITE_THROUGH, TRUNCATE, SYNC, LINK, UNLINK, RENAME, LIE, UNKNOWN };

// Little-endian, without padding.
struct record {
    uint32_t kind, thread;
    uint64_t begin, end;  // nanoseconds of CLOCK_MONOTONIC
    uint64_t inode, birth; // what tells a file from others, also after its inode was given to a new one
    uint64_t at;           // the offset of a write; the new length
    uint32_t is_directory, path, other; // lengths of the two paths
    uint32_t bytes;
};

// LMDB writes 64 pages at a time.
#define MOST_PARTS 256

static int trace = -1;
static const char *root;
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WEIR_POWER_TRACE");
    root = getenv("WEIR_POWER_ROOT");
    if (!path || !root) return;
    root_length = strlen(root);
    trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int is_below_root(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

// The path of an open file or directory below the root, and what it is; 0 for any other.
static int is_watched(int fd, char path[PATH_MAX], struct statx *found) {
    if (trace < 0 || fd < 0) return 0;
    int error = errno;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length > 0) path[length] = 0;
    int is = length > 0 && path[0] == '/' && is_below_root(path) &&
             statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, found) == 0;
    errno = error;
    return is;
}

// The absolute path that a call names; 0 when it does not lie below the root.
static int is_named(int directory, const char *name, char path[PATH_MAX]) {
    if (trace < 0) return 0;
    int error = errno, length = 0;
    path[0] = 0;
    if (name[0] != '/') {
        char link[64] = "/proc/self/cwd";
        if (directory != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        length = (int)readlink(link, path, PATH_MAX - 1);
        if (length < 0) length = 0;
        path[length++] = '/';
    }
    snprintf(path + length, PATH_MAX - (size_t)length, "%s", name);
    errno = error;
    return is_below_root(path);
}

static void note(enum kind kind, uint64_t begin, const struct statx *of, uint64_t at, const char *path,
                 const char *other, const struct iovec *parts, int count, size_t size) {
    int error = errno;
    struct record record = {.kind = kind, .thread = (uint32_t)syscall(SYS_gettid), .begin = begin, .end = now(), .at = at};
    if (of) {
        record.inode = of->stx_ino;
        record.birth = (uint64_t)of->stx_btime.tv_sec * 1000000000 + of->stx_btime.tv_nsec;
        record.is_directory = S_ISDIR(of->stx_mode);
    }
    struct iovec all[3 + MOST_PARTS] = {{&record, sizeof record}, {(void *)path, path ? strlen(path) : 0},
                                {(void *)other, other ? strlen(other) : 0}};
    record.path = (uint32_t)all[1].iov_len;
    record.other = (uint32_t)all[2].iov_len;
    int used = 3;
    for (int i = 0; i < count && size > 0; i++) {
        size_t length = parts[i].iov_len < size ? parts[i].iov_len : size;
        if (used == 3 + MOST_PARTS) abort();
        all[used++] = (struct iovec){parts[i].iov_base, length};
        record.bytes += (uint32_t)length;
        size -= length;
    }
    size_t whole = sizeof record + record.path + record.other + record.bytes;
    // One write, so that records of other threads and processes do not mix with it.
    if (syscall(SYS_writev, trace, all, used) != (ssize_t)whole) abort();
    errno = error;
}

static int is_lie(const char *about) {
    const char *lies = getenv("WEIR_POWER_LIES");
    return lies && strstr(lies, about);
}

static int ends_with(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

// --- writes ---

static void noted_write(int fd, uint64_t begin, const struct iovec *parts, int count, ssize_t result, int64_t at) {
    char path[PATH_MAX];
    struct statx of;
    if (result <= 0 || !is_watched(fd, path, &of)) return;
    // Without an offset of its own, the write ended where the file's offset is now.
    if (at < 0) at = syscall(SYS_lseek, fd, 0, SEEK_CUR) - result;
    int is_through = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    if (is_through && ends_with(path, "/data.mdb") && is_lie("meta")) is_through = 0;
    note(is_through ? WRITE_THROUGH : WRITE, begin, &of, (uint64_t)at, path, NULL, parts, count, (size_t)result);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    uint64_t begin = now();
    ssize_t result = syscall(SYS_write, fd, bytes, size);
    struct iovec part = {(void *)bytes, size};
    noted_write(fd, begin, &part, 1, result, -1);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    uint64_t begin = now();
    ssize_t result = syscall(SYS_pwrite64, fd, bytes, size, at);
    struct iovec part = {(void *)bytes, size};
    noted_write(fd, begin, &part, 1, result, at);
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    uint64_t begin = now();
    ssize_t result = syscall(SYS_writev, fd, parts, count);
    noted_write(fd, begin, parts, count, result, -1);
    return result;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    uint64_t begin = now();
    ssize_t result = syscall(SYS_pwritev, fd, parts, count, at, 0L);
    noted_write(fd, begin, parts, count, result, at);
    return result;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

// --- lengths ---

int ftruncate64(int fd, off64_t length) {
    uint64_t begin = now();
    int result = (int)syscall(SYS_ftruncate, fd, length);
    char path[PATH_MAX];
    struct statx of;
    if (result == 0 && is_watched(fd, path, &of)) note(TRUNCATE, begin, &of, (uint64_t)length, path, NULL, NULL, 0, 0);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int opened(int fd, uint64_t begin, int flags) {
    char path[PATH_MAX];
    struct statx of;
    if (fd < 0 || !(flags & (O_CREAT | O_TRUNC)) || !is_watched(fd, path, &of)) return fd;
    if (flags & O_CREAT) note(LINK, begin, &of, 0, path, NULL, NULL, 0, 0);
    if (flags & O_TRUNC) note(TRUNCATE, begin, &of, 0, path, NULL, NULL, 0, 0);
    return fd;
}

#define OPEN_AT(name)                                                                \
    int name(int directory, const char *path, int flags, ...) {                      \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;          \
        va_end(rest);                                                                \
        uint64_t begin = now();                                                      \
        return opened((int)syscall(SYS_openat, directory, path, flags, mode), begin, flags); \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;          \
        va_end(rest);                                                                \
        uint64_t begin = now();                                                      \
        return opened((int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), begin, flags); \
    }
OPEN(open)
OPEN(open64)

// --- directories ---

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct statx of;
    uint64_t begin = now();
    int result = (int)syscall(SYS_mkdirat, directory, name, mode);
    if (result == 0 && is_named(directory, name, path) &&
        statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &of) == 0)
        note(LINK, begin, &of, 0, path, NULL, NULL, 0, 0);
    return result;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    int is_ours = is_named(directory, name, path);
    uint64_t begin = now();
    int result = (int)syscall(SYS_unlinkat, directory, name, flags);
    if (result == 0 && is_ours) note(UNLINK, begin, NULL, 0, path, NULL, NULL, 0, 0);
    return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    char path[PATH_MAX], other[PATH_MAX];
    int is_ours = is_named(from_directory, from, path) + is_named(to_directory, to, other);
    uint64_t begin = now();
    int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    if (result == 0 && is_ours)
        note(is_ours == 2 && flags == 0 ? RENAME : UNKNOWN, begin, NULL, 0, path, other, NULL, 0, 0);
    return result;
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

// --- syncs ---

static int synced(int fd, long call) {
    char path[PATH_MAX];
    struct statx of;
    if (!is_watched(fd, path, &of)) return (int)syscall(call, fd);
    int is_told = (ends_with(path, "/write-ahead.log") && is_lie("log")) ||
                  (ends_with(path, "/data.mdb") && is_lie("pages")) || (S_ISDIR(of.stx_mode) && is_lie("directory"));
    uint64_t begin = now();
    int result = is_told ? 0 : (int)syscall(call, fd);
    if (result == 0) note(is_told ? LIE : SYNC, begin, &of, 0, path, NULL, NULL, 0, 0);
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

// --- what is not modelled ---

static void unknown(int fd, const char *call) {
    char path[PATH_MAX];
    struct statx of;
    if (is_watched(fd, path, &of)) note(UNKNOWN, now(), &of, 0, path, call, NULL, 0, 0);
}

static void unknown_name(const char *name, const char *call) {
    char path[PATH_MAX];
    if (is_named(AT_FDCWD, name, path)) note(UNKNOWN, now(), NULL, 0, path, call, NULL, 0, 0);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t at) {
    char path[PATH_MAX];
    struct statx of;
    // Nothing in LMDB's lock file outlives its processes: it is made anew by the first that opens it.
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && is_watched(fd, path, &of) &&
        !ends_with(path, "/lock.mdb") && !ends_with(path, "-lock"))
        note(UNKNOWN, now(), &of, 0, path, "mmap", NULL, 0, 0);
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, at);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t at) {
    return mmap64(address, length, protection, flags, fd, at);
}

int truncate64(const char *name, off64_t length) {
    unknown_name(name, "truncate");
    return (int)syscall(SYS_truncate, name, length);
}

int link(const char *from, const char *to) {
    unknown_name(to, "link");
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlink(const char *from, const char *to) {
    unknown_name(to, "symlink");
    return (int)syscall(SYS_symlinkat, from, AT_FDCWD, to);
}

int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    // Blocks beyond the end that hold nothing change neither the contents nor the length.
    if (mode != 1 /* FALLOC_FL_KEEP_SIZE */) unknown(fd, "fallocate");
    return (int)syscall(SYS_fallocate, fd, mode, at, length);
}

int posix_fallocate64(int fd, off64_t at, off64_t length) {
    unknown(fd, "posix_fallocate");
    return syscall(SYS_fallocate, fd, 0, at, length) == 0 ? 0 : errno;
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    unknown(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t length) {
    unknown(to, "sendfile");
    return syscall(SYS_sendfile, to, from, at, length);
}
