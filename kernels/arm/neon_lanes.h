/* neon_lanes.h - sixteen f32 lanes as one value: four registers.
 *
 * The virtual lanes of rule 1 in docs/numerics.md, and the width in which the float operations walk
 * their rows. "first n" loads and stores touch n elements only (n <= 16); lanes past n read as zero.
 * Everything is static, as in neon_vec.h. */
#pragma once

#include "kernels/arm/neon_vec.h"

#include "kernels/ref/math_ref.h"

#include <stddef.h>

/* Lanes 4 i .. 4 i + 3 are v[i]. Only ever indexed with constants. */
struct lanes {
    float32x4_t v[4];
};

/* One operation on each register of a and, where there is one, of b and c. */
#define LANES_OF(i, expression)                                                                    \
    struct lanes lanes_out;                                                                        \
    EACH_PART(i, 4, lanes_out.v[i] = (expression));                                                \
    return lanes_out

INLINE struct lanes ln_set1(float x) {
    LANES_OF(i, vdupq_n_f32(x));
}
INLINE struct lanes ln_zero(void) {
    return ln_set1(0.0f);
}
INLINE struct lanes ln_load(const float *p) {
    LANES_OF(i, vld1q_f32(p + 4 * i));
}
INLINE struct lanes ln_load_first(const float *p, size_t n) {
    float padded[16] = {0};
    memcpy(padded, p, n * sizeof *p);
    return ln_load(padded);
}
INLINE void ln_store(float *p, struct lanes a) {
    EACH_PART(i, 4, vst1q_f32(p + 4 * i, a.v[i]));
}
INLINE void ln_store_first(float *p, struct lanes a, size_t n) {
    float all[16];
    ln_store(all, a);
    memcpy(p, all, n * sizeof *p);
}
INLINE struct lanes ln_add(struct lanes a, struct lanes b) {
    LANES_OF(i, vaddq_f32(a.v[i], b.v[i]));
}
INLINE struct lanes ln_sub(struct lanes a, struct lanes b) {
    LANES_OF(i, vsubq_f32(a.v[i], b.v[i]));
}
INLINE struct lanes ln_mul(struct lanes a, struct lanes b) {
    LANES_OF(i, vmulq_f32(a.v[i], b.v[i]));
}
INLINE struct lanes ln_div(struct lanes a, struct lanes b) {
    LANES_OF(i, vdivq_f32(a.v[i], b.v[i]));
}
/* Changes the signs, of zeros and NaN too. */
INLINE struct lanes ln_neg(struct lanes a) {
    LANES_OF(i, vnegq_f32(a.v[i]));
}
/* A NaN counts only against another one. */
INLINE struct lanes ln_max(struct lanes a, struct lanes b) {
    LANES_OF(i, vmaxnmq_f32(a.v[i], b.v[i]));
}
/* a * b + c with one rounding. */
INLINE struct lanes ln_fma(struct lanes a, struct lanes b, struct lanes c) {
    LANES_OF(i, vfmaq_f32(c.v[i], a.v[i], b.v[i]));
}

/* The first n lanes of one, the others of the other. */
INLINE struct lanes ln_keep_after(struct lanes first, size_t n, struct lanes rest) {
    static const uint32_t lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint32x4_t end = vdupq_n_u32((uint32_t)n);
    LANES_OF(i, vbslq_f32(vcltq_u32(vld1q_u32(lane + 4 * i), end), first.v[i], rest.v[i]));
}

/* Sixteen binary16, bfloat16 or int8 values, widened. */
INLINE struct lanes ln_load_f16(const void *p) {
    const uint8_t *bytes = p;
    LANES_OF(i, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes + 8 * i))));
}
INLINE struct lanes ln_load_bf16(const void *p) {
    const uint8_t *bytes = p;
    LANES_OF(
            i, vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bytes + 8 * i)), 16)));
}
INLINE struct lanes ln_load_i8(const void *p) {
    int8x16_t bytes = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    return (struct lanes){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_high_s16(low)), vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_high_s16(high))}};
}
INLINE void ln_store_f16(void *p, struct lanes a) {
    uint8_t *bytes = p;
    EACH_PART(i, 4, vst1_u8(bytes + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(a.v[i]))));
}

