/* neon_table.c - the tables for aarch64: they differ in the products of quantised weights alone.
 * Owns: nothing. Does not: compute. Runs on: any thread. */
#include "kernels/arm/neon_set.h"

#include "kernels/r16.h"

static enum kern_layout layout_of(enum dtype type) {
    return r16_shape_of(type) != NULL ? KERN_R16 : KERN_NATIVE;
}

#define NEON_TABLE(set, its_name)                                                                  \
    static void matmul_##set(const struct kern_mat *w, uint32_t out0, uint32_t out1,               \
            const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y,             \
            size_t y_stride) {                                                                     \
        ASSERT(w->layout == layout_of(w->type));                                                   \
        ASSERT(w->n_in == x->n_in);                                                                \
        ASSERT(out0 % KERN_OUT_STEP == 0);                                                         \
        if (w->layout == KERN_R16)                                                                 \
            neon_matmul_r16_##set(w, out0, out1, x, rows, n_rows, y, y_stride);                    \
        else                                                                                       \
            neon_matmul_float(w, out0, out1, x, rows, n_rows, y, y_stride);                        \
    }                                                                                              \
    const struct kern_ops kern_ops_neon_##set = {                                                  \
            .name = its_name,                                                                      \
            .layout_of = layout_of,                                                                \
            .quantise = neon_quantise,                                                             \
            .matmul = matmul_##set,                                                                \
            .sum_squares = neon_sum_squares,                                                       \
            .rms_norm = neon_rms_norm,                                                             \
            .add = neon_add,                                                                       \
            .glu = neon_glu,                                                                       \
            .softmax = neon_softmax,                                                               \
            .sigmoid = neon_sigmoid,                                                               \
            .rope = neon_rope,                                                                     \
            .kv_store = neon_kv_store,                                                             \
            .attend = neon_attend,                                                                 \
            .merge_add = neon_merge_add,                                                           \
            .merge_apply = neon_merge_apply,                                                       \
    };

NEON_TABLE(dot, "neon-dot")
NEON_TABLE(plain, "neon")
