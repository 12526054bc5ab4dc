/* simd_blocks.h - one block of every quantised type: SIMD_LANES weight rows of an interleaved group
 * (kernels/r16.h) times n_rows activation rows, by rule 3 of docs/numerics.md.
 *
 * Each function unpacks quad after quad and takes its exact integer product with every row while it
 * is in a register, then ends with one fused multiply-add per accumulator (two where the type has a
 * minimum). Offsets of unsigned quads are taken back through the sums of the activation quants.
 * n_rows is a constant at every call, so loops over it unroll and arrays over rows live in
 * registers. Loops over parts of a 256-element block stay loops: their code would not fit the
 * caches otherwise. */
#pragma once

#include "kernels/r16.h"
#include "kernels/x86/simd_vec.h"

/* Activation rows that share the unpacking of a weight: as many as have registers for sums. */
#if defined(__AVX512F__)
#define TILE_ROWS 8
#else
#define TILE_ROWS 4
#endif

/* TILE_ROWS activation rows, or fewer, against one group of 16 weight rows. Borrows all. */
struct tile {
    const uint8_t *head; /* the group's head and quant sections */
    const uint8_t *quants;
    uint32_t n_blocks;
    const int8_t *q[EACH_MAX];
    const float *d[EACH_MAX];
    const int16_t *sum16[EACH_MAX];
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

/* Where the products of quads with each row are added up. */
struct dots {
    ivec sum[EACH_MAX];
    ivec pairs[EACH_MAX]; /* what sets without a 4-way product have yet to add to sum */
};

INLINE void start_zero(int n_rows, ivec *sum) {
    EACH(r, n_rows, sum[r] = iv_zero());
}

/* Step k of n: one quad times the four quants from element `at` of each row. */
INLINE void add_quad(const struct tile *t, ivec w, size_t at, int k, int n, int bits, int n_rows,
        struct dots *dots) {
    EACH(r, n_rows, {
        ivec x = iv_set1(load_i32(t->q[r] + at));
        iv_dot_step(w, x, k, n, bits, &dots->pairs[r], &dots->sum[r]);
    });
}

/* isum[r] += scale * dots */
INLINE void add_scaled(const struct dots *dots, ivec scale, int n_rows, ivec *isum) {
    ivec factor = iv_factor(scale);
    EACH(r, n_rows, isum[r] = iv_add_times(isum[r], dots->sum[r], factor));
}

/* acc[r] = fma(dw * dx, isum, acc[r]) */
INLINE void add_block(
        const struct tile *t, uint32_t block, int n_rows, fvec dw, const ivec *isum, fvec *acc) {
    EACH(r, n_rows, {
        fvec scale = fv_mul(dw, fv_set1(t->d[r][block]));
        acc[r] = fv_fma(scale, fv_from_int(isum[r]), acc[r]);
    });
}

INLINE ivec load_chunk(const uint8_t *quants, int k) {
    return iv_load(quants + R16_CHUNK * k);
}

/* Nibbles of a chunk as quads, bytes 0..15: 0 the low ones, 1 the high ones. */
INLINE ivec nibbles(ivec chunk, int high) {
    return iv_and(high ? iv_shr16(chunk, 4) : chunk, iv_bytes(15));
}

/* Bit `from` of every byte moved to bit `to`; other bits are left over. */
INLINE ivec move_bit(ivec v, int from, int to) {
    if (from < to) return iv_shl16(v, to - from);
    return from > to ? iv_shr16(v, from - to) : v;
}

/* Nibbles with a bit above them that stands at bit `from` of `high`: bytes 0..31. */
INLINE ivec with_fifth_bit(ivec chunk, int high_nibble, ivec high, int from) {
    ivec low = high_nibble ? iv_shr16(chunk, 4) : chunk;
    return iv_and(iv_select(iv_bytes(15), low, move_bit(high, from, 4)), iv_bytes(31));
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* The sum of a block's activation quants times a small constant, in every lane. */
INLINE ivec times_sum_32(const struct tile *t, int row, uint32_t block, int factor) {
    ivec pair = iv_set1(load_i32(t->sum16[row] + 2 * (size_t)block));
    return iv_dot_pairs(iv_zero(), iv_words((int16_t)factor), pair);
}

/* sum[r] = -offset * (sum of the block's activation quants) */
INLINE void start_offset(const struct tile *t, uint32_t block, int n_rows, int offset, ivec *sum) {
    EACH(r, n_rows, sum[r] = offset == 0 ? iv_zero() : times_sum_32(t, r, block, -offset));
}

/* acc[r] = fma(mw * dx, sum of x, acc[r]): the minimum of Q4_1 and Q5_1, which is added. */
INLINE void add_min_32(const struct tile *t, uint32_t block, int n_rows, fvec mw, fvec *acc) {
    EACH(r, n_rows, {
        fvec msum = fv_from_int(times_sum_32(t, r, block, 1));
        acc[r] = fv_fma(fv_mul(mw, fv_set1(t->d[r][block])), msum, acc[r]);
    });
}

/* The products of a block of nibbles less `offset`. */
INLINE void dot_q4(const struct tile *t, uint32_t block, int lane0, int offset, int n_rows,
        struct dots *dots) {
    const uint8_t *quants = block_quants(t, block, 4, lane0);
    size_t at = (size_t)block * 32;
    start_offset(t, block, n_rows, offset, dots->sum);
    UNROLL
    for (int k = 0; k < 8; k++) {
        ivec w = nibbles(load_chunk(quants, k / 2), k % 2);
        add_quad(t, w, at + (size_t)(4 * (k / 2) + 16 * (k % 2)), k, 8, 4, n_rows, dots);
    }
}

INLINE void q4_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    struct dots dots;
    dot_q4(t, block, lane0, 8, n_rows, &dots);
    fvec dw = fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0);
    add_block(t, block, n_rows, dw, dots.sum, acc);
}

