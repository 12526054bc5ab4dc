/* simd_vec.h - the few vector operations that the x86 kernels are written in, for the instruction
 * set of the including file's flags.
 *
 * An ivec or fvec holds SIMD_LANES 32-bit lanes: 16 with AVX-512, 8 with AVX2. In the integer
 * kernels a lane is an output row, and a lane's four bytes are a "quad": four neighbouring quants
 * of that row. Everything is static: nothing built with one set's flags may be shared with another
 * set. */
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

/* EACH(r, n, statements): the statements for r = 0..n-1, where n <= EACH_MAX is a constant after
 * inlining and r one from the start; arrays over r have EACH_MAX elements. Those arrays then live
 * in registers with every compiler, which loops that are unrolled later do not ensure. May be
 * nested.
 * UNROLL: other loops over constant counts that must become straight code. KEEP_LOOP: loops that
 * must not, so that a kernel stays in the cache of decoded code. */
#define EACH_MAX 8
#define EACH(r, n, ...)                                                                            \
    do {                                                                                           \
        EACH_ONE(r, 0, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 1, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 2, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 3, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 4, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 5, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 6, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 7, n, __VA_ARGS__)                                                             \
    } while (0)
#define EACH_ONE(r, i, n, ...)                                                                     \
    if ((i) < (n)) {                                                                               \
        enum { r = (i) };                                                                          \
        __VA_ARGS__;                                                                               \
    }
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define KEEP_LOOP _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define KEEP_LOOP _Pragma("GCC unroll 1")
#endif

/* Makes the value of an integer variable unknown to the compiler. */
#define HIDE(variable) __asm__("" : "+r"(variable))

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
/* The name of a symbol of this set: SET_NAME(matmul) is matmul_avx2 and so on. */
#define SET_NAME(name) PASTE(name, SIMD_SET)

INLINE int32_t load_i32(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

#if defined(__AVX512F__)

#define SIMD_LANES 16
typedef __m512i ivec;
typedef __m512 fvec;

INLINE ivec iv_zero(void) {
    return _mm512_setzero_si512();
}
INLINE ivec iv_load(const void *p) {
    return _mm512_loadu_si512(p);
}
INLINE ivec iv_set1(int32_t v) {
    return _mm512_set1_epi32(v);
}
INLINE ivec iv_bytes(int v) {
    return _mm512_set1_epi8((char)v);
}
INLINE ivec iv_words(int16_t v) {
    return _mm512_set1_epi16(v);
}
INLINE ivec iv_and(ivec a, ivec b) {
    return _mm512_and_si512(a, b);
}
INLINE ivec iv_xor(ivec a, ivec b) {
    return _mm512_xor_si512(a, b);
}
/* Bits of a where mask is set, of b elsewhere. */
INLINE ivec iv_select(ivec mask, ivec a, ivec b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}
INLINE ivec iv_add(ivec a, ivec b) {
    return _mm512_add_epi32(a, b);
}
INLINE ivec iv_sub(ivec a, ivec b) {
    return _mm512_sub_epi32(a, b);
}
INLINE ivec iv_mul(ivec a, ivec b) {
    return _mm512_mullo_epi32(a, b);
}
/* Shifts of 16-bit units: the caller masks what crosses a byte. */
INLINE ivec iv_shr16(ivec a, int n) {
    return _mm512_srli_epi16(a, (unsigned)n);
}
INLINE ivec iv_shl16(ivec a, int n) {
    return _mm512_slli_epi16(a, (unsigned)n);
}
/* The same by a count known at run time. */
INLINE ivec iv_shr16_by(ivec a, int n) {
    return _mm512_srl_epi16(a, _mm_cvtsi32_si128(n));
}
INLINE ivec iv_shl32(ivec a, int n) {
    return _mm512_slli_epi32(a, (unsigned)n);
}
/* Byte i becomes table[index byte i], index 0..15. */
INLINE ivec iv_table(const int8_t *table, ivec index) {
    return _mm512_shuffle_epi8(
            _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), index);
}
/* SIMD_LANES bytes widened to lanes; 2 * SIMD_LANES bytes widened to pairs of 16 bits. */
INLINE ivec iv_widen_u8(const void *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE ivec iv_widen_i8(const void *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE ivec iv_widen_pairs_u8(const void *p) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
/* The low 16 bits of both as a pair. */
INLINE ivec iv_pair16(ivec low, ivec high) {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
}
INLINE ivec iv_max(ivec a, ivec b) {
    return _mm512_max_epi32(a, b);
}
INLINE ivec iv_shl_var(ivec a, ivec n) {
    return _mm512_sllv_epi32(a, n);
}
/* yes in lanes where a == b, no elsewhere. */
INLINE ivec iv_if_equal(ivec a, ivec b, ivec yes, ivec no) {
    return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(a, b), no, yes);
}
/* acc + the sum of the products of both 16-bit pairs. */
INLINE ivec iv_dot_pairs(ivec acc, ivec a, ivec b) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

INLINE fvec fv_zero(void) {
    return _mm512_setzero_ps();
}
INLINE fvec fv_set1(float v) {
    return _mm512_set1_ps(v);
}
INLINE fvec fv_from_halves(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE fvec fv_from_bits(ivec a) {
    return _mm512_castsi512_ps(a);
}
INLINE fvec fv_from_int(ivec a) {
    return _mm512_cvtepi32_ps(a);
}
INLINE fvec fv_mul(fvec a, fvec b) {
    return _mm512_mul_ps(a, b);
}
INLINE fvec fv_fma(fvec a, fvec b, fvec c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* -(a * b) + c with one rounding. */
INLINE fvec fv_fnma(fvec a, fvec b, fvec c) {
    return _mm512_fnmadd_ps(a, b, c);
}
/* The first n lanes, n <= SIMD_LANES. */
INLINE void fv_store_first(float *to, fvec a, uint32_t n) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1U << n) - 1), a);
}

