/* hw.h - what this machine has: cores the process may use, memory, its name.
 * hwloc enters the program here and nowhere else. Any thread. */
#pragma once

#include <stdint.h>

struct hw_info {
    uint32_t n_cores; /* physical cores this process may use (affinity, cgroup quota), at least 1 */
    uint32_t n_pus;   /* logical processors likewise */
    uint64_t ram_bytes; /* memory this process could still take */
    char hostname[64];
};

void hw_read(struct hw_info *out_info);
