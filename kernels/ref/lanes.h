/* lanes.h - the sixteen virtual lanes of docs/numerics.md rule 1.
 *
 * Element i is added to lane i mod 16; a fixed tree sums the lanes. A row may come in pieces as
 * long as every piece but the last has a multiple of 16 elements. Pure functions, any thread. */
#pragma once

#include "kernels/ref/fma_ref.h"

#include <stddef.h>

#define LANES 16

struct lanes {
    float v[LANES];
};

static inline void lanes_zero(struct lanes *lanes) {
    for (size_t l = 0; l < LANES; l++)
        lanes->v[l] = 0.0f;
}

/* lanes += w[i] * x[i], fused. */
static inline void lanes_add_products(
        struct lanes *lanes, const float *w, const float *x, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes->v[l] = math_fma(w[i + l], x[i + l], lanes->v[l]);
    for (size_t l = 0; i + l < n; l++)
        lanes->v[l] = math_fma(w[i + l], x[i + l], lanes->v[l]);
}

/* lanes += x[i]. */
static inline void lanes_add(struct lanes *lanes, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        lanes->v[i % LANES] += x[i];
}

static inline float lanes_sum(struct lanes lanes) {
    for (size_t h = LANES / 2; h > 0; h /= 2)
        for (size_t l = 0; l < h; l++)
            lanes.v[l] += lanes.v[l + h];
    return lanes.v[0];
}
