/* model_olmoe.c - olmoe: OLMoE-1B-7B.
 *
 * Every block has experts; query and key vectors are normed whole, before the split into heads;
 * routing weights are not renormalised. Source: Muennighoff et al. 2024, "OLMoE: Open
 * Mixture-of-Experts Language Models", and the GGUF files of the released model. */
#include "coordinator/model/model_arch.h"

static int read(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NEOX;
    if (hp->router.n_expert == 0)
        return err_set(err, ERR_BAD_INPUT, "metadata key %s.expert_count is missing or 0",
                keys->arch);
    hp->n_ff_exp = hp->n_ff;
    hp->router.gating = MODEL_GATING_SOFTMAX;
    return 0;
}

static int bind_globals(struct model_binder *b, struct err *err) {
    return model_bind_globals(b, MODEL_REQUIRED, MODEL_ABSENT, err);
}

static int bind_block(struct model_binder *b, uint32_t layer, struct err *err) {
    const struct model_attn_form form = {.qk_norm = MODEL_QK_NORM_WHOLE,
            .qk_norm_need = MODEL_REQUIRED};

    int rc = model_bind_attn(b, layer, &form, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "ffn_norm.weight", MODEL_REQUIRED, b->model->hp.n_embd,
            &b->model->blocks[layer].ffn_norm, err);
    return rc < 0 ? rc : model_bind_experts(b, layer, MODEL_ABSENT, err);
}

const struct model_arch model_arch_olmoe = {.name = "olmoe", .read = read,
        .bind_globals = bind_globals, .bind_block = bind_block};