INLINE void q4_1_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 64 + 2 * lane0;
    struct dots dots;
    dot_q4(t, block, lane0, 0, n_rows, &dots);
    add_block(t, block, n_rows, fv_from_halves(head), dots.sum, acc);
    add_min_32(t, block, n_rows, fv_from_halves(head + 32), acc);
}

/* The products of a block of five-bit quants less `offset`. */
INLINE void dot_q5(const struct tile *t, uint32_t block, int lane0, int offset, int n_rows,
        struct dots *dots) {
    const uint8_t *quants = block_quants(t, block, 5, lane0);
    size_t at = (size_t)block * 32;
    ivec high = load_chunk(quants, 4);
    start_offset(t, block, n_rows, offset, dots->sum);
    UNROLL
    for (int k = 0; k < 8; k++) {
        int quad = k / 2 + 4 * (k % 2);
        ivec w = with_fifth_bit(load_chunk(quants, k / 2), k % 2, high, quad);
        add_quad(t, w, at + (size_t)quad * 4, k, 8, 5, n_rows, dots);
    }
}

INLINE void q5_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    struct dots dots;
    dot_q5(t, block, lane0, 16, n_rows, &dots);
    fvec dw = fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0);
    add_block(t, block, n_rows, dw, dots.sum, acc);
}

INLINE void q5_1_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 64 + 2 * lane0;
    struct dots dots;
    dot_q5(t, block, lane0, 0, n_rows, &dots);
    add_block(t, block, n_rows, fv_from_halves(head), dots.sum, acc);
    add_min_32(t, block, n_rows, fv_from_halves(head + 32), acc);
}

INLINE void q8_0_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 8, lane0);
    size_t at = (size_t)block * 32;
    struct dots dots;
    start_offset(t, block, n_rows, QUADS_UNSIGNED ? 128 : 0, dots.sum);
    UNROLL
    for (int k = 0; k < 8; k++) {
        ivec w = load_chunk(quants, k);
        if (QUADS_UNSIGNED) w = iv_xor(w, iv_bytes(0x80));
        add_quad(t, w, at + (size_t)k * 4, k, 8, 8, n_rows, &dots);
    }
    fvec dw = fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0);
    add_block(t, block, n_rows, dw, dots.sum, acc);
}

/* The sixteen values of IQ4_NL and IQ4_XS as eight-bit quads. */
#define NL(v) (int8_t)(QUADS_UNSIGNED ? (v) + 128 - ((v) < 0 ? 0 : 256) : (v))
/* clang-format off */
static const int8_t nl_table[16] = {
        NL(-127), NL(-104), NL(-83), NL(-65), NL(-49), NL(-35), NL(-22), NL(-10),
        NL(1), NL(13), NL(25), NL(38), NL(53), NL(69), NL(89), NL(113),
};
/* clang-format on */
#undef NL

