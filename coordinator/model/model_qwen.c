/* model_qwen.c - qwen2, qwen2moe, qwen3, qwen3moe.
 *
 * Rotation of split pairs over whole heads. The second generation has biases on q, k and v and,
 * with experts, a shared one behind a sigmoid gate and weights that are not renormalised; the
 * third has norms per head instead, no shared expert, and renormalises. Source: the Qwen2 and
 * Qwen3 technical reports (2024, 2025) and the GGUF files of these models. */
#include "coordinator/model/model_arch.h"

static int read_dense(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NEOX;
    if (hp->router.n_expert > 0)
        return err_set(err, ERR_BAD_INPUT,
                "architecture %s has no experts, but %s.expert_count is %u", keys->arch,
                keys->arch, hp->router.n_expert);
    return 0;
}

static int read_moe(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NEOX;
    if (hp->router.n_expert == 0)
        return err_set(err, ERR_BAD_INPUT, "metadata key %s.expert_count is missing or 0",
                keys->arch);

    hp->router.gating = MODEL_GATING_SOFTMAX;
    hp->n_ff_exp = hp->n_ff / hp->router.n_expert_used;
    int rc = model_key_u32(keys, "expert_feed_forward_length", MODEL_OPTIONAL, 1, MODEL_N_FF_MAX,
            &hp->n_ff_exp, err);
    return rc < 0 ? rc : 0;
}

static int read_qwen2moe(const struct model_keys *keys, struct model_hparams *hp,
        struct err *err) {
    int rc = read_moe(keys, hp, err);
    if (rc < 0) return rc;
    hp->n_ff_shexp = hp->n_ff;
    rc = model_key_u32(keys, "expert_shared_feed_forward_length", MODEL_OPTIONAL, 1, MODEL_N_FF_MAX,
            &hp->n_ff_shexp, err);
    if (rc >= 0 && hp->n_ff_shexp == 0)
        return err_set(err, ERR_BAD_INPUT, "the file does not say how wide the shared expert is");
    return rc < 0 ? rc : 0;
}

static int read_qwen3moe(const struct model_keys *keys, struct model_hparams *hp,
        struct err *err) {
    hp->router.renormalise = true;
    return read_moe(keys, hp, err);
}

static int bind_globals(struct model_binder *b, struct err *err) {
    return model_bind_globals(b, MODEL_OPTIONAL, MODEL_ABSENT, err);
}

/* Attention and the norm after it. */
static int bind_attn(struct model_binder *b, uint32_t layer, const struct model_attn_form *form,
        struct err *err) {
    int rc = model_bind_attn(b, layer, form, err);
    if (rc < 0) return rc;
    return model_bind_vector(b, layer, "ffn_norm.weight", MODEL_REQUIRED, b->model->hp.n_embd,
            &b->model->blocks[layer].ffn_norm, err);
}

static const struct model_attn_form form_qwen2 = {.qkv_bias = MODEL_REQUIRED};
static const struct model_attn_form form_qwen3 = {
        .qk_norm = MODEL_QK_NORM_HEAD, .qk_norm_need = MODEL_REQUIRED};

static int bind_qwen2(struct model_binder *b, uint32_t layer, struct err *err) {
    int rc = bind_attn(b, layer, &form_qwen2, err);
    return rc < 0 ? rc : model_bind_dense_ffn(b, layer, MODEL_ABSENT, err);
}

static int bind_qwen2moe(struct model_binder *b, uint32_t layer, struct err *err) {
    int rc = bind_attn(b, layer, &form_qwen2, err);
    if (rc < 0) return rc;
    rc = model_bind_experts(b, layer, MODEL_ABSENT, err);
    return rc < 0 ? rc : model_bind_shexp(b, layer, true, err);
}

static int bind_qwen3(struct model_binder *b, uint32_t layer, struct err *err) {
    int rc = bind_attn(b, layer, &form_qwen3, err);
    return rc < 0 ? rc : model_bind_dense_ffn(b, layer, MODEL_ABSENT, err);
}

static int bind_qwen3moe(struct model_binder *b, uint32_t layer, struct err *err) {
    int rc = bind_attn(b, layer, &form_qwen3, err);
    return rc < 0 ? rc : model_bind_experts(b, layer, MODEL_ABSENT, err);
}

const struct model_arch model_arch_qwen2 = {.name = "qwen2", .read = read_dense,
        .bind_globals = bind_globals, .bind_block = bind_qwen2};
const struct model_arch model_arch_qwen2moe = {.name = "qwen2moe", .read = read_qwen2moe,
        .bind_globals = bind_globals, .bind_block = bind_qwen2moe};
const struct model_arch model_arch_qwen3 = {.name = "qwen3", .read = read_dense,
        .bind_globals = bind_globals, .bind_block = bind_qwen3};
const struct model_arch model_arch_qwen3moe = {.name = "qwen3moe", .read = read_qwen3moe,
        .bind_globals = bind_globals, .bind_block = bind_qwen3moe};
