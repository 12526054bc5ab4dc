/* pool.h - compute threads: one parallel loop at a time, handed out in small pieces.
 *
 * Pieces are taken from one counter, so a thread that is preempted holds up only the piece it has.
 * Idle threads sleep; nothing spins for longer than a few microseconds. The caller of pool_run()
 * takes part as thread 0. Results must not depend on which thread runs a piece (docs/numerics.md). */
#pragma once

#include "proto/base/err.h"

#include <stdint.h>

struct pool; /* opaque; owner: the thread that calls pool_run */

/* task: which piece, 0 .. n_tasks-1. thread: 0 .. pool_n_threads-1, for per-thread scratch. */
typedef void pool_fn(void *arg, uint32_t task, uint32_t thread);

/* Starts n_threads - 1 threads (n_threads 1 starts none). ERR_NO_MEMORY, ERR_LIMIT. */
int pool_new(uint32_t n_threads, struct pool **out_pool, struct err *err);

/* Stops and joins. NULL is fine. */
void pool_free(struct pool *pool);

uint32_t pool_n_threads(const struct pool *pool);

/* Runs fn for every task; returns when all are done. Owner thread only, not from inside fn.
 * Everything written before the call is seen by fn, everything fn wrote is seen after it. */
void pool_run(struct pool *pool, uint32_t n_tasks, pool_fn *fn, void *arg);
