/* hw.c - the machine as hwloc sees it, cut down to what this process may use.
 * Owns: nothing. Does not: bind threads or measure speeds. Runs on: any thread. */
#include "worker/hw/hw.h"

#include "proto/base/checked.h"
#include "proto/base/mem.h"
#include "worker/hw/hw_quota.h"

#include <hwloc.h>
#include <string.h>
#include <unistd.h>

/* Objects of a type that have a processor in the set. */
static uint32_t count(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_const_cpuset_t set) {
    uint32_t n = 0;
    for (hwloc_obj_t obj = NULL; (obj = hwloc_get_next_obj_by_type(topology, type, obj)) != NULL;)
        n += obj->cpuset && hwloc_bitmap_intersects(obj->cpuset, set) ? 1 : 0;
    return n;
}

/* Cores and processors that this thread may run on; zeros when hwloc cannot tell. */
static void read_topology(struct hw_info *info) {
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) < 0) return;
    if (hwloc_topology_load(topology) == 0) {
        hwloc_cpuset_t set = hwloc_bitmap_alloc();
        /* systems without binding (macOS): all that is allowed */
        if (set && (hwloc_get_cpubind(topology, set, HWLOC_CPUBIND_THREAD) < 0 ||
                           hwloc_bitmap_iszero(set)))
            hwloc_bitmap_copy(set, hwloc_topology_get_allowed_cpuset(topology));
        if (set) {
            hwloc_bitmap_and(set, set, hwloc_topology_get_allowed_cpuset(topology));
            info->n_cores = count(topology, HWLOC_OBJ_CORE, set);
            info->n_pus = count(topology, HWLOC_OBJ_PU, set);
        }
        hwloc_bitmap_free(set);
    }
    hwloc_topology_destroy(topology);
}

void hw_read(struct hw_info *out_info) {
    struct hw_info info = {0};
    read_topology(&info);
    if (info.n_pus == 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        info.n_pus = n > 0 ? (uint32_t)n : 1;
    }
    if (info.n_cores == 0) info.n_cores = info.n_pus;

    uint32_t quota = hw_quota_cpus("");
    if (quota) {
        info.n_cores = (uint32_t)min_u64(info.n_cores, quota);
        info.n_pus = (uint32_t)min_u64(info.n_pus, quota);
    }
    info.ram_bytes = mem_available_bytes();
    if (gethostname(info.hostname, sizeof info.hostname - 1) < 0 || !info.hostname[0])
        memcpy(info.hostname, "worker", sizeof "worker");
    *out_info = info;
}
