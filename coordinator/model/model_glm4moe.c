/* model_glm4moe.c - glm4moe: GLM-4.5, 4.5-Air, 4.6, 4.7.
 *
 * Half-rotary heads in split pairs, q/k/v biases, optional norms per head; leading dense
 * blocks, then sigmoid routing with a selection bias and one ungated shared expert; NextN
 * blocks at the end. Source: the Glm4Moe model of the transformers library and the GGUF files
 * of GLM-4.5 and later. */
#include "coordinator/model/model_arch.h"

static int read(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NEOX;
    if (hp->router.n_expert == 0)
        return err_set(err, ERR_BAD_INPUT, "metadata key %s.expert_count is missing or 0",
                keys->arch);

    int rc = model_key_u32(keys, "expert_feed_forward_length", MODEL_REQUIRED, 1, MODEL_N_FF_MAX,
            &hp->n_ff_exp, err);
    if (rc < 0) return rc;

    uint32_t n_shared = 0;
    rc = model_key_u32(keys, "expert_shared_count", MODEL_REQUIRED, 0, 64, &n_shared, err);
    if (rc < 0) return rc;
    if (n_shared > MODEL_N_FF_MAX / hp->n_ff_exp)
        return err_set(err, ERR_BAD_INPUT, "%u shared experts of width %u", n_shared, hp->n_ff_exp);
    hp->n_ff_shexp = n_shared * hp->n_ff_exp;

    rc = model_read_gating(keys, MODEL_GATING_SIGMOID, &hp->router.gating, err);
    if (rc < 0) return rc;
    return model_key_bool(keys, "expert_weights_norm", &hp->router.renormalise, err);
}

static int bind_globals(struct model_binder *b, struct err *err) {
    return model_bind_globals(b, MODEL_OPTIONAL, MODEL_ABSENT, err);
}

static int bind_block(struct model_binder *b, uint32_t layer, struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    const struct model_attn_form form = {.qkv_bias = MODEL_OPTIONAL,
            .qk_norm = MODEL_QK_NORM_HEAD, .qk_norm_need = MODEL_OPTIONAL};

    int rc = model_bind_attn(b, layer, &form, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "post_attention_norm.weight", MODEL_REQUIRED, hp->n_embd,
            &b->model->blocks[layer].ffn_norm, err);
    if (rc < 0) return rc;
    if (layer >= hp->n_layer && (rc = model_bind_mtp(b, layer, err)) < 0) return rc;

    if (layer < hp->n_layer_dense) return model_bind_dense_ffn(b, layer, MODEL_ABSENT, err);
    rc = model_bind_experts(b, layer, MODEL_REQUIRED, err);
    return rc < 0 || hp->n_ff_shexp == 0 ? rc : model_bind_shexp(b, layer, false, err);
}

const struct model_arch model_arch_glm4moe = {.name = "glm4moe", .read = read,
        .bind_globals = bind_globals, .bind_block = bind_block};