/* Twice the values of FP4, and 12 more so that they are unsigned. */
static const int8_t fp4_table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/* The products of 32 elements whose nibbles index a table, from element `at`. */
INLINE void dot_table(const struct tile *t, const uint8_t *quants, size_t at, const int8_t *table,
        int bits, int n_rows, struct dots *dots) {
    UNROLL
    for (int k = 0; k < 8; k++) {
        ivec w = iv_table(table, nibbles(load_chunk(quants, k / 2), k % 2));
        add_quad(t, w, at + (size_t)(4 * (k / 2) + 16 * (k % 2)), k, 8, bits, n_rows, dots);
    }
}

INLINE void iq4_nl_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 4, lane0);
    struct dots dots;
    start_offset(t, block, n_rows, QUADS_UNSIGNED ? 128 : 0, dots.sum);
    dot_table(t, quants, (size_t)block * 32, nl_table, 8, n_rows, &dots);
    fvec dw = fv_from_halves(t->head + (size_t)block * 32 + 2 * lane0);
    add_block(t, block, n_rows, dw, dots.sum, acc);
}

/* 2^(e - 128) of eight-bit exponents; NaN for 255. The two smallest are subnormal. */
INLINE fvec scale_from_e8m0(const uint8_t *e) {
    ivec v = iv_widen_u8(e);
    ivec normal = iv_shl32(iv_sub(v, iv_set1(1)), 23);
    ivec small = iv_shl_var(iv_set1(0x00200000), v);
    ivec bits = iv_if_equal(iv_max(v, iv_set1(1)), iv_set1(1), small, normal);
    return fv_from_bits(iv_if_equal(v, iv_set1(255), iv_set1(0x7fc00000), bits));
}

INLINE void mxfp4_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 4, lane0);
    struct dots dots;
    start_offset(t, block, n_rows, 12, dots.sum);
    dot_table(t, quants, (size_t)block * 32, fp4_table, 5, n_rows, &dots);
    fvec dw = scale_from_e8m0(t->head + (size_t)block * 16 + lane0);
    add_block(t, block, n_rows, dw, dots.sum, acc);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

/* acc[r] = fma(-(mw * dx), msum, acc[r]): the minimum of K-quants, which is subtracted. */
INLINE void sub_min_256(
        const struct tile *t, uint32_t block, int n_rows, fvec mw, const ivec *msum, fvec *acc) {
    EACH(r, n_rows, {
        fvec scale = fv_mul(mw, fv_set1(t->d[r][block]));
        acc[r] = fv_fnma(scale, fv_from_int(msum[r]), acc[r]);
    });
}

/* sum[r] += the products of two neighbours, given as 16-bit pairs, with sums 2p and 2p + 1 of 16
 * activation quants each. */
INLINE void add_pair_16(
        const struct tile *t, uint32_t block, int p, int n_rows, ivec pair, ivec *sum) {
    EACH(r, n_rows, {
        ivec x = iv_set1(load_i32(t->sum16[r] + (size_t)block * 16 + 2 * p));
        sum[r] = iv_dot_pairs(sum[r], pair, x);
    });
}

/* isum[r] -= 2^log_offset * sum over sub-blocks of 16 of scale * sum of x. */
INLINE void sub_offset_16(const struct tile *t, uint32_t block, int n_rows, const uint8_t *scales,
        int log_offset, ivec *isum) {
    ivec sum[EACH_MAX];
    start_zero(n_rows, sum);
    UNROLL
    for (int p = 0; p < 8; p++) {
        ivec pair = iv_pair16(iv_widen_i8(scales + 32 * p), iv_widen_i8(scales + 32 * p + 16));
        add_pair_16(t, block, p, n_rows, pair, sum);
    }
    EACH(r, n_rows, isum[r] = iv_sub(isum[r], iv_shl32(sum[r], log_offset)));
}

/* The eight sums of 32 activation quants of a block, as four 16-bit pairs a row. */
INLINE void load_sums_32(const struct tile *t, uint32_t block, int n_rows, int32_t (*out)[4]) {
    EACH(r, n_rows, {
        const int16_t *sum16 = t->sum16[r] + (size_t)block * 16;
        __m256i sums =
                _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)sum16), _mm256_set1_epi16(1));
        __m128i pairs =
                _mm_packs_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        _mm_storeu_si128((__m128i *)out[r], pairs);
    });
}

