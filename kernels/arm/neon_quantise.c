/* neon_quantise.c - activation rows as integer blocks, and rows of the cache (docs/numerics.md rules
 * 2 and 5). The twin of kernels/ref/quant_ref.c.
 * Owns: nothing. Does not: send or store. Runs on: any thread of an aarch64 CPU. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_lanes.h"

#include "kernels/ref/blocks.h"

/* Blocks whose largest magnitude is below this become zero. */
#define AMAX_MIN 0x1p-100f

/* The largest |x| of n = 16 k elements, as bits: magnitudes order like their bits, NaN on top. */
INLINE uint32_t amax_bits(const float *x, uint32_t n) {
    uint32x4_t max[4];
    EACH_PART(i, 4, max[i] = vdupq_n_u32(0));
    for (uint32_t at = 0; at < n; at += 16) {
        struct lanes v = ln_load(x + at);
        EACH_PART(i, 4, max[i] = vmaxq_u32(max[i], vreinterpretq_u32_f32(vabsq_f32(v.v[i]))));
    }
    return vmaxvq_u32(vmaxq_u32(vmaxq_u32(max[0], max[1]), vmaxq_u32(max[2], max[3])));
}

/* rne(x * id) of sixteen elements, |x * id| <= 127. */
INLINE int8x16_t quants_of_16(const float *x, float id) {
    struct lanes v = ln_mul(ln_load(x), ln_set1(id));
    int32x4_t q[4];
    EACH_PART(i, 4, q[i] = vcvtnq_s32_f32(v.v[i]));
    int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]));
    int16x8_t high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

/* Writes the quants of n = 16 k elements and, unless NULL, the sums of 16; returns the scale. */
INLINE float quantise_block(const float *x, uint32_t n, int8_t *q, int16_t *sum16) {
    uint32_t amax = amax_bits(x, n);
    if (amax >= 0x7f800000 || amax < f32_bits(AMAX_MIN)) {
        memset(q, 0, n);
        if (sum16 != NULL) memset(sum16, 0, n / 16 * sizeof *sum16);
        return amax >= 0x7f800000 ? f32_nan() : 0.0f;
    }
    float t = f32_from_bits(amax) / 127.0f;
    float d = f32_from_bits((f32_bits(t) + 0xffff) & 0xffff0000);
    float id = 1.0f / d;
    for (uint32_t i = 0; i < n; i += 16) {
        int8x16_t quants = quants_of_16(x + i, id);
        vst1q_s8(q + i, quants);
        if (sum16 != NULL) sum16[i / 16] = vaddlvq_s8(quants);
    }
    return d;
}

void neon_quantise(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16) {
    ASSERT(kind == ACT_Q8_32 || kind == ACT_Q8_256);
    uint32_t block = kind == ACT_Q8_32 ? 32 : 256;
    ASSERT(n_in % block == 0);
    for (uint32_t r = 0; r < n_rows; r++, x += x_stride)
        for (uint32_t i = 0; i < n_in; i += block, q += block, sum16 += block / 16)
            *d++ = quantise_block(x + i, block, q, sum16);
}

static void store_halves(uint8_t *to, const float *x, uint32_t n) {
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store_f16(to + 2 * (size_t)i, ln_load(x + i));
    if (i < n) {
        uint16_t last[16];
        ln_store_f16(last, ln_load_first(x + i, n - i));
        memcpy(to + 2 * (size_t)i, last, 2 * (size_t)(n - i));
    }
}

void neon_kv_store(enum dtype kv_type, void *to, const float *x, uint32_t n) {
    uint8_t *bytes = to;
    if (kv_type == DT_F32) {
        memcpy(bytes, x, n * sizeof *x);
    } else if (kv_type == DT_F16) {
        store_halves(bytes, x, n);
    } else {
        ASSERT(kv_type == DT_Q8_0);
        ASSERT(n % 32 == 0);
        for (uint32_t i = 0; i < n; i += 32) {
            float d = quantise_block(x + i, 32, (int8_t *)bytes + i, NULL);
            memcpy(bytes + n + i / 32 * sizeof d, &d, sizeof d);
        }
    }
}
