/* simd_rows.c - norms, gates, softmax and rotation over rows of floats, sixteen elements at a time.
 * The twins of kernels/ref/norm_ref.c: the same operations on every element, the same lanes.
 * Owns: nothing. Does not: know models. Runs on: any thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/x86/simd_lanes.h"

/* The lanes' sums of squares of a row (rule 1). */
float FLOAT_NAME(sum_squares)(const float *x, size_t n) {
    struct lanes acc = ln_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        struct lanes v = ln_load(x + i);
        acc = ln_fma(v, v, acc);
    }
    if (i < n) {
        struct lanes v = ln_load_first(x + i, n - i);
        acc = ln_keep_after(ln_fma(v, v, acc), n - i, acc);
    }
    return ln_sum(acc);
}

void FLOAT_NAME(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps) {
    float s = 1.0f / sqrtf(FLOAT_NAME(sum_squares)(x, n) / (float)n + eps);
    struct lanes scale = ln_set1(s);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        struct lanes v = ln_mul(ln_load(x + i), scale);
        ln_store(y + i, w != NULL ? ln_mul(v, ln_load(w + i)) : v);
    }
    if (i < n) {
        struct lanes v = ln_mul(ln_load_first(x + i, n - i), scale);
        if (w != NULL) v = ln_mul(v, ln_load_first(w + i, n - i));
        ln_store_first(y + i, v, n - i);
    }
}

void FLOAT_NAME(add)(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store(y + i, ln_add(ln_load(y + i), ln_load(x + i)));
    if (i < n) {
        struct lanes sum = ln_add(ln_load_first(y + i, n - i), ln_load_first(x + i, n - i));
        ln_store_first(y + i, sum, n - i);
    }
}

INLINE struct lanes silu(struct lanes x) {
    return ln_div(x, ln_add(ln_set1(1.0f), ln_exp(ln_neg(x))));
}

void FLOAT_NAME(glu)(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n) {
    ASSERT(kind == KERN_GLU_SILU);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store(h + i, ln_mul(silu(ln_load(gate + i)), ln_load(up + i)));
    if (i < n) {
        struct lanes g = silu(ln_load_first(gate + i, n - i));
        ln_store_first(h + i, ln_mul(g, ln_load_first(up + i, n - i)), n - i);
    }
}

void FLOAT_NAME(sigmoid)(float *x, size_t n) {
    struct lanes one = ln_set1(1.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store(x + i, ln_div(one, ln_add(one, ln_exp(ln_neg(ln_load(x + i))))));
    if (i < n) {
        struct lanes v = ln_load_first(x + i, n - i);
        ln_store_first(x + i, ln_div(one, ln_add(one, ln_exp(ln_neg(v)))), n - i);
    }
}

static float row_max(const float *x, size_t n) {
    struct lanes max = ln_set1(-INFINITY);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        max = ln_max(ln_load(x + i), max);
    if (i < n) max = ln_keep_after(ln_max(ln_load_first(x + i, n - i), max), n - i, max);
    return ln_max_of(max);
}

void FLOAT_NAME(softmax)(float *x, size_t n) {
    struct lanes max = ln_set1(row_max(x, n)), sum = ln_zero();
    size_t i = 0, last = n % 16, full = n - last;
    for (; i < full; i += 16) {
        struct lanes p = ln_exp(ln_sub(ln_load(x + i), max));
        ln_store(x + i, p);
        sum = ln_add(sum, p);
    }
    if (last != 0) {
        struct lanes p = ln_exp(ln_sub(ln_load_first(x + i, last), max));
        ln_store_first(x + i, p, last);
        sum = ln_keep_after(ln_add(sum, p), last, sum);
    }
    struct lanes total = ln_set1(ln_sum(sum));
    for (i = 0; i < full; i += 16)
        ln_store(x + i, ln_div(ln_load(x + i), total));
    if (last != 0) ln_store_first(x + i, ln_div(ln_load_first(x + i, last), total), last);
}

/* One pair by the definition, for the ends of rows. */
static void rotate(float *p0, float *p1, float c, float s) {
    float x0 = *p0, x1 = *p1;
    *p0 = fmaf(x0, c, -(x1 * s));
    *p1 = fmaf(x0, s, x1 * c);
}

static void rope_neox(float *x, size_t half, const float *cos, const float *sin) {
    size_t i = 0;
    for (; i + 8 <= half; i += 8) {
        __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
        __m256 x0 = _mm256_loadu_ps(x + i), x1 = _mm256_loadu_ps(x + half + i);
        _mm256_storeu_ps(x + i, _mm256_fmsub_ps(x0, c, _mm256_mul_ps(x1, s)));
        _mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(x0, s, _mm256_mul_ps(x1, c)));
    }
    for (; i < half; i++)
        rotate(x + i, x + half + i, cos[i], sin[i]);
}

/* Four neighbouring pairs a step: even lanes take x0 c - x1 s, odd lanes x0 s + x1 c. */
static void rope_norm(float *x, size_t half, const float *cos, const float *sin) {
    size_t i = 0;
    for (; i + 4 <= half; i += 4) {
        __m128 c = _mm_loadu_ps(cos + i), s = _mm_loadu_ps(sin + i);
        __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(c, s), _mm_unpacklo_ps(c, s));
        __m256 sc = _mm256_permute_ps(cs, 0xb1);
        __m256 v = _mm256_loadu_ps(x + 2 * i);
        __m256 crossed = _mm256_mul_ps(_mm256_movehdup_ps(v), sc);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(_mm256_moveldup_ps(v), cs, crossed));
    }
    for (; i < half; i++)
        rotate(x + 2 * i, x + 2 * i + 1, cos[i], sin[i]);
}

void FLOAT_NAME(rope)(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride,
        uint32_t n_rot, const float *cos, const float *sin) {
    for (uint32_t h = 0; h < n_heads; h++, x += head_stride) {
        if (kind == KERN_ROPE_NORM)
            rope_norm(x, n_rot / 2, cos, sin);
        else
            rope_neox(x, n_rot / 2, cos, sin);
    }
}
