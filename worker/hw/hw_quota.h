/* hw_quota.h - how much processor time the container that this process runs in may use. */
#pragma once

#include <stdint.h>

/* Processors by the quota of this process's control group and those above it (version 2, or the cpu
 * controller of version 1), rounded up; 0: no limit, or none that can be read. root stands in front
 * of /proc and /sys ("" for the real ones). Any thread. */
uint32_t hw_quota_cpus(const char *root);