INLINE void q2_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 320;
    const uint8_t *quants = block_quants(t, block, 16, lane0);
    const uint8_t *scales = head + 64 + lane0;
    ivec isum[EACH_MAX], msum[EACH_MAX];
    start_zero(n_rows, isum);
    start_zero(n_rows, msum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) { /* half of 128, half of 32 */
        const int h = part / 2, k = part % 2;
        UNROLL
        for (int g = 0; g < 4; g++) {
            size_t at = (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k);
            struct dots dots;
            start_zero(n_rows, dots.sum);
            UNROLL
            for (int j = 0; j < 4; j++) {
                ivec chunk = load_chunk(quants, 8 * h + 4 * k + j);
                ivec w = iv_and(move_bit(chunk, 2 * g, 0), iv_bytes(3));
                add_quad(t, w, at + (size_t)j * 4, j, 4, 2, n_rows, &dots);
            }
            ivec scale = iv_and(iv_widen_u8(scales + 16 * (8 * h + 2 * g + k)), iv_set1(15));
            add_scaled(&dots, scale, n_rows, isum);
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

INLINE void q3_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 288;
    const uint8_t *quants = block_quants(t, block, 24, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[EACH_MAX];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) {
        const int h = part / 2, k = part % 2;
        ivec mask[4];
        UNROLL
        for (int j = 0; j < 4; j++)
            mask[j] = iv_shr16_by(load_chunk(quants, 16 + 4 * k + j), 4 * h);
        UNROLL
        for (int g = 0; g < 4; g++) {
            size_t at = (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k);
            struct dots dots;
            start_zero(n_rows, dots.sum);
            UNROLL
            for (int j = 0; j < 4; j++) {
                ivec low = move_bit(load_chunk(quants, 8 * h + 4 * k + j), 2 * g, 0);
                ivec both = iv_select(iv_bytes(3), low, move_bit(mask[j], g, 2));
                add_quad(t, iv_and(both, iv_bytes(7)), at + (size_t)j * 4, j, 4, 3, n_rows, &dots);
            }
            add_scaled(&dots, iv_widen_i8(scales + 16 * (8 * h + 2 * g + k)), n_rows, isum);
        }
    }
    sub_offset_16(t, block, n_rows, scales, 2, isum);
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}

/* Minimum and scale of Q4_K and Q5_K, whose heads are alike. */
INLINE void end_block_k(
        const struct tile *t, uint32_t block, int lane0, int n_rows, const ivec *isum, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 320;
    int32_t sums[EACH_MAX][4];
    ivec msum[EACH_MAX];
    load_sums_32(t, block, n_rows, sums);
    start_zero(n_rows, msum);
    UNROLL
    for (int p = 0; p < 4; p++) {
        ivec pair = iv_widen_pairs_u8(head + 192 + 32 * p + 2 * lane0);
        EACH(r, n_rows, msum[r] = iv_dot_pairs(msum[r], pair, iv_set1(sums[r][p])));
    }
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
    sub_min_256(t, block, n_rows, fv_from_halves(head + 32 + 2 * lane0), msum, acc);
}

INLINE void q4_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 32, lane0);
    const uint8_t *scales = t->head + (size_t)block * 320 + 64 + lane0;
    ivec isum[EACH_MAX];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++) {
        UNROLL
        for (int high = 0; high < 2; high++) {
            size_t at = (size_t)block * 256 + (size_t)(64 * c + 32 * high);
            struct dots dots;
            start_zero(n_rows, dots.sum);
            UNROLL
            for (int k = 0; k < 8; k++) {
                ivec w = nibbles(load_chunk(quants, 8 * c + k), high);
                add_quad(t, w, at + (size_t)k * 4, k, 8, 4, n_rows, &dots);
            }
            add_scaled(&dots, iv_widen_u8(scales + 16 * (2 * c + high)), n_rows, isum);
        }
    }
    end_block_k(t, block, lane0, n_rows, isum, acc);
}

