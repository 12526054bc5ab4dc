/* merge_ref.c - experts' results as integers on a grid (docs/numerics.md rule 6).
 * Owns: nothing. Does not: choose the grid (kern_grid) or pack sums for the wire.
 * Runs on: any thread. */
#include "kernels/ref/ref.h"

#include "kernels/ref/blocks.h"

#include <math.h>

/* A contribution of this many grid steps or more poisons the row. */
#define STEPS_LIMIT 0x1p52f
/* 1.5 * 2^52 rounds a binary64 below 2^51 to an integer; a float from 2^23 on is one already. */
#define ROUND64 0x1.8p+52

/* 2^e for -126 <= e <= 127. */
static float power_of_two(int e) {
    return f32_from_bits((uint32_t)(e + 127) << 23);
}

bool ref_merge_add(int64_t *sum, const float *y, float weight, int grid, size_t n) {
    float steps_per_unit = power_of_two(-grid);
    bool fits = true;
    for (size_t i = 0; i < n; i++) {
        float t = (y[i] * weight) * steps_per_unit;
        if (!(fabsf(t) < STEPS_LIMIT)) {
            fits = false;
            continue;
        }
        double whole = fabsf(t) < 0x1p23f ? (double)t + ROUND64 - ROUND64 : (double)t;
        sum[i] += (int64_t)whole;
    }
    return fits;
}

void ref_merge_apply(float *x, const int64_t *sum, int grid, size_t n) {
    float step = power_of_two(grid);
    for (size_t i = 0; i < n; i++)
        x[i] += (float)sum[i] * step;
}
