/* simd_blocks.h - one block of every quantised type: SIMD_LANES weight rows of an interleaved group
 * (kernels/r16.h) times n_rows activation rows, by rule 3 of docs/numerics.md.
 *
 * Each function unpacks the quads of a block once, takes exact integer dot products with every row,
 * and ends with one fused multiply-add per accumulator (two where the type has a minimum). Offsets of
 * unsigned quads are taken back through the sums of the activation quants. n_rows and lane0 are
 * constants at every call, so loops over them unroll and arrays of vectors live in registers. */
#pragma once

#include "kernels/x86/simd_vec.h"

#define TILE_ROWS 4

/* Up to TILE_ROWS activation rows against one group of 16 weight rows. Borrows all. */
struct tile {
    const uint8_t *head; /* the group's head and quant sections */
    const uint8_t *quants;
    uint32_t n_blocks;
    const int8_t *q[TILE_ROWS];
    const float *d[TILE_ROWS];
    const int16_t *sum16[TILE_ROWS];
};

/* Distance of software prefetch in the stream of quants. */
#define PREFETCH_BYTES 2048

INLINE const uint8_t *block_quants(const struct tile *t, uint32_t block, int n_chunks, int lane0) {
    const uint8_t *quants = t->quants + (size_t)block * (size_t)n_chunks * 64;
    if (lane0 == 0) {
        UNROLL
        for (int k = 0; k < n_chunks; k++)
            _mm_prefetch((const char *)quants + PREFETCH_BYTES + 64 * k, _MM_HINT_T0);
    }
    return quants + 4 * lane0;
}

INLINE int32_t sum_of_32(const struct tile *t, int row, uint32_t block) {
    return t->sum16[row][2 * block] + t->sum16[row][2 * block + 1];
}

/* Quads of n chunks: low and high nibbles, as bytes 0..15. */
INLINE void load_nibbles(const uint8_t *chunks, int n, ivec *low, ivec *high) {
    const ivec mask = iv_bytes(15);
    UNROLL
    for (int k = 0; k < n; k++) {
        ivec chunk = iv_load(chunks + 64 * k);
        low[k] = iv_and(chunk, mask);
        high[k] = iv_and(iv_shr16(chunk, 4), mask);
    }
}

/* Bit `from` of every byte moved to bit `to`; other bits are left over. */
INLINE ivec move_bit(ivec v, int from, int to) {
    if (from < to) return iv_shl16(v, to - from);
    return from > to ? iv_shr16(v, from - to) : v;
}

/* Nibbles with the bit `from` of `high` above them: bytes 0..31. */
INLINE ivec with_fifth_bit(ivec nibbles, ivec high, int from) {
    return iv_and(iv_select(iv_bytes(15), nibbles, move_bit(high, from, 4)), iv_bytes(31));
}

/* sum[r] += the dot product of n quads with the quants from element `at` of each row. */
INLINE void add_dots(const struct tile *t, size_t at, const ivec *w, int n, int bits, int n_rows,
        ivec *sum) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = iv_dot(sum[r], w, n, bits, t->q[r] + at);
}

/* sum[r] += scale * the same. */
INLINE void add_scaled_dots(const struct tile *t, size_t at, const ivec *w, int n, int bits,
        int n_rows, ivec scale, ivec *sum) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = iv_add(sum[r], iv_mul(scale, iv_dot(iv_zero(), w, n, bits, t->q[r] + at)));
}

/* acc[r] = fma(dw * dx, isum, acc[r]) */
INLINE void add_block(const struct tile *t, uint32_t block, int n_rows, fvec dw, const ivec *isum,
        fvec *acc) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        acc[r] = fv_fma(fv_mul(dw, fv_set1(t->d[r][block])), fv_from_int(isum[r]), acc[r]);
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* sum[r] = -offset * (sum of the block's activation quants) */
INLINE void start_offset(const struct tile *t, uint32_t block, int n_rows, int offset, ivec *sum) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = offset == 0 ? iv_zero() : iv_set1(-offset * sum_of_32(t, r, block));
}

/* acc[r] = fma(mw * dx, sum of x, acc[r]): the minimum of Q4_1 and Q5_1, which is added. */
INLINE void add_min_32(const struct tile *t, uint32_t block, int n_rows, fvec mw, fvec *acc) {
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        fvec msum = fv_from_int(iv_set1(sum_of_32(t, r, block)));
        acc[r] = fv_fma(fv_mul(mw, fv_set1(t->d[r][block])), msum, acc[r]);
    }
}

INLINE void q4_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    ivec w[8], isum[TILE_ROWS];
    load_nibbles(block_quants(t, block, 4, lane0), 4, w, w + 4);
    start_offset(t, block, n_rows, 8, isum);
    add_dots(t, (size_t)block * 32, w, 8, 4, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0), isum, acc);
}

