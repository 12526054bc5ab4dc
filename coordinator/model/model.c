/* model.c - the list of architectures; loading and freeing.
 * Owns: struct model. Does not: know tensor names beyond what tells a file of NextN blocks apart.
 * Runs on: the loading thread; a loaded model is read-only. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct model_arch *const archs[] = {
        &model_arch_llama,
        &model_arch_qwen2,
        &model_arch_qwen2moe,
        &model_arch_qwen3,
        &model_arch_qwen3moe,
        &model_arch_olmoe,
        &model_arch_glm4moe,
        &model_arch_minimax_m2,
};

static int find_arch(const char *name, const struct model_arch **out, struct err *err) {
    char list[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i]->name, name) == 0) {
            *out = archs[i];
            return 0;
        }
        if (at < sizeof list)
            at += (size_t)snprintf(
                    list + at, sizeof list - at, "%s%s", i ? ", " : "", archs[i]->name);
    }
    err_set(err, ERR_UNSUPPORTED, "architecture %s is not supported yet", name);
    return err_hint(err, "supported are: %s", list);
}

/* Files may hold the NextN block alone, or say they have one and leave it out. */
static int check_blocks(struct model_binder *b, struct err *err) {
    struct model_hparams *hp = &b->model->hp;
    if (hp->n_mtp == 0) return 0;

    if (!model_bind_has(b, 0, "attn_norm.weight") &&
            model_bind_has(b, hp->n_layer, "attn_norm.weight")) {
        err_set(err, ERR_UNSUPPORTED, "the file holds only the NextN block of a model");
        return err_hint(err, "name the file with the model itself");
    }
    if (!model_bind_has(b, hp->n_layer, "nextn.eh_proj.weight")) hp->n_mtp = 0;
    return 0;
}

static int bind_all(struct model_binder *b, struct err *err) {
    struct model *m = b->model;
    int rc = check_blocks(b, err);
    if (rc < 0) return rc;

    uint32_t n_blocks = m->hp.n_layer + m->hp.n_mtp;
    m->blocks = calloc(n_blocks, sizeof *m->blocks);
    if (!m->blocks) return err_set(err, ERR_NO_MEMORY, "no memory for %u blocks", n_blocks);

    if ((rc = m->arch->bind_globals(b, err)) < 0) return rc;
    for (uint32_t i = 0; i < n_blocks; i++)
        if ((rc = m->arch->bind_block(b, i, err)) < 0) return rc;
    return model_bind_finish(b, err);
}

static void fill_shape(struct model *m) {
    const struct model_hparams *hp = &m->hp;
    struct model_shape *s = &m->shape;
    s->n_vocab = hp->n_vocab;
    s->n_embd = hp->n_embd;
    s->n_layer = hp->n_layer;
    s->n_mtp = hp->n_mtp;
    s->n_ctx_train = hp->n_ctx_train;
    s->n_head = hp->n_head;
    s->n_head_kv = hp->n_head_kv;
    s->n_dim_k = hp->n_dim_k;
    s->n_dim_v = hp->n_dim_v;
    s->n_expert = hp->router.n_expert;
    s->n_expert_used = hp->router.n_expert_used;
}

/* Without a vocabulary in the metadata, the embeddings say how many tokens there are. */
static int settle_vocab(struct model *m, struct err *err) {
    if (m->hp.n_vocab > 0) return 0;
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, "token_embd.weight");
    if (!t) return err_set(err, ERR_BAD_INPUT, "tensor token_embd.weight is missing");
    if (t->ne[1] > MODEL_N_VOCAB_MAX)
        return err_set(err, ERR_BAD_INPUT, "tensor token_embd.weight is for more than %u tokens",
                MODEL_N_VOCAB_MAX);
    m->hp.n_vocab = (uint32_t)t->ne[1];
    return 0;
}

static int prepare(struct model *m, struct model_binder *b, struct err *err) {
    int rc = model_read_architecture(m->gguf, m->shape.architecture, sizeof m->shape.architecture,
            err);
    if (rc < 0) return rc;
    if ((rc = find_arch(m->shape.architecture, &m->arch, err)) < 0) return rc;

    const struct model_keys keys = {m->gguf, m->arch->name};
    if ((rc = model_hparams_read(&keys, &m->hp, err)) < 0) return rc;
    if ((rc = m->arch->read(&keys, &m->hp, err)) < 0) return rc;
    if ((rc = model_hparams_check(&m->hp, err)) < 0) return rc;
    if ((rc = settle_vocab(m, err)) < 0) return rc;
    if ((rc = bind_all(b, err)) < 0) return rc;
    fill_shape(m);
    return 0;
}

int model_prepare(const struct gguf *gguf, bool dry, struct model_binder *b,
        struct model **out_model, struct err *err) {
    struct model *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, ERR_NO_MEMORY, "no memory for a model");
    m->gguf = gguf;
    b->model = m;
    b->gguf = gguf;
    b->dry = dry;

    int rc = prepare(m, b, err);
    if (rc < 0) {
        model_free(m);
        return rc;
    }
    *out_model = m;
    return 0;
}

int model_load(const struct gguf *gguf, const struct model_options *options,
        struct model **out_model, struct err *err) {
    struct model_binder b = {0};
    struct model *m = NULL;

    int rc = model_prepare(gguf, false, &b, &m, err);
    if (rc < 0) goto out;
    m->kern = options->kern;
    m->pool = options->pool;
    rc = model_rope_init(&m->rope, &m->hp.rope, m->rope_freqs, err);
    if (rc < 0) goto out;
    rc = model_pack_run(&b, options, err);
    if (rc < 0) goto out;

    *out_model = m;
    m = NULL;
out:
    model_binder_fini(&b);
    model_free(m);
    if (rc < 0) (void)err_note(err, "loading %s", gguf_path(gguf));
    return rc;
}

void model_free(struct model *model) {
    if (!model) return;
    for (size_t i = 0; i < model->n_owned; i++)
        free(model->owned[i]);
    free(model->owned);
    free(model->blocks);
    model_rope_fini(&model->rope);
    free(model);
}

const struct model_shape *model_shape(const struct model *model) {
    return &model->shape;
}

uint64_t model_held_bytes(const struct model *model) {
    return model->held_bytes;
}

const struct model_experts *model_experts(const struct model *model, uint32_t layer) {
    if (layer >= model->hp.n_layer + model->hp.n_mtp) return NULL;
    const struct model_block *b = &model->blocks[layer];
    return b->is_moe ? &b->experts : NULL;
}

void model_kv_shape(const struct model *model, uint32_t n_ctx, enum dtype type,
        struct kv_shape *out_shape) {
    const struct model_hparams *hp = &model->hp;
    *out_shape = (struct kv_shape){.n_layer = hp->n_layer + hp->n_mtp, .n_head_kv = hp->n_head_kv,
            .n_dim_k = hp->n_dim_k, .n_dim_v = hp->n_dim_v, .n_ctx = n_ctx, .type = type};
}
