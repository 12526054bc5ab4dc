/* math_ref.h - the elementary functions of docs/numerics.md rule 4, operation by operation.
 *
 * Each function is a fixed sequence of IEEE operations; the numbered comments are what a vector
 * twin copies, lane by lane, to give the same bits. The library's exp, sin, cos and log are not
 * used. Comparisons are false for NaN, as in C. Pure functions, any thread. */
#pragma once

#include "kernels/ref/blocks.h"
#include "kernels/ref/fma_ref.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Largest x whose exp is finite, and smallest whose exp is a normal number. */
#define MATH_EXP_MAX 0x1.62e42ep+6f
#define MATH_EXP_MIN (-0x1.5d589ep+6f)
/* 1.5 * 2^23: adding it to |v| < 2^22 rounds v to an integer, nearest even, which then stands in
 * the low bits; subtracting it gives that integer as a float. */
#define MATH_ROUND 0x1.8p+23f
#define MATH_LOG2E 0x1.715476p+0f
/* ln 2 = HI + LO; n * HI is subtracted from x without loss by one fma. */
#define MATH_LN2_HI 0x1.62e43p-1f
#define MATH_LN2_LO (-0x1.05c61p-29f)
/* exp(r) = 1 + r + r^2 (C2 + C3 r + ... + C6 r^4) for |r| <= ln 2 / 2, within 1.1e-8 relative. */
#define MATH_EXP_C2 0x1p-1f
#define MATH_EXP_C3 0x1.5554dcp-3f
#define MATH_EXP_C4 0x1.55551ap-5f
#define MATH_EXP_C5 0x1.120ba2p-7f
#define MATH_EXP_C6 0x1.6d113cp-10f

/* exp(x), within one unit in the last place. Results below 2^-126 are +0, above FLT_MAX +infinity;
 * NaN gives NaN.
 *   1. t = fma(x, LOG2E, ROUND);  n = t - ROUND
 *   2. r = fma(n, -LN2_HI, x);    r = fma(n, -LN2_LO, r)
 *   3. p = C6;  p = fma(p, r, C5);  ... C4, C3, C2;  p = fma(p, r, 1);  p = fma(p, r, 1)
 *   4. result bits = bits(p) + (bits(t) << 23), 32-bit wrapping: multiplies by 2^n
 *   5. x < EXP_MIN: +0;  x > EXP_MAX: +infinity;  x is NaN: x. These replace 4, whose bits are then
 *      meaningless. At x = EXP_MAX n is 128 but p is below 1, so 4 does not overflow. */
static inline float math_exp(float x) {
    float t = math_fma(x, MATH_LOG2E, MATH_ROUND);
    float n = t - MATH_ROUND;
    float r = math_fma(n, -MATH_LN2_HI, x);
    r = math_fma(n, -MATH_LN2_LO, r);
    float p = MATH_EXP_C6;
    p = math_fma(p, r, MATH_EXP_C5);
    p = math_fma(p, r, MATH_EXP_C4);
    p = math_fma(p, r, MATH_EXP_C3);
    p = math_fma(p, r, MATH_EXP_C2);
    p = math_fma(p, r, 1.0f);
    p = math_fma(p, r, 1.0f);
    float y = f32_from_bits(f32_bits(p) + (f32_bits(t) << 23));
    if (x < MATH_EXP_MIN) y = 0.0f;
    if (x > MATH_EXP_MAX) y = INFINITY;
    if (x != x) y = x;
    return y;
}

/* 1 / (1 + exp(-x)): one negation, math_exp, one addition, one division. */
static inline float math_sigmoid(float x) {
    return 1.0f / (1.0f + math_exp(-x));
}

/* x / (1 + exp(-x)), likewise. -infinity gives NaN (-inf / inf), as the formula does. */
static inline float math_silu(float x) {
    return x / (1.0f + math_exp(-x));
}

/* Binary64, for tables made once per position or per model: no vector twins.
 * math_exp64: within 3e-16 relative; below exp(-700) +0, above the largest double +infinity.
 * math_log64: within 2e-16 relative; 0 gives -infinity, negative numbers NaN.
 * math_sincos64: within 2e-16 absolute for |x| < 2^40; NaN for NaN and |x| >= 2^50. */
double math_exp64(double x);
double math_log64(double x);
void math_sincos64(double x, double *out_sin, double *out_cos);
