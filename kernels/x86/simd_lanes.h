/* simd_lanes.h - sixteen f32 lanes as one value: one AVX-512 register or two of AVX2.
 *
 * The virtual lanes of rule 1 in docs/numerics.md, and the width in which the float operations walk
 * their rows. "first n" loads and stores touch n elements only (n <= 16); lanes past n read as
 * zero. Everything is static, as in simd_vec.h. */
#pragma once

#include "kernels/x86/simd_vec.h"

#include "kernels/ref/math_ref.h"

#include <stddef.h>

#if defined(__AVX512F__)

struct lanes {
    __m512 v;
};

INLINE __mmask16 first_mask(size_t n) {
    return (__mmask16)((1U << n) - 1);
}
INLINE struct lanes ln_set1(float x) {
    return (struct lanes){_mm512_set1_ps(x)};
}
INLINE struct lanes ln_load(const float *p) {
    return (struct lanes){_mm512_loadu_ps(p)};
}
INLINE struct lanes ln_load_first(const float *p, size_t n) {
    return (struct lanes){_mm512_maskz_loadu_ps(first_mask(n), p)};
}
INLINE void ln_store(float *p, struct lanes a) {
    _mm512_storeu_ps(p, a.v);
}
INLINE void ln_store_first(float *p, struct lanes a, size_t n) {
    _mm512_mask_storeu_ps(p, first_mask(n), a.v);
}
INLINE struct lanes ln_add(struct lanes a, struct lanes b) {
    return (struct lanes){_mm512_add_ps(a.v, b.v)};
}
INLINE struct lanes ln_sub(struct lanes a, struct lanes b) {
    return (struct lanes){_mm512_sub_ps(a.v, b.v)};
}
INLINE struct lanes ln_mul(struct lanes a, struct lanes b) {
    return (struct lanes){_mm512_mul_ps(a.v, b.v)};
}
INLINE struct lanes ln_div(struct lanes a, struct lanes b) {
    return (struct lanes){_mm512_div_ps(a.v, b.v)};
}
INLINE struct lanes ln_max(struct lanes a, struct lanes b) {
    return (struct lanes){_mm512_max_ps(a.v, b.v)};
}
INLINE struct lanes ln_fma(struct lanes a, struct lanes b, struct lanes c) {
    return (struct lanes){_mm512_fmadd_ps(a.v, b.v, c.v)};
}
/* The first n lanes of one, the others of the other. */
INLINE struct lanes ln_keep_after(struct lanes first, size_t n, struct lanes rest) {
    return (struct lanes){_mm512_mask_blend_ps(first_mask(n), rest.v, first.v)};
}
/* Steps 4 and 5 of math_exp(): p * 2^n where x has a finite result. */
INLINE struct lanes ln_exp_finish(struct lanes x, struct lanes t, struct lanes p) {
    __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
    __m512 y = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.v), exponent));
    __mmask16 small = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(MATH_EXP_MIN), _CMP_LT_OQ);
    __mmask16 large = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(MATH_EXP_MAX), _CMP_GT_OQ);
    y = _mm512_maskz_mov_ps((__mmask16)~small, y);
    y = _mm512_mask_mov_ps(y, large, _mm512_set1_ps(INFINITY));
    return (struct lanes){_mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), x.v)};
}
/* Sixteen binary16 or bfloat16 values, widened. */
INLINE struct lanes ln_load_f16(const void *p) {
    return (struct lanes){_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))};
}
INLINE struct lanes ln_load_bf16(const void *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return (struct lanes){_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
INLINE struct lanes ln_load_i8(const void *p) {
    return (struct lanes){
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)))};
}
INLINE void ln_store_f16(void *p, struct lanes a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
/* lane[l] += lane[l + 8], then 4, 2, 1. */
INLINE float ln_sum(struct lanes a) {
    __m256 h8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_add_ss(h2, _mm_movehdup_ps(h2)));
}

#else

struct lanes {
    __m256 v, w; /* lanes 0..7 and 8..15 */
};

