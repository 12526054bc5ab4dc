/* mem_internal.h - for tests: the same on a recorded system. */
#pragma once

#include <stdint.h>

/* mem_available_bytes() from the files under root (root/proc/meminfo and so on; "" is this
 * system). */
uint64_t mem_available_under(const char *root);
