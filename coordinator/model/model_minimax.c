/* model_minimax.c - minimax-m2: MiniMax-M2, M2.1, M2.5, M2.7.
 *
 * Every block has experts; query and key vectors are normed whole; half of each head is
 * rotated, in split pairs; sigmoid routing with a selection bias, weights always renormalised;
 * no shared expert. Source: the MiniMaxM2 model of the transformers library and the GGUF files
 * of the released models. */
#include "coordinator/model/model_arch.h"

static int read(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    hp->rope.kind = KERN_ROPE_NEOX;
    if (hp->router.n_expert == 0)
        return err_set(err, ERR_BAD_INPUT, "metadata key %s.expert_count is missing or 0",
                keys->arch);
    hp->n_ff_exp = hp->n_ff;
    hp->router.renormalise = true;
    return model_read_gating(keys, MODEL_GATING_SIGMOID, &hp->router.gating, err);
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
    return rc < 0 ? rc : model_bind_experts(b, layer, MODEL_REQUIRED, err);
}

const struct model_arch model_arch_minimax_m2 = {.name = "minimax-m2", .read = read,
        .bind_globals = bind_globals, .bind_block = bind_block};
