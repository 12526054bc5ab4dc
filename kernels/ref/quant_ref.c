/* quant_ref.c - activation rows as integer blocks (docs/numerics.md rule 2).
 * Owns: nothing. Does not: send or store. Runs on: any thread. */
#include "kernels/ref/ref.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/math_ref.h"

#include "proto/base/err.h"

/* Blocks whose largest magnitude is below this become zero. */
#define AMAX_MIN 0x1p-100f

/* The largest |x| as bits; magnitudes order like their bits, and NaN above infinity above all. */
static uint32_t amax_bits(const float *x, uint32_t n) {
    uint32_t amax = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t magnitude = f32_bits(x[i]) & 0x7fffffff;
        amax = magnitude > amax ? magnitude : amax;
    }
    return amax;
}

void ref_quantise_block(const float *x, uint32_t n, int8_t *q, float *out_d) {
    uint32_t amax = amax_bits(x, n);
    if (amax >= 0x7f800000 || amax < f32_bits(AMAX_MIN)) {
        memset(q, 0, n);
        *out_d = amax >= 0x7f800000 ? f32_nan() : 0.0f;
        return;
    }
    float t = f32_from_bits(amax) / 127.0f;
    float d = f32_from_bits((f32_bits(t) + 0xffff) & 0xffff0000);
    float id = 1.0f / d;
    for (uint32_t i = 0; i < n; i++)
        q[i] = (int8_t)(int32_t)(x[i] * id + MATH_ROUND - MATH_ROUND);
    *out_d = d;
}

/* Sums of 16 consecutive quants. */
static void sum_quants(const int8_t *q, uint32_t n, int16_t *sum16) {
    for (uint32_t k = 0; k < n / 16; k++) {
        int sum = 0;
        for (uint32_t i = 0; i < 16; i++)
            sum += q[16 * k + i];
        sum16[k] = (int16_t)sum;
    }
}

void ref_quantise(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16) {
    ASSERT(kind == ACT_Q8_32 || kind == ACT_Q8_256);
    uint32_t block = kind == ACT_Q8_32 ? 32 : 256;
    ASSERT(n_in % block == 0);
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < n_in; i += block)
            ref_quantise_block(x + r * x_stride + i, block, q + i, d + i / block);
        sum_quants(q, n_in, sum16);
        q += n_in;
        d += n_in / block;
        sum16 += n_in / 16;
    }
}
