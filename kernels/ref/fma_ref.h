/* fma_ref.h - the fused multiply-add of the scalar kernels.
 *
 * With a fused instruction in the build's flags it is that instruction. Baseline x86-64 has none,
 * and the library's fmaf is a call per element (which, on processors without the instruction, also
 * changes the rounding mode each time), so there it is made of binary64 operations that give the
 * same bits. Pure functions, any thread. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__FMA__) || defined(__aarch64__)

static inline float math_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

#else

/* sum + error is the exact value; sum is made odd in its last bit if it is inexact, on the exact
 * value's side. Rounding that to binary32, subnormals too, is then the same as rounding the exact
 * value once, since binary64 has more than two bits to spare (Boldo and Melquiond, "Emulation of a
 * FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). Infinity and NaN
 * make the error NaN and stay. */
static inline float round_to_odd(double sum, double error) {
    uint64_t bits, error_bits;
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&error_bits, &error, sizeof error_bits);
    bool inexact = error < 0.0 || error > 0.0;
    bool inward = (bits ^ error_bits) >> 63;
    if (inexact && (bits & 1) == 0) bits = inward ? bits - 1 : bits + 1;
    memcpy(&sum, &bits, sizeof sum);
    return (float)sum;
}

/* a * b is exact in binary64; the sum with c is rounded, and rounding it again to binary32 can only
 * go wrong from the middle between two floats: the 29 bits that are dropped read 100...0. Below the
 * normal floats more bits are dropped; those, zero and NaN take the slow way too. */
static inline float math_fma(float a, float b, float c) {
    double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((bits & 0x1fffffff) != 0x10000000 && fabs(sum) >= 0x1p-126) return (float)sum;
    double part = sum - product;
    return round_to_odd(sum, (product - (sum - part)) + (addend - part));
}

#endif
