/* neon_blocks.h - one block of every quantised type: n_parts times four weight rows of an interleaved
 * group (kernels/r16.h) times n_rows activation rows, by rule 3 of docs/numerics.md.
 *
 * Each function unpacks quad after quad and takes its exact integer product with every row while it is
 * in a register, then ends with one fused multiply-add per accumulator (two where the type has a
 * minimum). Quants that are stored with an offset stay so: the sums start at minus the offset times the
 * sum of the activation quants. n_parts and n_rows are constants at every call; loops over parts of a
 * 256-element block stay loops. Sums in 32 bits are exact and never overflow. */
#pragma once

#include "kernels/arm/neon_vec.h"
#include "kernels/r16.h"
#include "kernels/ref/blocks.h"

#include <stdbool.h>

/* Sums that have registers: weight parts times activation rows. */
#if defined(NEON_DOT)
#define TILE_SUMS 8
#else
#define TILE_SUMS 4
#endif

/* TILE_SUMS activation rows, or fewer, against one group of 16 weight rows. Borrows all. */
struct tile {
    const uint8_t *head; /* the group's head and quant sections */
    const uint8_t *quants;
    uint32_t n_blocks;
    const int8_t *q[EACH_MAX];
    const float *d[EACH_MAX];
    const int16_t *sum16[EACH_MAX];
};

/* Which part of a tile a block function works on, and where it adds its results: acc[p][r]. */
struct piece {
    uint32_t block;
    int part0;
    float32x4_t (*acc)[EACH_MAX];
};

INLINE const uint8_t *piece_quants(const struct tile *t, const struct piece *at, int n_chunks) {
    return t->quants + (size_t)at->block * (size_t)n_chunks * R16_CHUNK + 16 * at->part0;
}

INLINE uint8x16_t load_chunk(const uint8_t *quants, int k, int p) {
    return vld1q_u8(quants + R16_CHUNK * k + 16 * p);
}

/* Step k of n: the quads w[p] times the four quants from element base + 4 k of each row. */
INLINE void add_quad(const struct tile *t, size_t base, int k, int n, int bits, int n_parts,
        int n_rows, const uint8x16_t *w, struct dot (*dots)[EACH_MAX]) {
    EACH(r, n_rows, {
        int8x16_t x = vld1q_s8(t->q[r] + base + k / 4 * 16);
        EACH_PART(p, n_parts, dot_step(&dots[p][r], vreinterpretq_s8_u8(w[p]), x, k, n, bits));
    });
}

INLINE void start_zero(int n_parts, int n_rows, struct dot (*dots)[EACH_MAX]) {
    EACH(r, n_rows, EACH_PART(p, n_parts, dot_start(&dots[p][r], vdupq_n_s32(0))));
}

INLINE void clear_sums(int n_parts, int n_rows, int32x4_t (*sum)[EACH_MAX]) {
    EACH(r, n_rows, EACH_PART(p, n_parts, sum[p][r] = vdupq_n_s32(0)));
}

/* isum += scale * dots */
INLINE void add_scaled(struct dot (*dots)[EACH_MAX], const int32x4_t *scale, int n_parts,
        int n_rows, int32x4_t (*isum)[EACH_MAX]) {
    EACH(r, n_rows, EACH_PART(p, n_parts, {
        isum[p][r] = vmlaq_s32(isum[p][r], dot_end(&dots[p][r]), scale[p]);
    }));
}

/* Sixteen bytes of a head, one per row: those of a piece, as 32-bit numbers. */
INLINE void load_scales_u8(const uint8_t *p, int n_parts, int32x4_t *out) {
    EACH_PART(i, n_parts, {
        uint16x8_t wide = vmovl_u8(load_4_bytes(p + 4 * i));
        out[i] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
    });
}

INLINE void load_scales_i8(const uint8_t *p, int n_parts, int32x4_t *out) {
    EACH_PART(i, n_parts, {
        int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(load_4_bytes(p + 4 * i)));
        out[i] = vmovl_s16(vget_low_s16(wide));
    });
}