INLINE void q4_1_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 64 + 2 * lane0;
    ivec w[8], isum[TILE_ROWS];
    load_nibbles(block_quants(t, block, 4, lane0), 4, w, w + 4);
    start_offset(t, block, n_rows, 0, isum);
    add_dots(t, (size_t)block * 32, w, 8, 4, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(head), isum, acc);
    add_min_32(t, block, n_rows, fv_from_halves(head + 32), acc);
}

INLINE void load_q5(const uint8_t *quants, ivec *w) {
    ivec high = iv_load(quants + 256);
    load_nibbles(quants, 4, w, w + 4);
    UNROLL
    for (int k = 0; k < 8; k++)
        w[k] = with_fifth_bit(w[k], high, k);
}

INLINE void q5_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    ivec w[8], isum[TILE_ROWS];
    load_q5(block_quants(t, block, 5, lane0), w);
    start_offset(t, block, n_rows, 16, isum);
    add_dots(t, (size_t)block * 32, w, 8, 5, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0), isum, acc);
}

INLINE void q5_1_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 64 + 2 * lane0;
    ivec w[8], isum[TILE_ROWS];
    load_q5(block_quants(t, block, 5, lane0), w);
    start_offset(t, block, n_rows, 0, isum);
    add_dots(t, (size_t)block * 32, w, 8, 5, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(head), isum, acc);
    add_min_32(t, block, n_rows, fv_from_halves(head + 32), acc);
}

INLINE void q8_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 8, lane0);
    ivec w[8], isum[TILE_ROWS];
    UNROLL
    for (int k = 0; k < 8; k++) {
        w[k] = iv_load(quants + 64 * k);
        if (QUADS_UNSIGNED) w[k] = iv_xor(w[k], iv_bytes(0x80));
    }
    start_offset(t, block, n_rows, QUADS_UNSIGNED ? 128 : 0, isum);
    add_dots(t, (size_t)block * 32, w, 8, 8, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0), isum, acc);
}

/* The sixteen values of IQ4_NL and IQ4_XS as eight-bit quads. */
#define NL(v) (int8_t)(QUADS_UNSIGNED ? (v) + 128 - ((v) < 0 ? 0 : 256) : (v))
static const int8_t nl_table[16] = {
    NL(-127), NL(-104), NL(-83), NL(-65), NL(-49), NL(-35), NL(-22), NL(-10),
    NL(1), NL(13), NL(25), NL(38), NL(53), NL(69), NL(89), NL(113),
};
#undef NL

INLINE void load_table_32(const uint8_t *quants, const int8_t *table, ivec *w) {
    load_nibbles(quants, 4, w, w + 4);
    UNROLL
    for (int k = 0; k < 8; k++)
        w[k] = iv_table(table, w[k]);
}

INLINE void iq4_nl_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    ivec w[8], isum[TILE_ROWS];
    load_table_32(block_quants(t, block, 4, lane0), nl_table, w);
    start_offset(t, block, n_rows, QUADS_UNSIGNED ? 128 : 0, isum);
    add_dots(t, (size_t)block * 32, w, 8, 8, n_rows, isum);
    add_block(t, block, n_rows, fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0), isum, acc);
}

/* Twice the values of FP4, and 12 more so that they are unsigned. */
static const int8_t fp4_table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/* 2^(e - 128) of eight-bit exponents; NaN for 255. The two smallest are subnormal. */
INLINE fvec scale_from_e8m0(const uint8_t *e) {
    ivec v = iv_widen_u8(e);
    ivec normal = iv_shl32(iv_sub(v, iv_set1(1)), 23);
    ivec small = iv_shl_var(iv_set1(0x00200000), v);
    ivec bits = iv_if_equal(iv_max(v, iv_set1(1)), iv_set1(1), small, normal);
    return fv_from_bits(iv_if_equal(v, iv_set1(255), iv_set1(0x7fc00000), bits));
}

INLINE void mxfp4_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    ivec w[8], isum[TILE_ROWS];
    load_table_32(block_quants(t, block, 4, lane0), fp4_table, w);
    start_offset(t, block, n_rows, 12, isum);
    add_dots(t, (size_t)block * 32, w, 8, 5, n_rows, isum);
    add_block(t, block, n_rows, scale_from_e8m0(t->head + (size_t)block * 16 + lane0), isum, acc);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

INLINE void start_zero(int n_rows, ivec *sum) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = iv_zero();
}

/* acc[r] = fma(-(mw * dx), msum, acc[r]): the minimum of K-quants, which is subtracted. */
INLINE void sub_min_256(const struct tile *t, uint32_t block, int n_rows, fvec mw, const ivec *msum,
        fvec *acc) {
    UNROLL
    for (int r = 0; r < n_rows; r++)
        acc[r] = fv_fnma(fv_mul(mw, fv_set1(t->d[r][block])), fv_from_int(msum[r]), acc[r]);
}