/* All ones in lanes base..base+7 that are below n. */
INLINE __m256i first_mask(size_t n, int base) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n - base), lane);
}
INLINE struct lanes ln_set1(float x) {
    return (struct lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE struct lanes ln_load(const float *p) {
    return (struct lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE struct lanes ln_load_first(const float *p, size_t n) {
    return (struct lanes){
            _mm256_maskload_ps(p, first_mask(n, 0)), _mm256_maskload_ps(p + 8, first_mask(n, 8))};
}
INLINE void ln_store(float *p, struct lanes a) {
    _mm256_storeu_ps(p, a.v);
    _mm256_storeu_ps(p + 8, a.w);
}
INLINE void ln_store_first(float *p, struct lanes a, size_t n) {
    _mm256_maskstore_ps(p, first_mask(n, 0), a.v);
    _mm256_maskstore_ps(p + 8, first_mask(n, 8), a.w);
}
INLINE struct lanes ln_add(struct lanes a, struct lanes b) {
    return (struct lanes){_mm256_add_ps(a.v, b.v), _mm256_add_ps(a.w, b.w)};
}
INLINE struct lanes ln_sub(struct lanes a, struct lanes b) {
    return (struct lanes){_mm256_sub_ps(a.v, b.v), _mm256_sub_ps(a.w, b.w)};
}
INLINE struct lanes ln_mul(struct lanes a, struct lanes b) {
    return (struct lanes){_mm256_mul_ps(a.v, b.v), _mm256_mul_ps(a.w, b.w)};
}
INLINE struct lanes ln_div(struct lanes a, struct lanes b) {
    return (struct lanes){_mm256_div_ps(a.v, b.v), _mm256_div_ps(a.w, b.w)};
}
INLINE struct lanes ln_max(struct lanes a, struct lanes b) {
    return (struct lanes){_mm256_max_ps(a.v, b.v), _mm256_max_ps(a.w, b.w)};
}
INLINE struct lanes ln_fma(struct lanes a, struct lanes b, struct lanes c) {
    return (struct lanes){_mm256_fmadd_ps(a.v, b.v, c.v), _mm256_fmadd_ps(a.w, b.w, c.w)};
}
INLINE struct lanes ln_keep_after(struct lanes first, size_t n, struct lanes rest) {
    return (struct lanes){_mm256_blendv_ps(rest.v, first.v, _mm256_castsi256_ps(first_mask(n, 0))),
            _mm256_blendv_ps(rest.w, first.w, _mm256_castsi256_ps(first_mask(n, 8)))};
}
INLINE __m256 exp_finish_8(__m256 x, __m256 t, __m256 p) {
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    y = _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(MATH_EXP_MIN), _CMP_LT_OQ), y);
    __m256 large = _mm256_cmp_ps(x, _mm256_set1_ps(MATH_EXP_MAX), _CMP_GT_OQ);
    y = _mm256_blendv_ps(y, _mm256_set1_ps(INFINITY), large);
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
INLINE struct lanes ln_exp_finish(struct lanes x, struct lanes t, struct lanes p) {
    return (struct lanes){exp_finish_8(x.v, t.v, p.v), exp_finish_8(x.w, t.w, p.w)};
}
INLINE struct lanes ln_load_f16(const void *p) {
    const __m128i *half = (const __m128i *)p;
    return (struct lanes){
            _mm256_cvtph_ps(_mm_loadu_si128(half)), _mm256_cvtph_ps(_mm_loadu_si128(half + 1))};
}
INLINE __m256 widen_bf16(__m128i half) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
INLINE struct lanes ln_load_bf16(const void *p) {
    const __m128i *half = (const __m128i *)p;
    return (struct lanes){widen_bf16(_mm_loadu_si128(half)), widen_bf16(_mm_loadu_si128(half + 1))};
}
INLINE struct lanes ln_load_i8(const void *p) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
INLINE void ln_store_f16(void *p, struct lanes a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(a.w, _MM_FROUND_TO_NEAREST_INT));
}
INLINE float ln_sum(struct lanes a) {
    __m256 h8 = _mm256_add_ps(a.v, a.w);
    __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_add_ss(h2, _mm_movehdup_ps(h2)));
}

#endif

INLINE struct lanes ln_zero(void) {
    return ln_set1(0.0f);
}

/* The sums of four values at once, each by the tree of ln_sum(). */
INLINE __m128 ln_sum4(struct lanes a, struct lanes b, struct lanes c, struct lanes d) {
#if defined(__AVX512F__)
#define FOLD8(x) _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1))
#else
#define FOLD8(x) _mm256_add_ps(x.v, x.w)
#endif
    __m256 a8 = FOLD8(a), b8 = FOLD8(b), c8 = FOLD8(c), d8 = FOLD8(d);
#undef FOLD8
    __m256 ac = _mm256_add_ps(
            _mm256_permute2f128_ps(a8, c8, 0x20), _mm256_permute2f128_ps(a8, c8, 0x31));
    __m256 bd = _mm256_add_ps(
            _mm256_permute2f128_ps(b8, d8, 0x20), _mm256_permute2f128_ps(b8, d8, 0x31));
    /* a a b b and c c d d, two lanes of each left. */
    __m256 h2 = _mm256_add_ps(_mm256_shuffle_ps(ac, bd, 0x44), _mm256_shuffle_ps(ac, bd, 0xee));
    __m256 h1 = _mm256_add_ps(h2, _mm256_movehdup_ps(h2));
    return _mm_shuffle_ps(_mm256_castps256_ps128(h1), _mm256_extractf128_ps(h1, 1), 0x88);
}

/* The largest lane; a NaN may or may not count. */
INLINE float ln_max_of(struct lanes a) {
#if defined(__AVX512F__)
    __m256 h8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
#else
    __m256 h8 = _mm256_max_ps(a.v, a.w);
#endif
    __m128 h4 = _mm_max_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    __m128 h2 = _mm_max_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_max_ss(h2, _mm_movehdup_ps(h2)));
}

/* Changes the signs, of zeros and NaN too. */
INLINE struct lanes ln_neg(struct lanes a) {
#if defined(__AVX512F__)
    return (struct lanes){_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))};
#else
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (struct lanes){_mm256_xor_ps(a.v, sign), _mm256_xor_ps(a.w, sign)};
#endif
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
    return ln_exp_finish(x, t, p);
}
