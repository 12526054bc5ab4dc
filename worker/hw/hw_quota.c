/* hw_quota.c - reads processor quotas of control groups.
 * Owns: nothing. Does not: cache, or follow changes. Runs on: any thread.
 * Sources: the kernel's documents cgroup-v2 (cpu.max) and sched-bwc (cpu.cfs_quota_us). */
#include "worker/hw/hw_quota.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX 65536
#define PATH_BYTES_MAX 4096

static bool read_text(struct buf *text, const char *root, const char *mount, const char *path,
        size_t n_path, const char *name) {
    char full[PATH_BYTES_MAX];
    int n = snprintf(full, sizeof full, "%s%s%.*s/%s", root, mount, (int)n_path, path, name);
    buf_reset(text);
    return n > 0 && (size_t)n < sizeof full && buf_read_file(text, full, FILE_BYTES_MAX, NULL) == 0;
}

/* ceil(quota / period); 0 for what is no limit ("max", -1) or no number. */
static uint32_t cpus_of(const char *quota, const char *period) {
    long long q = strtoll(quota, NULL, 10), p = strtoll(period, NULL, 10);
    if (q <= 0 || p <= 0) return 0;
    long long cpus = q / p + (q % p != 0);
    return cpus > UINT32_MAX ? 0 : (uint32_t)cpus;
}

static uint32_t stricter(uint32_t a, uint32_t b) {
    return a == 0 ? b : b == 0 ? a : (uint32_t)min_u64(a, b);
}

/* The quota of one group. */
static uint32_t group_cpus(struct buf *text, const char *root, const char *mount, const char *path,
        size_t n_path, bool v2) {
    if (v2) {
        if (!read_text(text, root, mount, path, n_path, "cpu.max")) return 0;
        const char *blank = strchr(text->bytes, ' ');
        return blank ? cpus_of(text->bytes, blank + 1) : 0;
    }
    if (!read_text(text, root, mount, path, n_path, "cpu.cfs_quota_us")) return 0;
    char quota[32];
    snprintf(quota, sizeof quota, "%s", text->bytes);
    if (!read_text(text, root, mount, path, n_path, "cpu.cfs_period_us")) return 0;
    return cpus_of(quota, text->bytes);
}

/* The strictest quota of a group and all above it, up to the mount itself. */
static uint32_t chain_cpus(
        const char *root, const char *mount, const char *path, size_t n_path, bool v2) {
    struct buf text = {0};
    uint32_t cpus = 0;
    while (n_path > 0 && path[n_path - 1] == '/')
        n_path--;
    for (;;) {
        cpus = stricter(cpus, group_cpus(&text, root, mount, path, n_path, v2));
        if (n_path == 0) break;
        while (n_path > 0 && path[--n_path] != '/')
            continue;
    }
    buf_fini(&text);
    return cpus;
}

/* True when "cpu" is one of the words between commas. */
static bool has_cpu(const char *words, size_t n) {
    for (const char *end = words + n; words < end;) {
        const char *comma = memchr(words, ',', (size_t)(end - words));
        size_t n_word = (size_t)((comma ? comma : end) - words);
        if (n_word == 3 && memcmp(words, "cpu", 3) == 0) return true;
        words += n_word + 1;
    }
    return false;
}

/* One line of /proc/self/cgroup: "0::/path" (version 2) or "4:cpu,cpuacct:/path". */
static uint32_t line_cpus(const char *root, const char *line, size_t n) {
    const char *first = memchr(line, ':', n);
    const char *second = first ? memchr(first + 1, ':', n - (size_t)(first + 1 - line)) : NULL;
    if (!second) return 0;

    const char *path = second + 1;
    size_t n_path = n - (size_t)(path - line);
    size_t n_words = (size_t)(second - first - 1);
    if (n_words == 0)
        return stricter(chain_cpus(root, "/sys/fs/cgroup", path, n_path, true),
                chain_cpus(root, "/sys/fs/cgroup/unified", path, n_path, true));
    if (!has_cpu(first + 1, n_words)) return 0;
    return stricter(chain_cpus(root, "/sys/fs/cgroup/cpu", path, n_path, false),
            chain_cpus(root, "/sys/fs/cgroup/cpu,cpuacct", path, n_path, false));
}

uint32_t hw_quota_cpus(const char *root) {
    struct buf text = {0};
    uint32_t cpus = 0;
    if (read_text(&text, root, "/proc/self", "", 0, "cgroup"))
        for (const char *line = text.bytes; line && *line;) {
            const char *end = strchr(line, '\n');
            cpus = stricter(cpus, line_cpus(root, line, end ? (size_t)(end - line) : strlen(line)));
            line = end ? end + 1 : NULL;
        }
    buf_fini(&text);
    return cpus;
}