/* Binary16 scales of a head, of four rows. */
INLINE float32x4_t load_halves(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

/* acc = fma(dw * dx, isum, acc) for four rows and one activation row. */
INLINE float32x4_t add_block(float32x4_t acc, float32x4_t dw, float dx, int32x4_t isum) {
    return vfmaq_f32(acc, vmulq_n_f32(dw, dx), vcvtq_f32_s32(isum));
}

/* acc = fma(-(mw * dx), msum, acc): the minimum of K-quants, which is subtracted. */
INLINE float32x4_t sub_min(float32x4_t acc, float32x4_t mw, float dx, int32x4_t msum) {
    return vfmsq_f32(acc, vmulq_n_f32(mw, dx), vcvtq_f32_s32(msum));
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

INLINE int32_t sum_of_32(const struct tile *t, int row, uint32_t block) {
    const int16_t *sum16 = t->sum16[row] + 2 * (size_t)block;
    return sum16[0] + sum16[1];
}

/* Sums that start at -offset * (sum of the block's activation quants). */
INLINE void start_offset(const struct tile *t, uint32_t block, int offset, int n_parts, int n_rows,
        struct dot (*dots)[EACH_MAX]) {
    EACH(r, n_rows, {
        int32x4_t start = vdupq_n_s32(-offset * sum_of_32(t, r, block));
        EACH_PART(p, n_parts, dot_start(&dots[p][r], start));
    });
}

/* The end of a block without a minimum: acc += dw * dx * dots. */
INLINE void end_block_32(const struct tile *t, const struct piece *at, const float32x4_t *dw,
        int n_parts, int n_rows, struct dot (*dots)[EACH_MAX]) {
    EACH(r, n_rows, EACH_PART(p, n_parts, {
        at->acc[p][r] = add_block(at->acc[p][r], dw[p], t->d[r][at->block], dot_end(&dots[p][r]));
    }));
}

/* The same with a scale of 16 bits, the only content of the head. */
INLINE void end_block_d(const struct tile *t, const struct piece *at, int n_parts, int n_rows,
        struct dot (*dots)[EACH_MAX]) {
    const uint8_t *head = t->head + (size_t)at->block * 32 + 8 * at->part0;
    float32x4_t dw[PARTS];
    EACH_PART(p, n_parts, dw[p] = load_halves(head + 8 * p));
    end_block_32(t, at, dw, n_parts, n_rows, dots);
}

/* The same with scale and minimum: acc = fma(mw * dx, sum of x, acc) after it. */
INLINE void end_block_dm(const struct tile *t, const struct piece *at, int n_parts, int n_rows,
        struct dot (*dots)[EACH_MAX]) {
    const uint8_t *head = t->head + (size_t)at->block * 64 + 8 * at->part0;
    EACH_PART(p, n_parts, {
        float32x4_t dw = load_halves(head + 8 * p), mw = load_halves(head + 32 + 8 * p);
        EACH(r, n_rows, {
            float dx = t->d[r][at->block], sum = (float)sum_of_32(t, r, at->block);
            float32x4_t acc = add_block(at->acc[p][r], dw, dx, dot_end(&dots[p][r]));
            at->acc[p][r] = vfmaq_n_f32(acc, vmulq_n_f32(mw, dx), sum);
        });
    });
}

/* Nibbles of chunks k % 4, low ones for k < 4, high ones from there: quad k of 32 elements. */
INLINE uint8x16_t nibbles(const uint8_t *quants, int k, int p) {
    uint8x16_t chunk = load_chunk(quants, k % 4, p);
    return k < 4 ? bytes_and(chunk, 15) : bytes_shr(chunk, 4);
}

/* The products of a block of nibbles less `offset`. */
INLINE void dot_q4(const struct tile *t, const struct piece *at, int offset, int n_parts,
        int n_rows, struct dot (*dots)[EACH_MAX]) {
    const uint8_t *quants = piece_quants(t, at, 4);
    start_offset(t, at->block, offset, n_parts, n_rows, dots);
    UNROLL
    for (int k = 0; k < 8; k++) {
        uint8x16_t w[PARTS];
        EACH_PART(p, n_parts, w[p] = nibbles(quants, k, p));
        add_quad(t, (size_t)at->block * 32, k, 8, 4, n_parts, n_rows, w, dots);
    }
}

INLINE void q4_0_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    dot_q4(t, at, 8, n_parts, n_rows, dots);
    end_block_d(t, at, n_parts, n_rows, dots);
}

INLINE void q4_1_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    dot_q4(t, at, 0, n_parts, n_rows, dots);
    end_block_dm(t, at, n_parts, n_rows, dots);
}

