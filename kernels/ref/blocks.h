/* blocks.h - the bytes of GGUF weight blocks: loads, half-width floats, and one block as integers.
 *
 * Every block type that we multiply with has the same shape once its packing is undone: small
 * integer quants, an integer scale per 16 of them, a float scale for the block and, for some types,
 * a minimum. A format's decode() undoes the packing; dequantising and the dot product of
 * docs/numerics.md rule 3 are then one formula each for all types. Nothing in a block is aligned.
 * Pure functions, any thread. */
#pragma once

#include "proto/format/dtype.h"

#include <stdint.h>
#include <string.h>

#define BLOCK_ELEMS_MAX 256
#define BLOCK_SUB_ELEMS 16
#define BLOCK_SUBS_MAX (BLOCK_ELEMS_MAX / BLOCK_SUB_ELEMS)

/* What a block's minimum does. */
enum block_min {
    BLOCK_MIN_NONE = 0,
    BLOCK_MIN_ADD,      /* Q4_1, Q5_1: one for the block */
    BLOCK_MIN_SUBTRACT, /* Q2_K, Q4_K, Q5_K: an integer factor per 16 elements */
};

/* One decoded block. Element i is (d * sc[i / 16]) * q[i], then + m or - m * mn[i / 16]. */
struct block {
    float d;
    float m;
    int16_t sc[BLOCK_SUBS_MAX]; /* 1 for 32-element types */
    int16_t mn[BLOCK_SUBS_MAX]; /* valid for BLOCK_MIN_SUBTRACT */
    int8_t q[BLOCK_ELEMS_MAX];
};

struct block_format {
    void (*decode)(const uint8_t *bytes, struct block *out); /* undoes the packing of one block */
    uint32_t n_elems;                                        /* 32 or 256 */
    uint32_t n_bytes;
    enum block_min min;
};

/* The format of a quantised type that we multiply with; NULL for the float types and all others. */
const struct block_format *block_format_of(enum dtype type);

/* The sixteen values of IQ4_NL and IQ4_XS, and twice those of MXFP4 (whose scale is halved). */
extern const int8_t block_k4nl[16];
extern const int8_t block_fp4x2[16];

static inline uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float f32_nan(void) {
    return f32_from_bits(0x7fc00000);
}

/* Exact. Exponent and fraction are moved into place and the exponent's bias is corrected;
 * subnormals are whole numbers of 2^-24. Infinity and NaN get the highest exponent again. */
static inline float f16_to_f32(uint16_t half) {
    uint32_t magnitude = half & 0x7fff;
    uint32_t normal = (magnitude << 13) + (112U << 23);
    uint32_t special = normal + (112U << 23);
    uint32_t subnormal = f32_bits((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t bits = magnitude < 0x400 ? subnormal : magnitude < 0x7c00 ? normal : special;
    return f32_from_bits(bits | (uint32_t)(half & 0x8000) << 16);
}

static inline float load_f16(const uint8_t *p) {
    return f16_to_f32(load_u16(p));
}

/* Round to nearest even; NaN stays NaN. Below the smallest normal half, adding 0.5 makes the
 * addition round at the half's last bit, 2^-24. */
static inline uint16_t f16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) {
        uint32_t subnormal = f32_bits(f32_from_bits(magnitude) + 0.5f) - 0x3f000000;
        return (uint16_t)(sign | subnormal);
    }
    uint32_t rounded = magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | rounded >> 13);
}

static inline float bf16_to_f32(uint16_t half) {
    return f32_from_bits((uint32_t)half << 16);
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* 2^(e - 128): the halved scale of MXFP4. 255 is NaN by the MX standard; 0 and 1 are subnormal. */
static inline float e8m0_half_to_f32(uint8_t e) {
    if (e == 255) return f32_nan();
    return f32_from_bits(e < 2 ? 0x00200000U << e : (uint32_t)(e - 1) << 23);
}

/* The six-bit scales and minima of Q4_K and Q5_K from their twelve bytes S. s < 8. */
static inline uint8_t k4_scale(const uint8_t *S, uint32_t s) {
    return (uint8_t)(s < 4 ? S[s] & 63 : (S[s + 4] & 15) | (S[s - 4] >> 6) << 4);
}

static inline uint8_t k4_min(const uint8_t *S, uint32_t s) {
    return (uint8_t)(s < 4 ? S[s + 4] & 63 : S[s + 4] >> 4 | (S[s] >> 6) << 4);
}

/* The scales of Q3_K from their twelve bytes S, -32..31. s < 16. */
static inline int8_t q3_scale(const uint8_t *S, uint32_t s) {
    int low = s < 8 ? S[s] & 15 : S[s - 8] >> 4;
    int high = S[8 + s % 4] >> 2 * (s / 4) & 3;
    return (int8_t)((low | high << 4) - 32);
}

/* The scales of IQ4_XS, -32..31, from scales_h and scales_l. s < 8. */
static inline int8_t iq4_xs_scale(uint16_t scales_h, const uint8_t *scales_l, uint32_t s) {
    int low = scales_l[s / 2] >> 4 * (s % 2) & 15;
    return (int8_t)((low | (scales_h >> 2 * s & 3) << 4) - 32);
}
