/* Records what a process does to the files below one directory.
 *
 * Preloaded into a process, it stands in front of the C library's calls that change files, and appends each of them,
 * with its bytes, to a log. One lock is held across a call and its entry, so the log is the order of the calls: what
 * stands before a sync's entry was written before the sync began, and a mark stands exactly where its caller was.
 *
 *   POWERLOSS_ROOT  the directory, empty when the process starts
 *   POWERLOSS_LOG   the log, made here
 *
 * Children that are forked or started are not recorded. What goes past these calls (a writable mapping, a stream of the
 * C library's own) is noted where it can be, and otherwise found by comparing the replayed log with the files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { ROOT = 1, CREATE, MAKE_DIRECTORY, WRITE, WRITE_THROUGH, LENGTH, SYNC, RENAME, UNLINK, MAP_WRITABLE, MARK };

struct header {
    uint32_t kind;
    uint32_t payload_bytes;
    uint64_t file; /* An inode's number. */
    uint64_t offset;
};

enum { FILES_MAX = 4096 };

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int log_descriptor = -1;
static char root[PATH_MAX];
static size_t root_length;
static struct { dev_t device; ino_t file; } watched[FILES_MAX];
static int watched_count;

/* The C library's own function of this name. */
#define REAL(name) ({ \
    static void *address; \
    if (!address) address = dlsym(RTLD_NEXT, #name); \
    (__typeof__(&name))address; \
})

static void give_up(const char *why) {
    fprintf(stderr, "recorder: %s: %s\n", why, strerror(errno));
    abort();
}

static void append(enum kind kind, uint64_t file, uint64_t offset, const struct iovec *parts, int count) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    struct header header = {kind, (uint32_t)length, file, offset};
    if (REAL(write)(log_descriptor, &header, sizeof header) != (ssize_t)sizeof header) give_up("the log");
    for (int i = 0; i < count; i++) {
        const char *from = parts[i].iov_base;
        for (size_t left = parts[i].iov_len; left > 0;) {
            ssize_t taken = REAL(write)(log_descriptor, from, left);
            if (taken <= 0) give_up("the log");
            from += taken;
            left -= (size_t)taken;
        }
    }
}

static void append_text(enum kind kind, uint64_t file, uint64_t offset, const char *text) {
    struct iovec part = {(void *)text, strlen(text)};
    append(kind, file, offset, &part, 1);
}

static void stop_in_child(void) { log_descriptor = -1; }

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("POWERLOSS_ROOT"), *log = getenv("POWERLOSS_LOG");
    struct stat state;
    if (!directory || !log) return;
    if (!realpath(directory, root) || stat(root, &state)) give_up(directory);
    root_length = strlen(root);
    log_descriptor = REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (log_descriptor < 0) give_up(log);
    pthread_atfork(NULL, NULL, stop_in_child);
    unsetenv("LD_PRELOAD");
    unsetenv("POWERLOSS_ROOT");
    unsetenv("POWERLOSS_LOG");
    watched[watched_count].device = state.st_dev;
    watched[watched_count++].file = state.st_ino;
    append_text(ROOT, state.st_ino, 0, "");
}

/* Write the path, relative to the root, of what a call names: 0 if it is not below the root. */
static int below_root(char *relative, int directory, const char *path) {
    char whole[PATH_MAX], parent[PATH_MAX];
    int length = path[0] == '/' || directory == AT_FDCWD
                     ? snprintf(whole, sizeof whole, "%s", path)
                     : snprintf(whole, sizeof whole, "/proc/self/fd/%d/%s", directory, path);
    if (log_descriptor < 0 || length <= 0 || length >= (int)sizeof whole) return 0;
    while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
    char *slash = strrchr(whole, '/');
    const char *name = slash ? slash + 1 : whole;
    if (slash) *slash = 0;
    const char *above = !slash ? "." : whole[0] ? whole : "/";
    int errno_before = errno;
    int found = realpath(above, parent) != NULL;
    errno = errno_before;
    if (!found || strncmp(parent, root, root_length) || (parent[root_length] && parent[root_length] != '/')) return 0;
    const char *inside = parent + root_length + (parent[root_length] == '/');
    return snprintf(relative, PATH_MAX, "%s%s%s", inside, *inside ? "/" : "", name) < PATH_MAX;
}

static void watch(const struct stat *state) {
    for (int i = 0; i < watched_count; i++)
        if (watched[i].file == state->st_ino && watched[i].device == state->st_dev) return;
    if (watched_count == FILES_MAX) give_up("too many files");
    watched[watched_count].device = state->st_dev;
    watched[watched_count++].file = state->st_ino;
}

