/* expert_example.h - experts with reproducible random weights, for tests of what holds and runs them.
 * Plain functions; any thread. */
#pragma once

#include "kernels/kern.h"
#include "proto/base/rng.h"

#include <stdint.h>

/* n elements of a computable type as GGUF blocks: any quants, scales that keep dot products small. */
void example_blocks(struct rng *rng, enum dtype type, uint64_t n, void *out);

/* The same weights for the same (seed, layer, expert, part). Returned memory is the caller's. */
void *example_matrix(uint64_t seed, uint32_t layer, uint32_t expert, uint32_t part, enum dtype type,
        uint32_t n_in, uint32_t n_out);

/* Random activation rows: f32[n_rows][n_in] in [-1, 1). */
void example_rows(uint64_t seed, uint32_t n_rows, uint32_t n_in, float *out);
