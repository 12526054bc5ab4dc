/* model_llama.c - llama: Llama 1 to 3, Mistral, SmolLM2 and others alike; Mixtral (with experts).
 *
 * Rotation of neighbouring pairs (the converter has reordered the rows of q and k), optional
 * biases, Llama-3 frequency divisors as a tensor. A block has experts when it has a router;
 * Mixtral renormalises the weights of the chosen experts. Source: Touvron et al. 2023, Jiang et
 * al. 2024 ("Mixtral of Experts"), and GGUF files of these models. */
#include "coordinator/model/model_arch.h"

static int read(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NORM;
    if (hp->rope.n_rot != hp->n_dim_k)
        return err_set(err, ERR_BAD_INPUT,
                "metadata key %s.rope.dimension_count is %u; this architecture rotates whole heads "
                "of %u",
                keys->arch, hp->rope.n_rot, hp->n_dim_k);
    if (hp->router.n_expert == 0) return 0;

    hp->n_ff_exp = hp->n_ff;
    hp->router.gating = MODEL_GATING_SOFTMAX;
    hp->router.renormalise = true;
    int rc = model_key_u32(keys, "expert_shared_feed_forward_length", MODEL_OPTIONAL, 0,
            MODEL_N_FF_MAX, &hp->n_ff_shexp, err);
    return rc < 0 ? rc : 0;
}

static int bind_globals(struct model_binder *b, struct err *err) {
    return model_bind_globals(b, MODEL_OPTIONAL, MODEL_OPTIONAL, err);
}

static int bind_block(struct model_binder *b, uint32_t layer, struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    const struct model_attn_form form = {.qkv_bias = MODEL_OPTIONAL, .o_bias = MODEL_OPTIONAL};

    int rc = model_bind_attn(b, layer, &form, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "ffn_norm.weight", MODEL_REQUIRED, hp->n_embd,
            &b->model->blocks[layer].ffn_norm, err);
    if (rc < 0) return rc;

    if (hp->router.n_expert == 0 || !model_bind_has(b, layer, "ffn_gate_inp.weight"))
        return model_bind_dense_ffn(b, layer, MODEL_OPTIONAL, err);
    rc = model_bind_experts(b, layer, MODEL_ABSENT, err);
    return rc < 0 || hp->n_ff_shexp == 0 ? rc : model_bind_shexp(b, layer, false, err);
}

const struct model_arch model_arch_llama = {.name = "llama", .read = read,
        .bind_globals = bind_globals, .bind_block = bind_block};