/* The inode's number if the descriptor is of a file below the root: 0 if not. */
static uint64_t file_of(int descriptor, struct stat *state) {
    int errno_before = errno;
    int failed = log_descriptor < 0 || descriptor == log_descriptor || fstat(descriptor, state);
    errno = errno_before;
    if (failed) return 0;
    for (int i = 0; i < watched_count; i++)
        if (watched[i].file == state->st_ino && watched[i].device == state->st_dev) return state->st_ino;
    return 0;
}

static int opened(int directory, const char *path, int flags, mode_t mode) {
    char relative[PATH_MAX];
    struct stat state;
    pthread_mutex_lock(&order);
    int inside = below_root(relative, directory, path);
    int errno_before = errno;
    int existed = inside && !fstatat(directory, path, &state, 0);
    errno = errno_before;
    int descriptor = REAL(openat)(directory, path, flags, mode);
    if (descriptor >= 0 && log_descriptor >= 0 && (inside || !strcmp(path, root)) && !fstat(descriptor, &state)) {
        watch(&state);
        if (inside && !existed) append_text(CREATE, state.st_ino, 0, relative);
        else if (flags & O_TRUNC) append_text(LENGTH, state.st_ino, 0, "");
    }
    pthread_mutex_unlock(&order);
    return descriptor;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags | O_LARGEFILE, mode); }

/* Note what a write took: `taken` bytes of the parts, which may be fewer than they hold. */
static void note_write(uint64_t file, int through, off_t offset, const struct iovec *parts, ssize_t taken) {
    struct iovec noted[IOV_MAX];
    int used = 0;
    for (size_t left = (size_t)taken; left > 0; used++) {
        noted[used] = parts[used];
        if (noted[used].iov_len > left) noted[used].iov_len = left;
        left -= noted[used].iov_len;
    }
    append(through ? WRITE_THROUGH : WRITE, file, (uint64_t)offset, noted, used);
}

/* Whether a write is on the disk when it returns: by how the file was opened, or by the flags of this one write. */
static int is_through(int descriptor, int flags) {
    if (flags & ~(RWF_DSYNC | RWF_SYNC | RWF_HIPRI | RWF_NOWAIT)) give_up("a write with a flag that is not modelled");
    return flags & (RWF_DSYNC | RWF_SYNC) || fcntl(descriptor, F_GETFL) & (O_DSYNC | O_SYNC);
}

/* `at` is where to write, or -1 for where the descriptor stands; the call itself is made by the expression. */
#define RECORDED_WRITE(descriptor, parts, at, flags, call) \
    struct stat state; \
    pthread_mutex_lock(&order); \
    uint64_t file = file_of(descriptor, &state); \
    off_t offset = !file ? 0 : (at) >= 0 ? (at) \
                   : fcntl(descriptor, F_GETFL) & O_APPEND ? state.st_size : lseek(descriptor, 0, SEEK_CUR); \
    ssize_t taken = call; \
    if (file && taken > 0) note_write(file, is_through(descriptor, flags), offset, parts, taken); \
    pthread_mutex_unlock(&order); \
    return taken;

ssize_t write(int descriptor, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    RECORDED_WRITE(descriptor, &part, -1, 0, REAL(write)(descriptor, bytes, length))
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    RECORDED_WRITE(descriptor, parts, -1, 0, REAL(writev)(descriptor, parts, count))
}
ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t at) {
    struct iovec part = {(void *)bytes, length};
    RECORDED_WRITE(descriptor, &part, at, 0, REAL(pwrite)(descriptor, bytes, length, at))
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t at) {
    struct iovec part = {(void *)bytes, length};
    RECORDED_WRITE(descriptor, &part, at, 0, REAL(pwrite64)(descriptor, bytes, length, at))
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t at) {
    RECORDED_WRITE(descriptor, parts, at, 0, REAL(pwritev)(descriptor, parts, count, at))
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t at) {
    RECORDED_WRITE(descriptor, parts, at, 0, REAL(pwritev64)(descriptor, parts, count, at))
}
ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t at, int flags) {
    RECORDED_WRITE(descriptor, parts, at, flags, REAL(pwritev2)(descriptor, parts, count, at, flags))
}
ssize_t pwritev64v2(int descriptor, const struct iovec *parts, int count, off64_t at, int flags) {
    RECORDED_WRITE(descriptor, parts, at, flags, REAL(pwritev64v2)(descriptor, parts, count, at, flags))
}

#define RECORDED(descriptor, call, succeeded, entry) \
    struct stat state; \
    pthread_mutex_lock(&order); \
    uint64_t file = file_of(descriptor, &state); \
    __typeof__(call) result = call; \
    if (file && (succeeded)) { entry; } \
    pthread_mutex_unlock(&order); \
    return result;

int ftruncate(int descriptor, off_t length) {
    RECORDED(descriptor, REAL(ftruncate)(descriptor, length), !result, append_text(LENGTH, file, (uint64_t)length, ""))
}
int ftruncate64(int descriptor, off64_t length) {
    RECORDED(descriptor, REAL(ftruncate64)(descriptor, length), !result, append_text(LENGTH, file, (uint64_t)length, ""))
}