#else /* AVX2 */

#define SIMD_LANES 8
typedef __m256i ivec;
typedef __m256 fvec;

INLINE ivec iv_zero(void) {
    return _mm256_setzero_si256();
}
INLINE ivec iv_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE ivec iv_set1(int32_t v) {
    return _mm256_set1_epi32(v);
}
INLINE ivec iv_bytes(int v) {
    return _mm256_set1_epi8((char)v);
}
INLINE ivec iv_words(int16_t v) {
    return _mm256_set1_epi16(v);
}
INLINE ivec iv_and(ivec a, ivec b) {
    return _mm256_and_si256(a, b);
}
INLINE ivec iv_xor(ivec a, ivec b) {
    return _mm256_xor_si256(a, b);
}
INLINE ivec iv_select(ivec mask, ivec a, ivec b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}
INLINE ivec iv_add(ivec a, ivec b) {
    return _mm256_add_epi32(a, b);
}
INLINE ivec iv_sub(ivec a, ivec b) {
    return _mm256_sub_epi32(a, b);
}
INLINE ivec iv_mul(ivec a, ivec b) {
    return _mm256_mullo_epi32(a, b);
}
INLINE ivec iv_shr16(ivec a, int n) {
    return _mm256_srli_epi16(a, n);
}
INLINE ivec iv_shl16(ivec a, int n) {
    return _mm256_slli_epi16(a, n);
}
INLINE ivec iv_shr16_by(ivec a, int n) {
    return _mm256_srl_epi16(a, _mm_cvtsi32_si128(n));
}
INLINE ivec iv_shl32(ivec a, int n) {
    return _mm256_slli_epi32(a, n);
}
INLINE ivec iv_table(const int8_t *table, ivec index) {
    return _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), index);
}
INLINE ivec iv_widen_u8(const void *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
INLINE ivec iv_widen_i8(const void *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
INLINE ivec iv_widen_pairs_u8(const void *p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}
INLINE ivec iv_pair16(ivec low, ivec high) {
    return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa);
}
INLINE ivec iv_max(ivec a, ivec b) {
    return _mm256_max_epi32(a, b);
}
INLINE ivec iv_shl_var(ivec a, ivec n) {
    return _mm256_sllv_epi32(a, n);
}
INLINE ivec iv_if_equal(ivec a, ivec b, ivec yes, ivec no) {
    return _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b));
}
INLINE ivec iv_dot_pairs(ivec acc, ivec a, ivec b) {
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(acc, a, b);
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
#endif
}

