/* mem.h - how much memory there is for this process, and how much it has.
 * Bytes; 0 where the system does not say. Any thread; each call asks the system anew (about
 * a tenth of a millisecond), so not inside a step. */
#pragma once

#include <stdint.h>

/* Physical memory that this process could still take without swapping or being killed: what the
 * system calls available, and no more than the container it runs in allows. Pages of files count as
 * available, since they can be dropped. Where the system does not tell: all physical memory. */
uint64_t mem_available_bytes(void);

/* Resident memory now, and the most there has been. Mapped files count as far as they are in. */
uint64_t mem_rss_bytes(void);
uint64_t mem_peak_rss_bytes(void);

/* The part of it that is in no file: heap, stacks. 0 outside Linux. */
uint64_t mem_anon_rss_bytes(void);
