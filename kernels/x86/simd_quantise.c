/* simd_quantise.c - activation rows as integer blocks, and rows of the cache (docs/numerics.md
 * rules 2 and 5). The twin of kernels/ref/quant_ref.c. Owns: nothing. Does not: send. Runs on: any
 * thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/x86/simd_lanes.h"

#include "kernels/ref/blocks.h"

/* Blocks whose largest magnitude is below this become zero. */
#define AMAX_MIN 0x1p-100f

/* The largest |x| of n = 16 k elements, as bits: magnitudes order like their bits, NaN on top. */
INLINE uint32_t amax_bits(const float *x, uint32_t n) {
#if defined(__AVX512F__)
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    __m512i max = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += 16)
        max = _mm512_max_epi32(max, _mm512_and_si512(mask, _mm512_loadu_si512(x + i)));
    __m256i h8 = _mm256_max_epi32(_mm512_castsi512_si256(max), _mm512_extracti32x8_epi32(max, 1));
#else
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    __m256i h8 = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        h8 = _mm256_max_epi32(h8, _mm256_and_si256(mask, v));
    }
#endif
    __m128i h4 = _mm_max_epi32(_mm256_castsi256_si128(h8), _mm256_extracti128_si256(h8, 1));
    __m128i h2 = _mm_max_epi32(h4, _mm_shuffle_epi32(h4, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(h2, _mm_shuffle_epi32(h2, 0xb1)));
}

/* rne(x * id) of sixteen elements, |x * id| <= 127. */
INLINE __m128i quants_of_16(const float *x, float id) {
    struct lanes v = ln_mul(ln_load(x), ln_set1(id));
#if defined(__AVX512F__)
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v.v));
#else
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.v), _mm256_cvtps_epi32(v.w));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#endif
}

/* Writes the quants of n = 16 k elements and returns the scale. */
INLINE float quantise_block(const float *x, uint32_t n, int8_t *q) {
    uint32_t amax = amax_bits(x, n);
    if (amax >= 0x7f800000 || amax < f32_bits(AMAX_MIN)) {
        memset(q, 0, n);
        return amax >= 0x7f800000 ? f32_nan() : 0.0f;
    }
    float t = f32_from_bits(amax) / 127.0f;
    float d = f32_from_bits((f32_bits(t) + 0xffff) & 0xffff0000);
    float id = 1.0f / d;
    for (uint32_t i = 0; i < n; i += 16)
        _mm_storeu_si128((__m128i *)(void *)(q + i), quants_of_16(x + i, id));
    return d;
}

/* The sum of sixteen quants: bytes made unsigned, added up in two halves, the offset taken back. */
INLINE int16_t sum_of_16(const int8_t *q) {
    __m128i bytes = _mm_xor_si128(
            _mm_loadu_si128((const __m128i *)(const void *)q), _mm_set1_epi8((char)0x80));
    __m128i sums = _mm_sad_epu8(bytes, _mm_setzero_si128());
    return (int16_t)(_mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128);
}

void FLOAT_NAME(quantise)(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16) {
    ASSERT(kind == ACT_Q8_32 || kind == ACT_Q8_256);
    uint32_t block = kind == ACT_Q8_32 ? 32 : 256;
    ASSERT(n_in % block == 0);
    for (uint32_t r = 0; r < n_rows; r++, x += x_stride)
        for (uint32_t i = 0; i < n_in; i += block, q += block) {
            *d++ = quantise_block(x + i, block, q);
            for (uint32_t k = 0; k < block; k += 16)
                *sum16++ = sum_of_16(q + k);
        }
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

void FLOAT_NAME(kv_store)(enum dtype kv_type, void *to, const float *x, uint32_t n) {
    uint8_t *bytes = to;
    if (kv_type == DT_F32) {
        memcpy(bytes, x, n * sizeof *x);
    } else if (kv_type == DT_F16) {
        store_halves(bytes, x, n);
    } else {
        ASSERT(kv_type == DT_Q8_0);
        ASSERT(n % 32 == 0);
        for (uint32_t i = 0; i < n; i += 32) {
            float d = quantise_block(x + i, 32, (int8_t *)bytes + i);
            memcpy(bytes + n + i / 32 * sizeof d, &d, sizeof d);
        }
    }
}
