// LD_PRELOAD: a process that replaces a relay (WEIR_TAKE_OVER) dies when it says that it serves.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static void die_if_serving(const void *bytes, size_t size) {
    static const char word[] = "serving\n";
    if (size == strlen(word) && !memcmp(bytes, word, size) && getenv("WEIR_TAKE_OVER")) _exit(9);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    die_if_serving(bytes, size);
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return real(fd, bytes, size);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags) {
    die_if_serving(bytes, size);
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    return real(fd, bytes, size, flags);
}
