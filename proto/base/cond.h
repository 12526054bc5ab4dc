/* cond.h - waiting on a condition variable until a point of the monotonic clock (mono.h).
 * macOS cannot bind a condition variable to that clock; there the span left is waited for. */
#pragma once

#include "proto/base/mono.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

static inline void cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
#if !defined(__APPLE__)
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* False when the deadline has passed. Made by cond_init(); the caller holds the mutex. */
static inline bool cond_wait_until(
        pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns) {
    if (deadline_ns == MONO_NEVER) return pthread_cond_wait(cond, mutex) == 0;
#if defined(__APPLE__)
    uint64_t left = mono_left(deadline_ns);
    struct timespec span = {(time_t)(left / MONO_S), (long)(left % MONO_S)};
    return left && pthread_cond_timedwait_relative_np(cond, mutex, &span) != ETIMEDOUT;
#else
    struct timespec at = {(time_t)(deadline_ns / MONO_S), (long)(deadline_ns % MONO_S)};
    return pthread_cond_timedwait(cond, mutex, &at) != ETIMEDOUT;
#endif
}
