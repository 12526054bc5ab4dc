/* mono.h - monotonic time in nanoseconds. Deadlines are absolute values of mono_now(). */
#pragma once

#include <stdint.h>

#define MONO_US UINT64_C(1000)
#define MONO_MS UINT64_C(1000000)
#define MONO_S UINT64_C(1000000000)
#define MONO_NEVER UINT64_MAX

/* Any thread. */
uint64_t mono_now(void);

/* now + span, MONO_NEVER on overflow. */
uint64_t mono_after(uint64_t span_ns);

/* Nanoseconds left until deadline_ns, 0 when it has passed. */
uint64_t mono_left(uint64_t deadline_ns);
