/* A library to preload: link, rename, fsync and open fail below a folder, at moments that a seed decides.

   FAULTS_ROOT    the folder; nothing elsewhere fails
   FAULTS_SEED    begins the sequence of each process anew
   FAULTS_AFTER   so many calls of these kinds succeed first
   FAULTS_EVERY   one call in so many fails, with those that follow it at once
   FAULTS_ERRORS  numbers to choose from, separated by commas; EEXIST means that the call is done, and answered so
   FAULTS_CALLS   those of "link,rename,fsync,open" that fail
   FAULTS_SYMLINK link() makes a symbolic link, as BeeGFS may be set up
   FAULTS_LOG     a file that gets one line a fault */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t state;
static int burst, burst_error, calls_so_far;
static const char *burst_call;

static uint64_t draw(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void note(const char *call, int error, const char *path) {
    const char *name = getenv("FAULTS_LOG");
    char line[600];
    if (!name) return;
    int length = snprintf(line, sizeof line, "%s %d %.500s\n", call, error, path);
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) { if (write(fd, line, length) < 0) {} close(fd); }
}

/* The error with which this call shall fail; 0 for none. */
static int fault(const char *call, const char *path) {
    const char *root = getenv("FAULTS_ROOT"), *calls = getenv("FAULTS_CALLS"), *errors = getenv("FAULTS_ERRORS");
    if (!root || !path || !errors || strncmp(path, root, strlen(root))) return 0;
    if (calls && !strstr(calls, call)) return 0;
    if (burst > 0 && burst_call == call) { burst--; note(call, burst_error, path); return burst_error; }
    if (!state) { const char *seed = getenv("FAULTS_SEED"); state = seed ? strtoull(seed, 0, 10) + 1 : 1; }
    const char *every = getenv("FAULTS_EVERY"), *after = getenv("FAULTS_AFTER");
    if (after && calls_so_far++ < atoi(after)) return 0;
    if (every && draw() % strtoull(every, 0, 10)) return 0;
    int count = 1;
    for (const char *c = errors; *c; c++) count += *c == ',';
    int which = draw() % count;
    while (which-- > 0) errors = strchr(errors, ',') + 1;
    burst_error = atoi(errors), burst_call = call, burst = draw() % 6;
    if (burst_error == EEXIST) burst = 0;
    note(call, burst_error, path);
    return burst_error;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)

#define FAIL(call, path, done) do { \
    int error = fault(call, path); \
    if (error) { if (error != EEXIST || (done) == 0) { errno = error; return -1; } return -1; } } while (0)

static int do_link(int from, const char *old, int to, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    const char *slash = strrchr(old, '/'), *root = getenv("FAULTS_ROOT");
    if (getenv("FAULTS_SYMLINK") && root && !strncmp(new, root, strlen(root)))
        return symlink(slash ? slash + 1 : old, new);
    FAIL("link", new, real(from, old, to, new, flags));
    return real(from, old, to, new, flags);
}
int link(const char *old, const char *new) { return do_link(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) { return do_link(from, old, to, new, flags); }

static int do_rename(int from, const char *old, int to, const char *new) {
    REAL(int, "renameat", int, const char *, int, const char *);
    FAIL("rename", new, real(from, old, to, new));
    return real(from, old, to, new);
}
int rename(const char *old, const char *new) { return do_rename(AT_FDCWD, old, AT_FDCWD, new); }
int renameat(int from, const char *old, int to, const char *new) { return do_rename(from, old, to, new); }

static int do_sync(const char *name, int fd) {
    char link_name[64], path[4096];
    REAL(int, "fsync", int);
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link_name, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    int error = fault("fsync", path);
    if (error && error != EEXIST) { errno = error; return -1; }
    (void) name;
    return real(fd);
}
int fsync(int fd) { return do_sync("fsync", fd); }
int fdatasync(int fd) { return do_sync("fdatasync", fd); }

static int do_open(int at, const char *path, int flags, mode_t mode) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...)) dlsym(RTLD_NEXT, "openat");
    int error = fault("open", path);
    if (error == EEXIST && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        int fd = real(at, path, flags, mode);
        if (fd >= 0) close(fd);
        errno = EEXIST;
        return -1;
    }
    if (error && error != EEXIST) { errno = error; return -1; }
    return real(at, path, flags, mode);
}
#define MODE(flags) mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }
int open(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return do_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return do_open(at, path, flags | O_LARGEFILE, mode); }