/* sum[r] += the products of two neighbours, given as 16-bit pairs, with sums 2p and 2p + 1 of 16
 * activation quants each. */
INLINE void add_pair_16(const struct tile *t, uint32_t block, int p, int n_rows, ivec pair, ivec *sum) {
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        ivec x = iv_set1(load_i32(t->sum16[r] + (size_t)block * 16 + 2 * p));
        sum[r] = iv_dot_pairs(sum[r], pair, x);
    }
}

/* The eight sums of 32 activation quants of a block, as four 16-bit pairs a row. */
INLINE void load_sums_32(const struct tile *t, uint32_t block, int n_rows, int32_t (*out)[4]) {
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        const int16_t *sum16 = t->sum16[r] + (size_t)block * 16;
        __m256i sums = _mm256_madd_epi16(
                _mm256_loadu_si256((const __m256i *)sum16), _mm256_set1_epi16(1));
        __m128i pairs = _mm_packs_epi32(
                _mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        _mm_storeu_si128((__m128i *)out[r], pairs);
    }
}

INLINE void q2_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 320;
    const uint8_t *quants = block_quants(t, block, 16, lane0);
    const uint8_t *scales = head + 64 + lane0;
    ivec isum[TILE_ROWS], msum[TILE_ROWS];
    start_zero(n_rows, isum);
    start_zero(n_rows, msum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) { /* half of 128, half of 32 */
        const int h = part / 2, k = part % 2;
        ivec chunk[4];
        UNROLL
        for (int j = 0; j < 4; j++)
            chunk[j] = iv_load(quants + 64 * (8 * h + 4 * k + j));
        UNROLL
        for (int g = 0; g < 4; g++) {
            ivec w[4];
            UNROLL
            for (int j = 0; j < 4; j++)
                w[j] = iv_and(move_bit(chunk[j], 2 * g, 0), iv_bytes(3));
            ivec scale = iv_and(iv_widen_u8(scales + 16 * (8 * h + 2 * g + k)), iv_set1(15));
            add_scaled_dots(t, (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k), w, 4, 2,
                    n_rows, scale, isum);
        }
    }
    UNROLL
    for (int p = 0; p < 8; p++) {
        ivec pair = iv_pair16(iv_widen_u8(scales + 32 * p), iv_widen_u8(scales + 32 * p + 16));
        add_pair_16(t, block, p, n_rows, iv_and(iv_shr16(pair, 4), iv_set1(0x000f000f)), msum);
    }
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
    sub_min_256(t, block, n_rows, fv_from_halves(head + 32 + 2 * lane0), msum, acc);
}

/* isum[r] -= 2^log_offset * sum over sub-blocks of 16 of scale * sum of x. */
INLINE void sub_offset_16(const struct tile *t, uint32_t block, int n_rows, const uint8_t *scales,
        int log_offset, ivec *isum) {
    ivec sum[TILE_ROWS];
    start_zero(n_rows, sum);
    UNROLL
    for (int p = 0; p < 8; p++) {
        ivec pair = iv_pair16(iv_widen_i8(scales + 32 * p), iv_widen_i8(scales + 32 * p + 16));
        add_pair_16(t, block, p, n_rows, pair, sum);
    }
    UNROLL
    for (int r = 0; r < n_rows; r++)
        isum[r] = iv_sub(isum[r], iv_shl32(sum[r], log_offset));
}

INLINE void q3_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 288;
    const uint8_t *quants = block_quants(t, block, 24, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[TILE_ROWS];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) {
        const int h = part / 2, k = part % 2;
        ivec chunk[4], mask[4];
        UNROLL
        for (int j = 0; j < 4; j++) {
            chunk[j] = iv_load(quants + 64 * (8 * h + 4 * k + j));
            mask[j] = iv_shr16_by(iv_load(quants + 64 * (16 + 4 * k + j)), 4 * h);
        }
        UNROLL
        for (int g = 0; g < 4; g++) {
            ivec w[4];
            UNROLL
            for (int j = 0; j < 4; j++) {
                ivec third = move_bit(mask[j], g, 2);
                ivec both = iv_select(iv_bytes(3), move_bit(chunk[j], 2 * g, 0), third);
                w[j] = iv_and(both, iv_bytes(7));
            }
            add_scaled_dots(t, (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k), w, 4, 3,
                    n_rows, iv_widen_i8(scales + 16 * (8 * h + 2 * g + k)), isum);
        }
    }
    sub_offset_16(t, block, n_rows, scales, 2, isum);
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}

