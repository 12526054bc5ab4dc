/* neon_merge.c - experts' results as integers on a grid (docs/numerics.md rule 6). The twin of
 * kernels/ref/merge_ref.c: the conversions round to nearest even as there.
 * Owns: nothing. Does not: choose the grid. Runs on: any thread of an aarch64 CPU. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_vec.h"
#include "kernels/ref/math_ref.h"

/* A contribution of this many grid steps or more poisons the row. */
#define STEPS_LIMIT 0x1p52f

/* 2^e for -126 <= e <= 127. */
static float power_of_two(int e) {
    return f32_from_bits((uint32_t)(e + 127) << 23);
}

/* Adds two elements: a binary64 holds every float, and is rounded to an integer once. Unsigned, since
 * elements of a poisoned row may wrap. */
INLINE void add_steps_2(int64_t *sum, float64x2_t t) {
    uint64x2_t steps = vreinterpretq_u64_s64(vcvtnq_s64_f64(t));
    uint64x2_t old = vreinterpretq_u64_s64(vld1q_s64(sum));
    vst1q_s64(sum, vreinterpretq_s64_u64(vaddq_u64(old, steps)));
}

/* Adds four elements; lanes that stay below the limit are all ones in the result. */
INLINE uint32x4_t add_steps_4(int64_t *sum, float32x4_t t) {
    add_steps_2(sum, vcvt_f64_f32(vget_low_f32(t)));
    add_steps_2(sum + 2, vcvt_high_f64_f32(t));
    return vcaltq_f32(t, vdupq_n_f32(STEPS_LIMIT));
}

bool neon_merge_add(int64_t *sum, const float *y, float weight, int grid, size_t n) {
    float steps_per_unit = power_of_two(-grid);
    uint32x4_t fits = vdupq_n_u32(UINT32_MAX);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t t = vmulq_n_f32(vmulq_n_f32(vld1q_f32(y + i), weight), steps_per_unit);
        fits = vandq_u32(fits, add_steps_4(sum + i, t));
    }
    if (i < n) { /* the last few, with zeros beside them */
        float last[4] = {0};
        int64_t sums[4] = {0};
        for (size_t k = i; k < n; k++) {
            last[k - i] = (y[k] * weight) * steps_per_unit;
            sums[k - i] = sum[k];
        }
        fits = vandq_u32(fits, add_steps_4(sums, vld1q_f32(last)));
        memcpy(sum + i, sums, (n - i) * sizeof *sum);
    }
    return vminvq_u32(fits) != 0;
}

void neon_merge_apply(float *x, const int64_t *sum, int grid, size_t n) {
    float step = power_of_two(grid);
    size_t i = 0;
    /* Sums that fit 32 bits, as nearly all do, are converted together. */
    for (; i + 4 <= n; i += 4) {
        int64x2_t a = vld1q_s64(sum + i), b = vld1q_s64(sum + i + 2);
        int32x4_t low = vcombine_s32(vmovn_s64(a), vmovn_s64(b));
        uint64x2_t same = vandq_u64(
                vceqq_s64(vmovl_s32(vget_low_s32(low)), a), vceqq_s64(vmovl_high_s32(low), b));
        if (vminvq_u32(vreinterpretq_u32_u64(same)) != 0) {
            float32x4_t moved = vmulq_n_f32(vcvtq_f32_s32(low), step);
            vst1q_f32(x + i, vaddq_f32(vld1q_f32(x + i), moved));
        } else {
            for (size_t k = i; k < i + 4; k++)
                x[k] += (float)sum[k] * step;
        }
    }
    for (; i < n; i++)
        x[i] += (float)sum[i] * step;
}
