/* mem_portable.c - memory figures where there is only POSIX. Owns: nothing. Does not: know what
 * other programs use, or the present resident size. Runs on: any thread. */
#include "proto/base/mem.h"

#include <sys/resource.h>
#include <unistd.h>

uint64_t mem_available_bytes(void) {
    long n_pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return n_pages > 0 && page > 0 ? (uint64_t)n_pages * (uint64_t)page : 0;
}

uint64_t mem_rss_bytes(void) {
    return 0;
}

uint64_t mem_peak_rss_bytes(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0 || usage.ru_maxrss < 0) return 0;
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

uint64_t mem_anon_rss_bytes(void) {
    return 0;
}
