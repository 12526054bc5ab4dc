/* table_ref.c - the scalar table: the definition that every other table is compared with.
 * Owns: nothing. Does not: compute. Runs on: any thread. */
#include "kernels/ref/ref.h"

const struct kern_ops kern_ops_scalar = {
        .name = "scalar",
        .layout_of = ref_layout_of,
        .quantise = ref_quantise,
        .matmul = ref_matmul,
        .sum_squares = ref_sum_squares,
        .rms_norm = ref_rms_norm,
        .add = ref_add,
        .glu = ref_glu,
        .softmax = ref_softmax,
        .sigmoid = ref_sigmoid,
        .rope = ref_rope,
        .kv_store = ref_kv_store,
        .attend = ref_attend,
        .merge_add = ref_merge_add,
        .merge_apply = ref_merge_apply,
};