INLINE void q5_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *quants = block_quants(t, block, 40, lane0);
    const uint8_t *scales = t->head + (size_t)block * 320 + 64 + lane0;
    ivec isum[EACH_MAX];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int c = 0; c < 4; c++) {
        UNROLL
        for (int high = 0; high < 2; high++) {
            size_t at = (size_t)block * 256 + (size_t)(64 * c + 32 * high);
            struct dots dots;
            start_zero(n_rows, dots.sum);
            UNROLL
            for (int k = 0; k < 8; k++) {
                ivec fifth = iv_shr16_by(load_chunk(quants, 32 + k), 2 * c);
                ivec w = with_fifth_bit(load_chunk(quants, 8 * c + k), high, fifth, high);
                add_quad(t, w, at + (size_t)k * 4, k, 8, 5, n_rows, &dots);
            }
            add_scaled(&dots, iv_widen_u8(scales + 16 * (2 * c + high)), n_rows, isum);
        }
    }
    end_block_k(t, block, lane0, n_rows, isum, acc);
}

/* Quads of Q6_K: nibbles of ql under two bits of qh, bytes 0..63. */
INLINE ivec q6_quad(ivec low, ivec high, int g) {
    ivec bottom = g < 2 ? low : iv_shr16(low, 4);
    ivec top = g < 2 ? iv_shl16(high, 4 - 2 * g) : iv_shr16(high, 2 * g - 4);
    return iv_and(iv_select(iv_bytes(15), bottom, top), iv_bytes(63));
}

INLINE void q6_k_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 288;
    const uint8_t *quants = block_quants(t, block, 48, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[EACH_MAX];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int part = 0; part < 4; part++) {
        const int h = part / 2, k = part % 2;
        UNROLL
        for (int g = 0; g < 4; g++) {
            size_t at = (size_t)block * 256 + (size_t)(128 * h + 32 * g + 16 * k);
            struct dots dots;
            start_zero(n_rows, dots.sum);
            UNROLL
            for (int j = 0; j < 4; j++) {
                ivec low = load_chunk(quants, 16 * h + 8 * (g % 2) + 4 * k + j);
                ivec high = load_chunk(quants, 32 + 8 * h + 4 * k + j);
                add_quad(t, q6_quad(low, high, g), at + (size_t)j * 4, j, 4, 6, n_rows, &dots);
            }
            add_scaled(&dots, iv_widen_i8(scales + 16 * (8 * h + 2 * g + k)), n_rows, isum);
        }
    }
    sub_offset_16(t, block, n_rows, scales, 5, isum);
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}

/* isum[r] -= 128 * sum over sub-blocks of 32 of scale * sum of x. */
INLINE void sub_offset_32(
        const struct tile *t, uint32_t block, int n_rows, const uint8_t *scales, ivec *isum) {
    int32_t sums[EACH_MAX][4];
    ivec sum[EACH_MAX];
    load_sums_32(t, block, n_rows, sums);
    start_zero(n_rows, sum);
    UNROLL
    for (int p = 0; p < 4; p++) {
        ivec pair = iv_pair16(iv_widen_i8(scales + 32 * p), iv_widen_i8(scales + 32 * p + 16));
        EACH(r, n_rows, sum[r] = iv_dot_pairs(sum[r], pair, iv_set1(sums[r][p])));
    }
    EACH(r, n_rows, isum[r] = iv_sub(isum[r], iv_shl32(sum[r], 7)));
}

INLINE void iq4_xs_block(const struct tile *t, uint32_t block, int lane0, int n_rows, fvec *acc) {
    const uint8_t *head = t->head + (size_t)block * 160;
    const uint8_t *quants = block_quants(t, block, 32, lane0);
    const uint8_t *scales = head + 32 + lane0;
    ivec isum[EACH_MAX];
    start_zero(n_rows, isum);
    KEEP_LOOP
    for (int s = 0; s < 8; s++) {
        size_t at = (size_t)block * 256 + (size_t)s * 32;
        struct dots dots;
        start_zero(n_rows, dots.sum);
        dot_table(t, quants + 256 * s, at, nl_table, 8, n_rows, &dots);
        add_scaled(&dots, iv_widen_i8(scales + 16 * s), n_rows, isum);
    }
    if (QUADS_UNSIGNED) sub_offset_32(t, block, n_rows, scales, isum);
    add_block(t, block, n_rows, fv_from_halves(head + 2 * lane0), isum, acc);
}