/* Room that was set aside shows as a new length; a mode that does anything else is not modelled. */
static void note_room(int descriptor, uint64_t file, int mode) {
    struct stat after;
    if (mode & ~FALLOC_FL_KEEP_SIZE) give_up("fallocate with a mode that is not modelled");
    if (!fstat(descriptor, &after)) append_text(LENGTH, file, (uint64_t)after.st_size, "");
}

int fallocate(int descriptor, int mode, off_t at, off_t length) {
    RECORDED(descriptor, REAL(fallocate)(descriptor, mode, at, length), !result, note_room(descriptor, file, mode))
}
int fallocate64(int descriptor, int mode, off64_t at, off64_t length) {
    RECORDED(descriptor, REAL(fallocate64)(descriptor, mode, at, length), !result, note_room(descriptor, file, mode))
}
int posix_fallocate(int descriptor, off_t at, off_t length) {
    RECORDED(descriptor, REAL(posix_fallocate)(descriptor, at, length), !result, note_room(descriptor, file, 0))
}
int posix_fallocate64(int descriptor, off64_t at, off64_t length) {
    RECORDED(descriptor, REAL(posix_fallocate64)(descriptor, at, length), !result, note_room(descriptor, file, 0))
}
int fsync(int descriptor) { RECORDED(descriptor, REAL(fsync)(descriptor), !result, append_text(SYNC, file, 0, "")) }
int fdatasync(int descriptor) { RECORDED(descriptor, REAL(fdatasync)(descriptor), !result, append_text(SYNC, file, 0, "")) }

static int writes_through(int protection, int flags) { return protection & PROT_WRITE && flags & MAP_SHARED; }

void *mmap(void *hint, size_t length, int protection, int flags, int descriptor, off_t at) {
    if (descriptor < 0) return REAL(mmap)(hint, length, protection, flags, descriptor, at);
    RECORDED(descriptor, REAL(mmap)(hint, length, protection, flags, descriptor, at),
             result != MAP_FAILED && writes_through(protection, flags), append_text(MAP_WRITABLE, file, 0, ""))
}
void *mmap64(void *hint, size_t length, int protection, int flags, int descriptor, off64_t at) {
    if (descriptor < 0) return REAL(mmap64)(hint, length, protection, flags, descriptor, at);
    RECORDED(descriptor, REAL(mmap64)(hint, length, protection, flags, descriptor, at),
             result != MAP_FAILED && writes_through(protection, flags), append_text(MAP_WRITABLE, file, 0, ""))
}

static void note_directory(int at, const char *path, const char *relative) {
    struct stat state;
    if (fstatat(at, path, &state, 0)) give_up(path);
    watch(&state);
    append_text(MAKE_DIRECTORY, state.st_ino, 0, relative);
}

#define RECORDED_NAME(at, path, call, entry) \
    char relative[PATH_MAX]; \
    pthread_mutex_lock(&order); \
    int inside = below_root(relative, at, path); \
    int result = call; \
    if (inside && !result) { entry; } \
    pthread_mutex_unlock(&order); \
    return result;

int mkdir(const char *path, mode_t mode) {
    RECORDED_NAME(AT_FDCWD, path, REAL(mkdir)(path, mode), note_directory(AT_FDCWD, path, relative))
}
int mkdirat(int at, const char *path, mode_t mode) {
    RECORDED_NAME(at, path, REAL(mkdirat)(at, path, mode), note_directory(at, path, relative))
}
int unlink(const char *path) {
    RECORDED_NAME(AT_FDCWD, path, REAL(unlink)(path), append_text(UNLINK, 0, 0, relative))
}
int unlinkat(int at, const char *path, int flags) {
    RECORDED_NAME(at, path, REAL(unlinkat)(at, path, flags), append_text(UNLINK, 0, 0, relative))
}

static int renamed(int from_at, const char *from, int to_at, const char *to) {
    char before[PATH_MAX], after[PATH_MAX];
    pthread_mutex_lock(&order);
    int inside = below_root(before, from_at, from) + below_root(after, to_at, to);
    int result = REAL(renameat)(from_at, from, to_at, to);
    if (!result && inside == 1) give_up("a rename across the root's border is not modelled");
    if (!result && inside == 2) {
        struct iovec parts[] = {{before, strlen(before) + 1}, {after, strlen(after)}};
        append(RENAME, 0, 0, parts, 2);
    }
    pthread_mutex_unlock(&order);
    return result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return renamed(from_at, from, to_at, to); }

/* For the recorded process itself: leave a mark in the log. */
void recorder_mark(const char *text, size_t length) {
    struct iovec part = {(void *)text, length};
    pthread_mutex_lock(&order);
    if (log_descriptor >= 0) append(MARK, 0, 0, &part, 1);
    pthread_mutex_unlock(&order);
}
