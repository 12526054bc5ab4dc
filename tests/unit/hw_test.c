/* hw_test.c - what this machine offers a worker; processor quotas from recorded control groups. */
#include "worker/hw/hw.h"

#include "tests/support/tmpdir.h"
#include "worker/hw/hw_quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* A file of a recorded machine. */
static void put(const struct tmpdir *dir, const char *path, const char *text) {
    char full[1024];
    int n = snprintf(full, sizeof full, "%s/%s", dir->path, path);
    for (char *slash = full + strlen(dir->path) + 1; (slash = strchr(slash, '/')) != NULL;
            slash++) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    assert_true(n > 0 && tmpdir_write(full, text, strlen(text)));
}

static void a_version_2_quota_is_rounded_up(void **state) {
    (void)state;
    struct tmpdir dir;
    assert_true(tmpdir_new(&dir));
    put(&dir, "proc/self/cgroup", "0::/user.slice/pod7\n");
    put(&dir, "sys/fs/cgroup/user.slice/pod7/cpu.max", "250000 100000\n");
    assert_int_equal(hw_quota_cpus(dir.path), 3);
    tmpdir_remove(&dir);
}

static void the_strictest_group_of_the_chain_counts(void **state) {
    (void)state;
    struct tmpdir dir;
    assert_true(tmpdir_new(&dir));
    put(&dir, "proc/self/cgroup", "0::/a/b/c\n");
    put(&dir, "sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put(&dir, "sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
    put(&dir, "sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    assert_int_equal(hw_quota_cpus(dir.path), 4);
    tmpdir_remove(&dir);
}

static void a_version_1_quota_is_found_by_its_controller(void **state) {
    (void)state;
    struct tmpdir dir;
    assert_true(tmpdir_new(&dir));
    put(&dir, "proc/self/cgroup",
            "11:cpuset:/x\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/y\n0::/\n");
    put(&dir, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "150000\n");
    put(&dir, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
    assert_int_equal(hw_quota_cpus(dir.path), 2);
    tmpdir_remove(&dir);
}

static void a_container_that_does_not_see_its_path_reads_the_mount(void **state) {
    (void)state;
    struct tmpdir dir;
    assert_true(tmpdir_new(&dir));
    put(&dir, "proc/self/cgroup", "4:cpu:/docker/not/visible/here\n");
    put(&dir, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "600000\n");
    put(&dir, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(hw_quota_cpus(dir.path), 6);
    tmpdir_remove(&dir);
}

static void no_limit_and_nonsense_are_no_limit(void **state) {
    (void)state;
    static const char *const texts[] = {"max 100000\n", "-1 100000", "0 0\n", "", "100000", "a b c",
            "100000 0\n", "99999999999999999999 1\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct tmpdir dir;
        assert_true(tmpdir_new(&dir));
        put(&dir, "proc/self/cgroup", "0::/\n");
        put(&dir, "sys/fs/cgroup/cpu.max", texts[i]);
        assert_int_equal(hw_quota_cpus(dir.path), 0);
        tmpdir_remove(&dir);
    }
    struct tmpdir dir;
    assert_true(tmpdir_new(&dir));
    assert_int_equal(hw_quota_cpus(dir.path), 0);
    put(&dir, "proc/self/cgroup", ":\n::\n4\n0:\n\n:::::\n0::");
    assert_int_equal(hw_quota_cpus(dir.path), 0);
    tmpdir_remove(&dir);
}

static void this_machine_has_cores_and_memory(void **state) {
    (void)state;
    struct hw_info info;
    memset(&info, 0xff, sizeof info);
    hw_read(&info);
    assert_in_range(info.n_cores, 1, 4096);
    assert_in_range(info.n_pus, info.n_cores, 65536);
    assert_true(info.ram_bytes > (16u << 20));
    assert_in_range(strlen(info.hostname), 1, sizeof info.hostname - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_version_2_quota_is_rounded_up),
            cmocka_unit_test(the_strictest_group_of_the_chain_counts),
            cmocka_unit_test(a_version_1_quota_is_found_by_its_controller),
            cmocka_unit_test(a_container_that_does_not_see_its_path_reads_the_mount),
            cmocka_unit_test(no_limit_and_nonsense_are_no_limit),
            cmocka_unit_test(this_machine_has_cores_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