/* Minimum and scale of Q4_K and Q5_K, whose heads are alike. */
INLINE void end_block_k(const struct tile *t, uint32_t block, int lane0, int n_rows,
        const ivec *isum, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 320;
    int32_t sums[TILE_ROWS][4];
    ivec msum[TILE_ROWS];
    load_sums_32(t, block, n_rows, sums);
    start_zero(n_rows, msum);
    UNROLL
    for (int p = 0; p < 4; p++) {
        ivec pair = iv_widen_pairs_u8(head + 192 + 32 * p + 2 * lane0);
        UNROLL
        for (int r = 0; r < n_rows; r++)
            msum[r] = iv_dot_pairs(msum[r], pair, iv_set1(sums[r][p]));
    }
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
    sub_min_256(t, block, n_rows, fv_from_halves(head + 32 + 2 * lane0), msum, acc);
}

INLINE void q4_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 32, lane0);
    const uint8_t *scales = t->head + (size_t)block * 320 + 64 + lane0;
    ivec isum[TILE_ROWS];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++) {
        ivec low[8], high[8];
        size_t at = (size_t)block * 256 + (size_t)c * 64;
        load_nibbles(quants + 512 * c, 8, low, high);
        add_scaled_dots(t, at, low, 8, 4, n_rows, iv_widen_u8(scales + 32 * c), isum);
        add_scaled_dots(t, at + 32, high, 8, 4, n_rows, iv_widen_u8(scales + 32 * c + 16), isum);
    }
    end_block_k(t, block, lane0, n_rows, isum, acc);
}

INLINE void q5_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 40, lane0);
    const uint8_t *scales = t->head + (size_t)block * 320 + 64 + lane0;
    ivec isum[TILE_ROWS];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++) {
        ivec low[8], high[8];
        size_t at = (size_t)block * 256 + (size_t)c * 64;
        load_nibbles(quants + 512 * c, 8, low, high);
        UNROLL
        for (int k = 0; k < 8; k++) {
            ivec fifth = iv_shr16_by(iv_load(quants + 64 * (32 + k)), 2 * c);
            low[k] = with_fifth_bit(low[k], fifth, 0);
            high[k] = with_fifth_bit(high[k], fifth, 1);
        }
        add_scaled_dots(t, at, low, 8, 5, n_rows, iv_widen_u8(scales + 32 * c), isum);
        add_scaled_dots(t, at + 32, high, 8, 5, n_rows, iv_widen_u8(scales + 32 * c + 16), isum);
    }
    end_block_k(t, block, lane0, n_rows, isum, acc);
}

/* Quads of Q6_K: nibbles of ql under two bits of qh, bytes 0..63. */
INLINE ivec q6_quad(ivec low, ivec high, int g) {
    ivec nibbles = g < 2 ? low : iv_shr16(low, 4);
    ivec top = g < 2 ? iv_shl16(high, 4 - 2 * g) : iv_shr16(high, 2 * g - 4);
    return iv_and(iv_select(iv_bytes(15), nibbles, top), iv_bytes(63));
}

INLINE void q6_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 288;
    const uint8_t *quants = block_quants(t, block, 48, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[TILE_ROWS];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) {
        const int h = part / 2, k = part % 2;
        UNROLL
        for (int g = 0; g < 4; g++) {
            ivec w[4];
            UNROLL
            for (int j = 0; j < 4; j++) {
                ivec low = iv_load(quants + 64 * (16 * h + 8 * (g % 2) + 4 * k + j));
                ivec high = iv_load(quants + 64 * (32 + 8 * h + 4 * k + j));
                w[j] = q6_quad(low, high, g);
            }
            add_scaled_dots(t, (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k), w, 4, 6,
                    n_rows, iv_widen_i8(scales + 16 * (8 * h + 2 * g + k)), isum);
        }
    }
    sub_offset_16(t, block, n_rows, scales, 5, isum);
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}

INLINE void iq4_xs_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 160;
    const uint8_t *quants = block_quants(t, block, 32, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[TILE_ROWS];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int s = 0; s < 8; s++) {
        ivec w[8];
        load_table_32(quants + 256 * s, nl_table, w);
        add_scaled_dots(t, (size_t)block * 256 + (size_t)s * 32, w, 8, 8, n_rows,
                iv_widen_i8(scales + 16 * s), isum);
    }
    if (QUADS_UNSIGNED) {
        int32_t sums[TILE_ROWS][4];
        ivec sum[TILE_ROWS];
        load_sums_32(t, block, n_rows, sums);
        start_zero(n_rows, sum);
        UNROLL
        for (int p = 0; p < 4; p++) {
            ivec pair = iv_pair16(iv_widen_i8(scales + 32 * p), iv_widen_i8(scales + 32 * p + 16));
            UNROLL
            for (int r = 0; r < n_rows; r++)
                sum[r] = iv_dot_pairs(sum[r], pair, iv_set1(sums[r][p]));
        }
        UNROLL
        for (int r = 0; r < n_rows; r++)
            isum[r] = iv_sub(isum[r], iv_shl32(sum[r], 7));
    }
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}
