/* mem_test.c - memory figures, of this system and of recorded ones. */
#include "proto/base/mem.h"

#include "proto/base/mem_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static void resident_memory_grows_with_use(void **state) {
    (void)state;
    enum { N = 64 << 20 };
    uint64_t before = mem_rss_bytes(), anon_before = mem_anon_rss_bytes();
    assert_true(before > 100000);
    assert_true(anon_before > 0 && anon_before <= before);
    volatile char *bytes =
            mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bytes != MAP_FAILED);
    for (size_t i = 0; i < N; i += 1024)
        bytes[i] = 1;
    uint64_t peak = mem_peak_rss_bytes();
    assert_true(mem_rss_bytes() >= before + 60 * MIB);
    assert_true(mem_anon_rss_bytes() >= anon_before + 60 * MIB);
    assert_true(peak >= before + 60 * MIB);
    munmap((void *)bytes, N);
    /* The most there has been, not what is now; the kernel counts in batches of pages. */
    assert_true(mem_peak_rss_bytes() + 4 * MIB >= peak);
    assert_true(mem_rss_bytes() + 50 * MIB < peak);
}

static void there_is_some_memory_and_not_more_than_the_machine_has(void **state) {
    (void)state;
    uint64_t n = mem_available_bytes();
    assert_true(n > MIB);
    assert_true(n <= (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

/* A recorded system: files in a folder. */
static void put(const char *root, const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make(void **state) {
    char *root = strdup("/tmp/potluck-mem-XXXXXX");
    *state = root;
    if (!root || !mkdtemp(root)) return -1;
    put(root, "proc/meminfo",
            "MemTotal:       16000000 kB\nMemFree:  1000 kB\nMemAvailable:    8000000 kB\n");
    return 0;
}

static int drop(void **state) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", (char *)*state);
    free(*state);
    return system(command) == 0 ? 0 : -1;
}

static void without_groups_the_system_decides(void **state) {
    assert_true(mem_available_under(*state) == 8000000 * UINT64_C(1024));
    put(*state, "proc/self/cgroup", "0::/user.slice\n");
    put(*state, "sys/fs/cgroup/user.slice/memory.max", "max\n");
    put(*state, "sys/fs/cgroup/user.slice/memory.current", "12345\n");
    assert_true(mem_available_under(*state) == 8000000 * UINT64_C(1024));
}

static void the_tightest_group_above_us_counts(void **state) {
    put(*state, "proc/self/cgroup", "0::/box/inner\n");
    put(*state, "sys/fs/cgroup/box/inner/memory.max", "max\n");
    put(*state, "sys/fs/cgroup/box/inner/memory.current", "104857600\n");
    put(*state, "sys/fs/cgroup/box/memory.max", "1073741824\n");
    put(*state, "sys/fs/cgroup/box/memory.current", "209715200\n");
    assert_true(mem_available_under(*state) == (1024 - 200) * MIB);
    put(*state, "sys/fs/cgroup/box/inner/memory.high", "209715200\n");
    assert_true(mem_available_under(*state) == 100 * MIB);
    put(*state, "sys/fs/cgroup/box/inner/memory.max", "52428800\n"); /* over its limit already */
    assert_true(mem_available_under(*state) == 0);
}

static void cached_file_pages_count_as_available(void **state) {
    put(*state, "proc/self/cgroup", "0::/\n");
    put(*state, "sys/fs/cgroup/memory.max", "1073741824\n");
    put(*state, "sys/fs/cgroup/memory.current", "1072693248\n");
    put(*state, "sys/fs/cgroup/memory.stat",
            "anon 1\nfile 943718400\ninactive_file 838860800\nactive_file 104857600\n");
    assert_true(mem_available_under(*state) == (1 + 900) * MIB);
}

static void groups_of_version_1_count_too(void **state) {
    put(*state, "proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/abc\n3:cpuset:/\n0::/\n");
    /* In a container the host's path is not there; the mount itself is our group. */
    put(*state, "sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    put(*state, "sys/fs/cgroup/memory/memory.usage_in_bytes", "134217728\n");
    put(*state, "sys/fs/cgroup/memory/memory.stat",
            "inactive_file 1\ntotal_inactive_file 67108864\ntotal_active_file 0\n");
    assert_true(mem_available_under(*state) == (512 - 64) * MIB);
    put(*state, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(mem_available_under(*state) == 8000000 * UINT64_C(1024));
}

static void strange_files_do_no_harm(void **state) {
    put(*state, "proc/meminfo", "MemAvailable: lots\n");
    put(*state, "proc/self/cgroup", "0::/../../x\n:memory:");
    assert_true(mem_available_under(*state) > MIB); /* all that is physically there */
    put(*state, "proc/meminfo", "MemAvailable: 99999999999999999999999 kB");
    put(*state, "proc/self/cgroup", "");
    assert_true(mem_available_under(*state) > MIB);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(resident_memory_grows_with_use),
            cmocka_unit_test(there_is_some_memory_and_not_more_than_the_machine_has),
            cmocka_unit_test_setup_teardown(without_groups_the_system_decides, make, drop),
            cmocka_unit_test_setup_teardown(the_tightest_group_above_us_counts, make, drop),
            cmocka_unit_test_setup_teardown(cached_file_pages_count_as_available, make, drop),
            cmocka_unit_test_setup_teardown(groups_of_version_1_count_too, make, drop),
            cmocka_unit_test_setup_teardown(strange_files_do_no_harm, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
