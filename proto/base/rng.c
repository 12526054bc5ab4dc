/* rng.c - SplitMix64. Owns: nothing. Runs on: any thread. */
#include "proto/base/rng.h"

#include <sodium.h>

void rng_init(struct rng *rng, uint64_t seed) {
    rng->state = seed;
}

uint64_t rng_next(struct rng *rng) {
    uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t n) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t draw;
    do
        draw = rng_next(rng);
    while (draw >= limit);
    return draw % n;
}

double rng_unit(struct rng *rng) {
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

uint64_t rng_random_seed(void) {
    uint64_t seed;
    randombytes_buf(&seed, sizeof seed);
    return seed;
}
