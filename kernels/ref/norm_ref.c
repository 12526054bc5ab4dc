/* norm_ref.c - norms, gates, softmax and rotation over rows of floats (docs/numerics.md rule 4).
 * Owns: nothing. Does not: know models. Runs on: any thread. */
#include "kernels/ref/ref.h"

#include "kernels/ref/lanes.h"
#include "kernels/ref/math_ref.h"

#include "proto/base/err.h"

float ref_sum_squares(const float *x, size_t n) {
    struct lanes lanes;
    lanes_zero(&lanes);
    lanes_add_products(&lanes, x, x, n);
    return lanes_sum(lanes);
}

void ref_rms_norm(float *y, const float *x, const float *w, size_t n, float eps) {
    float s = 1.0f / sqrtf(ref_sum_squares(x, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float scaled = x[i] * s;
        y[i] = w != NULL ? scaled * w[i] : scaled;
    }
}

void ref_add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void ref_glu(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n) {
    ASSERT(kind == KERN_GLU_SILU);
    for (size_t i = 0; i < n; i++)
        h[i] = math_silu(gate[i]) * up[i];
}

/* NaN elements make the whole row NaN whichever way the maximum treats them. */
void ref_softmax(float *x, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        x[i] = math_exp(x[i] - max);
    struct lanes lanes;
    lanes_zero(&lanes);
    lanes_add(&lanes, x, n);
    float sum = lanes_sum(lanes);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] / sum;
}

void ref_sigmoid(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = math_sigmoid(x[i]);
}

void ref_rope(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride, uint32_t n_rot,
        const float *cos, const float *sin) {
    size_t half = n_rot / 2;
    for (uint32_t h = 0; h < n_heads; h++, x += head_stride)
        for (size_t i = 0; i < half; i++) {
            float *p0 = kind == KERN_ROPE_NORM ? x + 2 * i : x + i;
            float *p1 = kind == KERN_ROPE_NORM ? p0 + 1 : p0 + half;
            float x0 = *p0, x1 = *p1;
            *p0 = math_fma(x0, cos[i], -(x1 * sin[i]));
            *p1 = math_fma(x0, sin[i], x1 * cos[i]);
        }
}
