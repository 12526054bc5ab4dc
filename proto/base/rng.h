/* rng.h - the seeded generator behind sampling, placements and tests.
 * SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): every
 * 64-bit seed is a full-period stream. Plain data; copy it to replay. Not for secrets. */
#pragma once

#include <stdint.h>

struct rng {
    uint64_t state;
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);

/* Uniform in [0, n), without modulo bias. n > 0. */
uint64_t rng_below(struct rng *rng, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double rng_unit(struct rng *rng);

/* A seed nobody chose, from the system. */
uint64_t rng_random_seed(void);
