/* simd_merge.c - experts' results as integers on a grid (docs/numerics.md rule 6). The twin of
 * kernels/ref/merge_ref.c: the conversions round to nearest even as there.
 * Owns: nothing. Does not: choose the grid. Runs on: any thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/x86/simd_lanes.h"

/* A contribution of this many grid steps or more poisons the row. */
#define STEPS_LIMIT 0x1p52f

/* 2^e for -126 <= e <= 127. */
static float power_of_two(int e) {
    return f32_from_bits((uint32_t)(e + 127) << 23);
}

/* Adds one element; false where it poisons. */
static bool add_steps(int64_t *sum, float t) {
    if (!(fabsf(t) < STEPS_LIMIT)) return false;
    /* A float from 2^23 on is an integer; below, 1.5 * 2^52 rounds its binary64. */
    double whole = fabsf(t) < 0x1p23f ? (double)t + 0x1.8p+52 - 0x1.8p+52 : (double)t;
    *sum += (int64_t)whole;
    return true;
}

/* Adds eight elements; false where one of them poisons. */
INLINE bool add_steps_8(int64_t *sum, __m256 t) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
#if defined(__AVX512F__)
    __m512i old = _mm512_loadu_si512(sum);
    _mm512_storeu_si512(sum, _mm512_add_epi64(old, _mm512_cvtps_epi64(t)));
    __m256 size = _mm256_and_ps(t, magnitude);
    return _mm256_cmp_ps_mask(size, _mm256_set1_ps(STEPS_LIMIT), _CMP_NLT_UQ) == 0;
#else
    __m256 large = _mm256_cmp_ps(_mm256_and_ps(t, magnitude), _mm256_set1_ps(0x1p30f), _CMP_NLT_UQ);
    if (_mm256_movemask_ps(large) == 0) {
        __m256i steps = _mm256_cvtps_epi32(t), *to = (__m256i *)(void *)sum;
        __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(steps));
        __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(steps, 1));
        _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), low));
        _mm256_storeu_si256(to + 1, _mm256_add_epi64(_mm256_loadu_si256(to + 1), high));
        return true;
    }
    float each[8];
    bool fits = true;
    _mm256_storeu_ps(each, t);
    for (size_t i = 0; i < 8; i++)
        fits = add_steps(sum + i, each[i]) && fits;
    return fits;
#endif
}

bool FLOAT_NAME(merge_add)(int64_t *sum, const float *y, float weight, int grid, size_t n) {
    float steps_per_unit = power_of_two(-grid);
    const __m256 w = _mm256_set1_ps(weight), scale = _mm256_set1_ps(steps_per_unit);
    bool fits = true;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 t = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(y + i), w), scale);
        fits = add_steps_8(sum + i, t) && fits;
    }
    for (; i < n; i++)
        fits = add_steps(sum + i, (y[i] * weight) * steps_per_unit) && fits;
    return fits;
}

void FLOAT_NAME(merge_apply)(float *x, const int64_t *sum, int grid, size_t n) {
    float step = power_of_two(grid);
    size_t i = 0;
#if defined(__AVX512F__)
    for (; i + 8 <= n; i += 8) {
        __m256 steps = _mm512_cvtepi64_ps(_mm512_loadu_si512(sum + i));
        __m256 moved = _mm256_mul_ps(steps, _mm256_set1_ps(step));
        _mm256_storeu_ps(x + i, _mm256_add_ps(_mm256_loadu_ps(x + i), moved));
    }
#else
    /* Sums that fit 32 bits, as nearly all do: their low halves converted together. */
    for (; i + 4 <= n; i += 4) {
        __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)(sum + i));
        __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        __m256i halves = _mm256_permutevar8x32_epi32(s, order);
        __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
        __m128i same = _mm_cmpeq_epi32(high, _mm_srai_epi32(low, 31));
        if (_mm_movemask_epi8(same) == 0xffff) {
            __m128 moved = _mm_mul_ps(_mm_cvtepi32_ps(low), _mm_set1_ps(step));
            _mm_storeu_ps(x + i, _mm_add_ps(_mm_loadu_ps(x + i), moved));
        } else {
            for (size_t k = i; k < i + 4; k++)
                x[k] += (float)sum[k] * step;
        }
    }
#endif
    for (; i < n; i++)
        x[i] += (float)sum[i] * step;
}