/* Nibbles, the low ones or the high ones of a chunk, under a bit that stands at bit 0 (low) or bit 4
 * (high) of `fifth`, whose other bits do not matter. */
INLINE uint8x16_t with_fifth_bit(uint8x16_t chunk, bool high, uint8x16_t fifth) {
    return bytes_and(high ? vsriq_n_u8(fifth, chunk, 4) : vsliq_n_u8(chunk, fifth, 4), 31);
}

/* The products of a block of five-bit quants less `offset`. */
INLINE void dot_q5(const struct tile *t, const struct piece *at, int offset, int n_parts,
        int n_rows, struct dot (*dots)[EACH_MAX]) {
    const uint8_t *quants = piece_quants(t, at, 5);
    start_offset(t, at->block, offset, n_parts, n_rows, dots);
    UNROLL
    for (int k = 0; k < 8; k++) {
        uint8x16_t w[PARTS];
        EACH_PART(p, n_parts, {
            uint8x16_t fifth = bytes_shr(load_chunk(quants, 4, p), k < 4 ? k : k - 4);
            w[p] = with_fifth_bit(load_chunk(quants, k % 4, p), k >= 4, fifth);
        });
        add_quad(t, (size_t)at->block * 32, k, 8, 5, n_parts, n_rows, w, dots);
    }
}

INLINE void q5_0_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    dot_q5(t, at, 16, n_parts, n_rows, dots);
    end_block_d(t, at, n_parts, n_rows, dots);
}

INLINE void q5_1_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    dot_q5(t, at, 0, n_parts, n_rows, dots);
    end_block_dm(t, at, n_parts, n_rows, dots);
}

INLINE void q8_0_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *quants = piece_quants(t, at, 8);
    struct dot dots[PARTS][EACH_MAX];
    start_zero(n_parts, n_rows, dots);
    UNROLL
    for (int k = 0; k < 8; k++) {
        uint8x16_t w[PARTS];
        EACH_PART(p, n_parts, w[p] = load_chunk(quants, k, p));
        add_quad(t, (size_t)at->block * 32, k, 8, 8, n_parts, n_rows, w, dots);
    }
    end_block_d(t, at, n_parts, n_rows, dots);
}

/* The products of 32 elements from `base` whose nibbles index a table. */
INLINE void dot_table(const struct tile *t, const uint8_t *quants, size_t base, const int8_t *table,
        int bits, int n_parts, int n_rows, struct dot (*dots)[EACH_MAX]) {
    uint8x16_t values = vreinterpretq_u8_s8(vld1q_s8(table));
    start_zero(n_parts, n_rows, dots);
    UNROLL
    for (int k = 0; k < 8; k++) {
        uint8x16_t w[PARTS];
        EACH_PART(p, n_parts, w[p] = vqtbl1q_u8(values, nibbles(quants, k, p)));
        add_quad(t, base, k, 8, bits, n_parts, n_rows, w, dots);
    }
}

INLINE void iq4_nl_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    dot_table(t, piece_quants(t, at, 4), (size_t)at->block * 32, block_k4nl, 8, n_parts, n_rows,
            dots);
    end_block_d(t, at, n_parts, n_rows, dots);
}

/* 2^(e - 128) of eight-bit exponents; NaN for 255. The two smallest are subnormal. */
INLINE float32x4_t scale_from_e8m0(int32x4_t e) {
    int32x4_t normal = vshlq_n_s32(vsubq_s32(e, vdupq_n_s32(1)), 23);
    int32x4_t small = vshlq_s32(vdupq_n_s32(0x00200000), e);
    int32x4_t bits = vbslq_s32(vcltq_s32(e, vdupq_n_s32(2)), small, normal);
    bits = vbslq_s32(vceqq_s32(e, vdupq_n_s32(255)), vdupq_n_s32(0x7fc00000), bits);
    return vreinterpretq_f32_s32(bits);
}

