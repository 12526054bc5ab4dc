/* mono.c - the monotonic clock. Owns: nothing. Runs on: any thread. */
#include "proto/base/mono.h"

#include <time.h>

uint64_t mono_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * MONO_S + (uint64_t)ts.tv_nsec;
}

uint64_t mono_after(uint64_t span_ns) {
    uint64_t now = mono_now();
    return span_ns > MONO_NEVER - now ? MONO_NEVER : now + span_ns;
}

uint64_t mono_left(uint64_t deadline_ns) {
    uint64_t now = mono_now();
    return deadline_ns > now ? deadline_ns - now : 0;
}
