/* aligned.h - memory for kernels: blocks that start at a multiple of 64 bytes. What a step needs is sized
 * and allocated once, when the engine, the session or the executor is made. */
#pragma once

#include <stddef.h>

/* 64-byte aligned heap memory, not cleared, freed with free(); NULL when there is none. n_bytes 0 gives
 * a block of 64. Any thread. */
void *aligned_new(size_t n_bytes);