INLINE void mxfp4_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    struct dot dots[PARTS][EACH_MAX];
    int32x4_t e[PARTS];
    float32x4_t dw[PARTS];
    dot_table(t, piece_quants(t, at, 4), (size_t)at->block * 32, block_fp4x2, 4, n_parts, n_rows,
            dots);
    load_scales_u8(t->head + (size_t)at->block * 16 + 4 * at->part0, n_parts, e);
    EACH_PART(p, n_parts, dw[p] = scale_from_e8m0(e[p]));
    end_block_32(t, at, dw, n_parts, n_rows, dots);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

/* The end of a block without a minimum, whose scale stands first in the head: acc += dw * dx * isum. */
INLINE void end_block_256(const struct tile *t, const struct piece *at, const uint8_t *head,
        int n_parts, int n_rows, int32x4_t (*isum)[EACH_MAX]) {
    EACH_PART(p, n_parts, {
        float32x4_t dw = load_halves(head + 8 * (at->part0 + p));
        EACH(r, n_rows,
                { at->acc[p][r] = add_block(at->acc[p][r], dw, t->d[r][at->block], isum[p][r]); });
    });
}

/* The same, then less the minimum, whose scale stands second: mw * dx * msum. */
INLINE void end_block_min(const struct tile *t, const struct piece *at, const uint8_t *head,
        int n_parts, int n_rows, int32x4_t (*isum)[EACH_MAX], int32x4_t (*msum)[EACH_MAX]) {
    end_block_256(t, at, head, n_parts, n_rows, isum);
    EACH_PART(p, n_parts, {
        float32x4_t mw = load_halves(head + 32 + 8 * (at->part0 + p));
        EACH(r, n_rows,
                { at->acc[p][r] = sub_min(at->acc[p][r], mw, t->d[r][at->block], msum[p][r]); });
    });
}

/* Sums that start at -offset * (sum of the 16 activation quants of sub-block s). */
INLINE void start_offset_16(const struct tile *t, uint32_t block, int s, int offset, int n_parts,
        int n_rows, struct dot (*dots)[EACH_MAX]) {
    EACH(r, n_rows, {
        int32x4_t start = vdupq_n_s32(-offset * t->sum16[r][(size_t)block * 16 + (size_t)s]);
        EACH_PART(p, n_parts, dot_start(&dots[p][r], start));
    });
}

/* One of the minima of Q2_K: that of sub-block 8 half + i, in the high nibbles of the scales, times the
 * sum of activation quants. */
INLINE void add_min_16(const struct tile *t, const struct piece *at, const uint8_t *scales,
        int half, int i, int n_parts, int n_rows, int32x4_t (*msum)[EACH_MAX]) {
    EACH_PART(p, n_parts, {
        uint8x8_t both = load_4_bytes(scales + 16 * (8 * half + i) + 4 * p);
        uint16x4_t min = vget_low_u16(vmovl_u8(vshr_n_u8(both, 4)));
        EACH(r, n_rows, {
            int16x8_t sums = vld1q_s16(t->sum16[r] + (size_t)at->block * 16 + 8 * (size_t)half);
            msum[p][r] = mlal_lane(msum[p][r], vreinterpret_s16_u16(min), sums, i);
        });
    });
}

INLINE void q2_k_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 320;
    const uint8_t *quants = piece_quants(t, at, 16), *scales = head + 64 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX], msum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int quarter = 0; quarter < 4; quarter++) { /* half of 128, half of 32 */
        const int h = quarter / 2, half = quarter % 2;
        EACH_PART(g, 4, {
            const int s = 8 * h + 2 * g + half;
            HIDE(quants);
            struct dot dots[PARTS][EACH_MAX];
            int32x4_t scale[PARTS];
            start_zero(n_parts, n_rows, dots);
            EACH_PART(k, 4, {
                uint8x16_t w[PARTS];
                EACH_PART(p, n_parts, {
                    uint8x16_t chunk = load_chunk(quants, 8 * h + 4 * half + k, p);
                    w[p] = bytes_and(bytes_shr(chunk, 2 * g), 3);
                });
                add_quad(t, (size_t)at->block * 256 + 16 * (size_t)s, k, 4, 2, n_parts, n_rows, w,
                        dots);
            });
            load_scales_u8(scales + 16 * s, n_parts, scale);
            EACH_PART(p, n_parts, scale[p] = vandq_s32(scale[p], vdupq_n_s32(15)));
            add_scaled(dots, scale, n_parts, n_rows, isum);
        });
    }
    clear_sums(n_parts, n_rows, msum);
    EACH(i, 8, add_min_16(t, at, scales, 0, i, n_parts, n_rows, msum));
    EACH(i, 8, add_min_16(t, at, scales, 1, i, n_parts, n_rows, msum));
    end_block_min(t, at, head, n_parts, n_rows, isum, msum);
}