/* lane[l] += lane[l + 8], then lane[l + 4]: what is left of the tree is 2, 1. */
INLINE float32x4_t ln_fold4(struct lanes a) {
    return vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
}
INLINE float ln_sum(struct lanes a) {
    float32x4_t h4 = ln_fold4(a);
    float32x2_t h2 = vadd_f32(vget_low_f32(h4), vget_high_f32(h4));
    return vget_lane_f32(vpadd_f32(h2, h2), 0);
}

/* Halves of two registers: low a, low b; and high a, high b. */
INLINE float32x4_t low_halves(float32x4_t a, float32x4_t b) {
    return vcombine_f32(vget_low_f32(a), vget_low_f32(b));
}
INLINE float32x4_t high_halves(float32x4_t a, float32x4_t b) {
    return vcombine_f32(vget_high_f32(a), vget_high_f32(b));
}

/* The sums of four values at once, each by the tree of ln_sum(). */
INLINE float32x4_t ln_sum4(struct lanes a, struct lanes b, struct lanes c, struct lanes d) {
    float32x4_t a4 = ln_fold4(a), b4 = ln_fold4(b), c4 = ln_fold4(c), d4 = ln_fold4(d);
    float32x4_t ab = vaddq_f32(low_halves(a4, b4), high_halves(a4, b4)); /* a0 a1 b0 b1 */
    float32x4_t cd = vaddq_f32(low_halves(c4, d4), high_halves(c4, d4));
    return vpaddq_f32(ab, cd);
}

/* The largest lane that is a number; NaN where there is none. */
INLINE float ln_max_of(struct lanes a) {
    float32x4_t max = vmaxnmq_f32(vmaxnmq_f32(a.v[0], a.v[1]), vmaxnmq_f32(a.v[2], a.v[3]));
    return vmaxnmvq_f32(max);
}

/* Steps 4 and 5 of math_exp() for four lanes: p * 2^n where x has a finite result. */
INLINE float32x4_t exp_finish(float32x4_t x, float32x4_t t, float32x4_t p) {
    uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    float32x4_t y = vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p), exponent));
    y = vbslq_f32(vcltq_f32(x, vdupq_n_f32(MATH_EXP_MIN)), vdupq_n_f32(0.0f), y);
    y = vbslq_f32(vcgtq_f32(x, vdupq_n_f32(MATH_EXP_MAX)), vdupq_n_f32(INFINITY), y);
    return vbslq_f32(vceqq_f32(x, x), y, x);
}

/* The twin of math_exp() in kernels/ref/math_ref.h, operation for operation. */
INLINE struct lanes ln_exp(struct lanes x) {
    struct lanes round = ln_set1(MATH_ROUND), one = ln_set1(1.0f);
    struct lanes t = ln_fma(x, ln_set1(MATH_LOG2E), round);
    struct lanes n = ln_sub(t, round);
    struct lanes r = ln_fma(n, ln_set1(-MATH_LN2_HI), x);
    r = ln_fma(n, ln_set1(-MATH_LN2_LO), r);
    struct lanes p = ln_set1(MATH_EXP_C6);
    p = ln_fma(p, r, ln_set1(MATH_EXP_C5));
    p = ln_fma(p, r, ln_set1(MATH_EXP_C4));
    p = ln_fma(p, r, ln_set1(MATH_EXP_C3));
    p = ln_fma(p, r, ln_set1(MATH_EXP_C2));
    p = ln_fma(p, r, one);
    p = ln_fma(p, r, one);
    LANES_OF(i, exp_finish(x.v[i], t.v[i], p.v[i]));
}
