/* mem_linux.c - memory figures from /proc and the control groups.
 * Owns: nothing. Does not: cache. Runs on: any thread.
 * Sources: proc(5); the kernel's cgroup-v2 and cgroup-v1/memory documents. */
#include "proto/base/mem.h"
#include "proto/base/mem_internal.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1 << 20)
#define PATH_BYTES_MAX 4096

/* Reads root + path; false when that cannot be done. */
static bool read_text(struct buf *text, const char *root, const char *path) {
    char full[PATH_BYTES_MAX];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full && buf_read_file(text, full, FILE_BYTES_MAX, NULL) == 0;
}

/* The number after a key at the start of a line: "MemAvailable:   123 kB", "inactive_file 123". */
static bool find_number(const char *text, const char *key, uint64_t *out_number) {
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, n) != 0) continue;
        const char *at = line + n + strspn(line + n, " \t");
        if (!isdigit((unsigned char)*at)) return false;
        errno = 0;
        *out_number = strtoull(at, NULL, 10);
        return errno == 0;
    }
    return false;
}

/* As find_number, for values in kB; 0 when it is not there. */
static uint64_t find_kb(const char *text, const char *key) {
    uint64_t kb;
    return find_number(text, key, &kb) && mul_u64(kb, 1024, &kb) ? kb : 0;
}

static uint64_t own_status(const char *key) {
    struct buf text = {0};
    uint64_t n = read_text(&text, "", "/proc/self/status") ? find_kb(text.bytes, key) : 0;
    buf_fini(&text);
    return n;
}

uint64_t mem_rss_bytes(void) {
    return own_status("VmRSS:");
}

uint64_t mem_peak_rss_bytes(void) {
    return own_status("VmHWM:");
}

uint64_t mem_anon_rss_bytes(void) {
    return own_status("RssAnon:");
}

/* The two versions of control groups under names of their own. */
struct cgroup_kind {
    const char *tag;       /* in /proc/self/cgroup, before the group's path */
    const char *mount;     /* where the groups are */
    const char *limits[2]; /* the second may be NULL */
    const char *usage;
    const char *files[2]; /* keys in memory.stat: pages that can be dropped */
};

static const struct cgroup_kind kinds[] = {
        {"0::", "/sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current",
                {"inactive_file", "active_file"}},
        {":memory:", "/sys/fs/cgroup/memory", {"memory.limit_in_bytes", NULL},
                "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
};

/* Reads one number of a group; false when there is none ("max" means no limit). */
static bool group_number(const char *root, const char *folder, const char *name, const char *key,
        uint64_t *out_number) {
    char path[PATH_BYTES_MAX];
    struct buf text = {0};
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    bool found = n > 0 && (size_t)n < sizeof path && read_text(&text, root, path) &&
                 find_number(text.bytes, key, out_number);
    buf_fini(&text);
    return found;
}

/* What one group still allows; UINT64_MAX without a limit. */
static uint64_t group_room(const char *root, const struct cgroup_kind *kind, const char *folder) {
    uint64_t limit = UINT64_MAX, usage = 0, n;
    for (size_t i = 0; i < ARRAY_LEN(kind->limits) && kind->limits[i]; i++)
        if (group_number(root, folder, kind->limits[i], "", &n)) limit = min_u64(limit, n);
    if (limit == UINT64_MAX || !group_number(root, folder, kind->usage, "", &usage))
        return UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(kind->files); i++)
        if (group_number(root, folder, "memory.stat", kind->files[i], &n))
            usage -= min_u64(usage, n);
    return limit - min_u64(limit, usage);
}

/* The path of our group; false when this kind of group is not in use. */
static bool group_path(const char *text, const char *tag, char out_path[PATH_BYTES_MAX]) {
    const char *at = strstr(text, tag);
    if (!at) return false;
    at += strlen(tag);
    size_t n = strcspn(at, "\n");
    if (n >= PATH_BYTES_MAX) return false;
    memcpy(out_path, at, n);
    out_path[n] = 0;
    return true;
}

/* The tightest of our group and all above it. In a container the path may be one of the host's,
 * which is not to be seen here: folders that are not there are passed over, and the last one tried
 * is the mount itself, which then is our group. */
static uint64_t cgroup_room(const char *root, const struct cgroup_kind *kind, const char *text) {
    char path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    if (!group_path(text, kind->tag, path)) return UINT64_MAX;
    uint64_t room = UINT64_MAX;
    for (;;) {
        int n = snprintf(folder, sizeof folder, "%s%s", kind->mount, path);
        if (n > 0 && (size_t)n < sizeof folder)
            room = min_u64(room, group_room(root, kind, folder));
        char *slash = strrchr(path, '/');
        if (!slash) return room;
        *slash = 0;
    }
}

uint64_t mem_available_under(const char *root) {
    struct buf text = {0};
    uint64_t n = read_text(&text, root, "/proc/meminfo") ? find_kb(text.bytes, "MemAvailable:") : 0;
    long n_pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (n == 0 && n_pages > 0 && page > 0) n = (uint64_t)n_pages * (uint64_t)page;
    if (read_text(&text, root, "/proc/self/cgroup"))
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            n = min_u64(n, cgroup_room(root, &kinds[i], text.bytes));
    buf_fini(&text);
    return n;
}

uint64_t mem_available_bytes(void) {
    return mem_available_under("");
}