INLINE void q3_k_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 288;
    const uint8_t *quants = piece_quants(t, at, 24), *scales = head + 32 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int quarter = 0; quarter < 4; quarter++) {
        const int h = quarter / 2, half = quarter % 2;
        EACH_PART(g, 4, {
            const int s = 8 * h + 2 * g + half;
            HIDE(quants);
            struct dot dots[PARTS][EACH_MAX];
            int32x4_t scale[PARTS];
            start_offset_16(t, at->block, s, 4, n_parts, n_rows, dots);
            EACH_PART(k, 4, {
                uint8x16_t w[PARTS];
                EACH_PART(p, n_parts, {
                    uint8x16_t low = bytes_shr(load_chunk(quants, 8 * h + 4 * half + k, p), 2 * g);
                    uint8x16_t third = load_chunk(quants, 16 + 4 * half + k, p);
                    third = bytes_shift_by(third, -(4 * h + g));
                    w[p] = bytes_and(vsliq_n_u8(low, third, 2), 7);
                });
                add_quad(t, (size_t)at->block * 256 + 16 * (size_t)s, k, 4, 3, n_parts, n_rows, w,
                        dots);
            });
            load_scales_i8(scales + 16 * s, n_parts, scale);
            add_scaled(dots, scale, n_parts, n_rows, isum);
        });
    }
    end_block_256(t, at, head, n_parts, n_rows, isum);
}

/* Minimum and scale of Q4_K and Q5_K, whose heads are alike: minima come in pairs of neighbours. */
INLINE void end_block_k(const struct tile *t, const struct piece *at, const uint8_t *head,
        int n_parts, int n_rows, int32x4_t (*isum)[EACH_MAX]) {
    const uint8_t *mins = head + 192 + 8 * at->part0;
    int32x4_t msum[PARTS][EACH_MAX];
    int16x8_t sums[EACH_MAX]; /* of 32 activation quants */
    EACH(r, n_rows, {
        const int16_t *sum16 = t->sum16[r] + (size_t)at->block * 16;
        sums[r] = vpaddq_s16(vld1q_s16(sum16), vld1q_s16(sum16 + 8));
    });
    clear_sums(n_parts, n_rows, msum);
    UNROLL
    for (int i = 0; i < 4; i++) {
        EACH_PART(p, n_parts, {
            uint16x4_t both = vreinterpret_u16_u8(vld1_u8(mins + 32 * i + 8 * p));
            int16x4_t even = vreinterpret_s16_u16(vand_u16(both, vdup_n_u16(255)));
            int16x4_t odd = vreinterpret_s16_u16(vshr_n_u16(both, 8));
            EACH(r, n_rows, {
                msum[p][r] = mlal_lane(msum[p][r], even, sums[r], 2 * i);
                msum[p][r] = mlal_lane(msum[p][r], odd, sums[r], 2 * i + 1);
            });
        });
    }
    end_block_min(t, at, head, n_parts, n_rows, isum, msum);
}

INLINE void q4_k_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 320;
    const uint8_t *quants = piece_quants(t, at, 32), *scales = head + 64 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++)
        EACH_PART(high, 2, {
            const int s = 2 * c + high;
            HIDE(quants);
            struct dot dots[PARTS][EACH_MAX];
            int32x4_t scale[PARTS];
            start_zero(n_parts, n_rows, dots);
            UNROLL
            for (int k = 0; k < 8; k++) {
                uint8x16_t w[PARTS];
                EACH_PART(p, n_parts, {
                    uint8x16_t chunk = load_chunk(quants, 8 * c + k, p);
                    w[p] = high ? bytes_shr(chunk, 4) : bytes_and(chunk, 15);
                });
                add_quad(t, (size_t)at->block * 256 + 32 * (size_t)s, k, 8, 4, n_parts, n_rows, w,
                        dots);
            }
            load_scales_u8(scales + 16 * s, n_parts, scale);
            add_scaled(dots, scale, n_parts, n_rows, isum);
        });
    end_block_k(t, at, head, n_parts, n_rows, isum);
}

