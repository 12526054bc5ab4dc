/* neon_rows.c - norms, gates, softmax and rotation over rows of floats, sixteen elements at a time.
 * The twins of kernels/ref/norm_ref.c: the same operations on every element, the same lanes.
 * Owns: nothing. Does not: know models. Runs on: any thread of an aarch64 CPU. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_lanes.h"

/* The lanes' sums of squares of a row (rule 1). */
float neon_sum_squares(const float *x, size_t n) {
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

void neon_rms_norm(float *y, const float *x, const float *w, size_t n, float eps) {
    float s = 1.0f / sqrtf(neon_sum_squares(x, n) / (float)n + eps);
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

void neon_add(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store(y + i, ln_add(ln_load(y + i), ln_load(x + i)));
    if (i < n) {
        struct lanes sum = ln_add(ln_load_first(y + i, n - i), ln_load_first(x + i, n - i));
        ln_store_first(y + i, sum, n - i);
    }
}

/* 1 + exp(-x), the denominator of sigmoid and silu. */
INLINE struct lanes one_plus_exp_neg(struct lanes x) {
    return ln_add(ln_set1(1.0f), ln_exp(ln_neg(x)));
}

void neon_glu(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n) {
    ASSERT(kind == KERN_GLU_SILU);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        struct lanes g = ln_load(gate + i);
        ln_store(h + i, ln_mul(ln_div(g, one_plus_exp_neg(g)), ln_load(up + i)));
    }
    if (i < n) {
        struct lanes g = ln_load_first(gate + i, n - i);
        g = ln_mul(ln_div(g, one_plus_exp_neg(g)), ln_load_first(up + i, n - i));
        ln_store_first(h + i, g, n - i);
    }
}

void neon_sigmoid(float *x, size_t n) {
    struct lanes one = ln_set1(1.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        ln_store(x + i, ln_div(one, one_plus_exp_neg(ln_load(x + i))));
    if (i < n) {
        struct lanes v = ln_load_first(x + i, n - i);
        ln_store_first(x + i, ln_div(one, one_plus_exp_neg(v)), n - i);
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

void neon_softmax(float *x, size_t n) {
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
static void rotate_pair(float *p0, float *p1, float c, float s) {
    float x0 = *p0, x1 = *p1;
    *p0 = math_fma(x0, c, -(x1 * s));
    *p1 = math_fma(x0, s, x1 * c);
}

/* Four pairs: x0 in v[0], x1 in v[1]. */
INLINE float32x4x2_t rotate_4(float32x4x2_t v, const float *cos, const float *sin) {
    float32x4_t c = vld1q_f32(cos), s = vld1q_f32(sin);
    float32x4x2_t y = {{
            vfmaq_f32(vnegq_f32(vmulq_f32(v.val[1], s)), v.val[0], c),
            vfmaq_f32(vmulq_f32(v.val[1], c), v.val[0], s),
    }};
    return y;
}

static void rope_neox(float *x, size_t half, const float *cos, const float *sin) {
    size_t i = 0;
    for (; i + 4 <= half; i += 4) {
        float32x4x2_t v = {{vld1q_f32(x + i), vld1q_f32(x + half + i)}};
        v = rotate_4(v, cos + i, sin + i);
        vst1q_f32(x + i, v.val[0]);
        vst1q_f32(x + half + i, v.val[1]);
    }
    for (; i < half; i++)
        rotate_pair(x + i, x + half + i, cos[i], sin[i]);
}

static void rope_norm(float *x, size_t half, const float *cos, const float *sin) {
    size_t i = 0;
    for (; i + 4 <= half; i += 4)
        vst2q_f32(x + 2 * i, rotate_4(vld2q_f32(x + 2 * i), cos + i, sin + i));
    for (; i < half; i++)
        rotate_pair(x + 2 * i, x + 2 * i + 1, cos[i], sin[i]);
}

void neon_rope(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride, uint32_t n_rot,
        const float *cos, const float *sin) {
    for (uint32_t h = 0; h < n_heads; h++, x += head_stride) {
        if (kind == KERN_ROPE_NORM)
            rope_norm(x, n_rot / 2, cos, sin);
        else
            rope_neox(x, n_rot / 2, cos, sin);
    }
}