INLINE fvec fv_zero(void) {
    return _mm256_setzero_ps();
}
INLINE fvec fv_set1(float v) {
    return _mm256_set1_ps(v);
}
INLINE fvec fv_from_halves(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE fvec fv_from_bits(ivec a) {
    return _mm256_castsi256_ps(a);
}
INLINE fvec fv_from_int(ivec a) {
    return _mm256_cvtepi32_ps(a);
}
INLINE fvec fv_mul(fvec a, fvec b) {
    return _mm256_mul_ps(a, b);
}
INLINE fvec fv_fma(fvec a, fvec b, fvec c) {
    return _mm256_fmadd_ps(a, b, c);
}
INLINE fvec fv_fnma(fvec a, fvec b, fvec c) {
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE void fv_store_first(float *to, fvec a, uint32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), lane), a);
}

#endif

/* sum + dot * scale for |dot| < 2^23 and -128 <= scale <= 127; the scale is prepared by
 * iv_factor(). With a 2-way dot product of 16 bits: a dot is split into its low byte and the rest,
 * which fit 16 bits each, and multiplied with (scale, 256 scale). One shuffle and one operation
 * instead of the slow 32-bit multiplication and an addition. */
INLINE ivec iv_factor(ivec scale) {
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
    return iv_pair16(scale, iv_shl32(scale, 8));
#else
    return scale;
#endif
}

INLINE ivec iv_add_times(ivec sum, ivec dot, ivec factor) {
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
    const __m128i split_4 = _mm_setr_epi8(0, -1, 1, 2, 4, -1, 5, 6, 8, -1, 9, 10, 12, -1, 13, 14);
#if defined(__AVX512F__)
    ivec parts = _mm512_shuffle_epi8(dot, _mm512_broadcast_i32x4(split_4));
#else
    ivec parts = _mm256_shuffle_epi8(dot, _mm256_broadcastsi128_si256(split_4));
#endif
    return iv_dot_pairs(sum, parts, factor);
#else
    return iv_add(sum, iv_mul(dot, factor));
#endif
}

/* The dot product of one quad, step k of n that go to the same sum. w holds weight quads, x four
 * activation quants in every lane; after the last step sum has grown, per lane, by the exact sum of
 * all products. `bits` says what w holds:
 *   2..6: unsigned values below 2^bits
 *   8:    any byte; unsigned where QUADS_UNSIGNED (the value is then 128 too high), else signed.
 * Without a 4-way dot product, products are added in pairs to 16 bits, several steps in *pairs.
 * That cannot saturate: |x| <= 127 (for bits <= 6 even 128), and no more are added than fit. */
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

#define QUADS_UNSIGNED 1

INLINE void iv_dot_step(ivec w, ivec x, int k, int n, int bits, ivec *pairs, ivec *sum) {
    (void)k;
    (void)n;
    (void)bits;
    (void)pairs;
#if defined(__AVX512F__)
    *sum = _mm512_dpbusd_epi32(*sum, w, x);
#else
    *sum = _mm256_dpbusd_avx_epi32(*sum, w, x);
#endif
}

#else

#define QUADS_UNSIGNED 0

INLINE ivec iv_pair_sums(ivec w, ivec x) {
#if defined(__AVX512F__)
    return _mm512_maddubs_epi16(w, x);
#else
    return _mm256_maddubs_epi16(w, x);
#endif
}

/* |w| times x with the sign of w. AVX-512 has no vpsignb. */
INLINE ivec iv_pair_sums_signed(ivec w, ivec x) {
#if defined(__AVX512F__)
    ivec signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
#else
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
#endif
}

INLINE ivec iv_add16(ivec a, ivec b) {
#if defined(__AVX512F__)
    return _mm512_add_epi16(a, b);
#else
    return _mm256_add_epi16(a, b);
#endif
}

INLINE void iv_dot_step(ivec w, ivec x, int k, int n, int bits, ivec *pairs, ivec *sum) {
    /* 8 sums of 2 * 15 * 128, 4 of 2 * 31 * 128, 2 of 2 * 63 * 128 stay below 2^15. */
    const int run = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    ivec both = bits == 8 ? iv_pair_sums_signed(w, x) : iv_pair_sums(w, x);
    *pairs = k % run == 0 ? both : iv_add16(*pairs, both);
    if (k % run == run - 1 || k == n - 1) *sum = iv_dot_pairs(*sum, *pairs, iv_words(1));
}

#endif