INLINE void q5_k_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 320;
    const uint8_t *quants = piece_quants(t, at, 40), *scales = head + 64 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++)
        EACH_PART(high, 2, {
            const int s = 2 * c + high;
            HIDE(quants);
            struct dot dots[PARTS][EACH_MAX];
            int32x4_t scale[PARTS];
            start_zero(n_parts, n_rows, dots);
            UNROLL
            for (int k = 0; k < 8; k++) {
                uint8x16_t w[PARTS];
                EACH_PART(p, n_parts, {
                    uint8x16_t fifth = load_chunk(quants, 32 + k, p);
                    fifth = bytes_shift_by(fifth, high ? 4 - s : -s);
                    w[p] = with_fifth_bit(load_chunk(quants, 8 * c + k, p), high, fifth);
                });
                add_quad(t, (size_t)at->block * 256 + 32 * (size_t)s, k, 8, 5, n_parts, n_rows, w,
                        dots);
            }
            load_scales_u8(scales + 16 * s, n_parts, scale);
            add_scaled(dots, scale, n_parts, n_rows, isum);
        });
    end_block_k(t, at, head, n_parts, n_rows, isum);
}

/* Quads of Q6_K, group g of four: nibbles of ql under two bits of qh, 0..63. */
INLINE uint8x16_t q6_quad(uint8x16_t low, uint8x16_t high, int g) {
    uint8x16_t top = bytes_shr(high, g % 2 * 2);
    return bytes_and(g < 2 ? vsliq_n_u8(low, top, 4) : vsriq_n_u8(top, low, 4), 63);
}

INLINE void q6_k_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 288;
    const uint8_t *quants = piece_quants(t, at, 48), *scales = head + 32 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int quarter = 0; quarter < 4; quarter++) {
        const int h = quarter / 2, half = quarter % 2;
        EACH_PART(g, 4, {
            const int s = 8 * h + 2 * g + half;
            HIDE(quants);
            struct dot dots[PARTS][EACH_MAX];
            int32x4_t scale[PARTS];
            start_offset_16(t, at->block, s, 32, n_parts, n_rows, dots);
            EACH_PART(k, 4, {
                uint8x16_t w[PARTS];
                EACH_PART(p, n_parts, {
                    uint8x16_t low = load_chunk(quants, 16 * h + 8 * (g % 2) + 4 * half + k, p);
                    w[p] = q6_quad(low, load_chunk(quants, 32 + 8 * h + 4 * half + k, p), g);
                });
                add_quad(t, (size_t)at->block * 256 + 16 * (size_t)s, k, 4, 6, n_parts, n_rows, w,
                        dots);
            });
            load_scales_i8(scales + 16 * s, n_parts, scale);
            add_scaled(dots, scale, n_parts, n_rows, isum);
        });
    }
    end_block_256(t, at, head, n_parts, n_rows, isum);
}

INLINE void iq4_xs_block(const struct tile *t, const struct piece *at, int n_parts, int n_rows) {
    const uint8_t *head = t->head + (size_t)at->block * 160;
    const uint8_t *quants = piece_quants(t, at, 32), *scales = head + 32 + 4 * at->part0;
    int32x4_t isum[PARTS][EACH_MAX];
    clear_sums(n_parts, n_rows, isum);
    KEEP_LOOP
    for (int s = 0; s < 8; s++) {
        struct dot dots[PARTS][EACH_MAX];
        int32x4_t scale[PARTS];
        dot_table(t, quants + 256 * s, (size_t)at->block * 256 + 32 * (size_t)s, block_k4nl, 8,
                n_parts, n_rows, dots);
        load_scales_i8(scales + 16 * s, n_parts, scale);
        add_scaled(dots, scale, n_parts, n_rows, isum);
    }
    end_block_256(t, at, head, n_parts, n_rows, isum);
}
