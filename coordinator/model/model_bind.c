/* model_bind.c - finds tensors by name and checks their shapes against the metadata.
 * Owns: the list of what was used, until the binder is done. Does not: repack or compute. Runs on:
 * the loading thread.
 *
 * A tensor type that our kernels lack does not stop binding: all of them are counted first, so that
 * the message says how much of the file is concerned. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128

/* Makes room for one more element. */
static int grow(void **list, size_t n, size_t *capacity, size_t element, struct err *err) {
    if (n < *capacity) return 0;
    size_t more = *capacity ? *capacity * 2 : 64;
    void *bigger = realloc(*list, more * element);
    if (!bigger) return err_set(err, ERR_NO_MEMORY, "no memory for a list of %zu tensors", more);
    *list = bigger;
    *capacity = more;
    return 0;
}

void model_binder_fini(struct model_binder *b) {
    free(b->used);
    free(b->packs);
    *b = (struct model_binder){0};
}

int model_own(struct model *model, void *memory, uint64_t n_bytes, struct err *err) {
    int rc = grow((void **)&model->owned, model->n_owned, &model->owned_capacity,
            sizeof *model->owned, err);
    if (rc < 0) {
        free(memory);
        return rc;
    }
    model->owned[model->n_owned++] = memory;
    model->held_bytes += n_bytes;
    return 0;
}

static void full_name(uint32_t layer, const char *name, char *out) {
    if (layer == MODEL_GLOBAL)
        (void)snprintf(out, NAME_MAX_BYTES, "%s", name);
    else
        (void)snprintf(out, NAME_MAX_BYTES, "blk.%u.%s", layer, name);
}

bool model_bind_has(const struct model_binder *b, uint32_t layer, const char *name) {
    char full[NAME_MAX_BYTES];
    full_name(layer, name, full);
    return gguf_find_tensor(b->gguf, full) != NULL;
}

static int wrong_shape(const struct gguf_tensor *t, const uint64_t *want, uint32_t n_want,
        struct err *err) {
    char has[96], expected[96];
    size_t at = 0;
    for (uint32_t i = 0; i < t->n_dims && at < sizeof has; i++)
        at += (size_t)snprintf(has + at, sizeof has - at, "%s%" PRIu64, i ? ", " : "", t->ne[i]);
    at = 0;
    for (uint32_t i = 0; i < n_want && at < sizeof expected; i++)
        at += (size_t)snprintf(
                expected + at, sizeof expected - at, "%s%" PRIu64, i ? ", " : "", want[i]);
    return err_set(err, ERR_BAD_INPUT, "tensor %s has the shape [%s]; the metadata asks for [%s]",
            t->name, has, expected);
}

/* Finds a tensor of shape want[n_want] (further dimensions 1) and notes that it is used. NULL in
 * *out when it is optional and absent. */
static int find(struct model_binder *b, uint32_t layer, const char *name, enum model_need need,
        const uint64_t *want, uint32_t n_want, const struct gguf_tensor **out, struct err *err) {
    char full[NAME_MAX_BYTES];
    full_name(layer, name, full);

    *out = NULL;
    if (need == MODEL_ABSENT) return 0;
    const struct gguf_tensor *t = gguf_find_tensor(b->gguf, full);
    if (!t && need == MODEL_OPTIONAL) return 0;
    if (!t) {
        err_set(err, ERR_BAD_INPUT, "tensor %s is missing", full);
        return err_hint(err, "the file is incomplete, or made for another program; get it again");
    }

    for (uint32_t i = 0; i < 4; i++)
        if (t->ne[i] != (i < n_want ? want[i] : 1)) return wrong_shape(t, want, n_want, err);

    int rc = grow((void **)&b->used, b->n_used, &b->used_capacity, sizeof *b->used, err);
    if (rc < 0) return rc;
    b->used[b->n_used++] = t;
    if (!dtype_find(t->type)->computable) b->n_bad_type[t->type]++;
    *out = t;
    return 0;
}

/* Part of a matrix: rows [row0, row0 + n_out) of the tensor. */
static int take_rows(struct model_binder *b, const struct gguf_tensor *t, uint32_t row0,
        uint32_t n_out, bool release, struct kern_mat *mat, struct err *err) {
    uint32_t n_in = (uint32_t)t->ne[0];
    *mat = (struct kern_mat){.type = t->type, .layout = KERN_NATIVE, .n_in = n_in, .n_out = n_out,
            .bytes = t->bytes + row0 * dtype_row_bytes(t->type, n_in)};

    int rc = grow((void **)&b->packs, b->n_packs, &b->packs_capacity, sizeof *b->packs, err);
    if (rc < 0) return rc;
    b->packs[b->n_packs++] = (struct model_pack){.mat = mat, .release = release};
    return 0;
}

int model_bind_matrix(struct model_binder *b, uint32_t layer, const char *name,
        enum model_need need, uint32_t n_in, uint32_t n_out, struct kern_mat *mat,
        struct err *err) {
    const struct gguf_tensor *t = NULL;
    const uint64_t want[] = {n_in, n_out};
    int rc = find(b, layer, name, need, want, 2, &t, err);
    return rc < 0 || !t ? rc : take_rows(b, t, 0, n_out, true, mat, err);
}

/* Elements [first, first + n) of a vector, as floats of our own: mapped ones may lie unaligned. */
static int take_floats(struct model_binder *b, const struct gguf_tensor *t, uint32_t first,
        uint32_t n, const float **vector, struct err *err) {
    if (b->dry || !dtype_find(t->type)->computable) return 0;

    size_t n_bytes = t->ne[0] * sizeof(float);
    float *all = aligned_new(n_bytes);
    float *own = aligned_new(n * sizeof *own);
    if (!all || !own) {
        free(all);
        free(own);
        return err_set(err, ERR_NO_MEMORY, "no memory for tensor %s", t->name);
    }
    kern_dequantise(t->type, t->bytes, t->ne[0], all);
    memcpy(own, all + first, n * sizeof *own);
    free(all);

    int rc = model_own(b->model, own, n * sizeof *own, err);
    if (rc == 0) *vector = own;
    return rc;
}

int model_bind_vector(struct model_binder *b, uint32_t layer, const char *name,
        enum model_need need, uint32_t n, const float **vector, struct err *err) {
    const struct gguf_tensor *t = NULL;
    const uint64_t want[] = {n};
    int rc = find(b, layer, name, need, want, 1, &t, err);
    return rc < 0 || !t ? rc : take_floats(b, t, 0, n, vector, err);
}

int model_bind_table(struct model_binder *b, uint32_t layer, const char *name, enum model_need need,
        const struct gguf_tensor **table, struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    const uint64_t want[] = {hp->n_embd, hp->n_vocab};
    return find(b, layer, name, need, want, 2, table, err);
}

int model_bind_globals(struct model_binder *b, enum model_need head, enum model_need rope_freqs,
        struct err *err) {
    struct model *m = b->model;
    const struct model_hparams *hp = &m->hp;

    int rc = model_bind_table(b, MODEL_GLOBAL, "token_embd.weight", MODEL_REQUIRED, &m->embd, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, MODEL_GLOBAL, "output_norm.weight", MODEL_REQUIRED, hp->n_embd,
            &m->output_norm, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, MODEL_GLOBAL, "rope_freqs.weight", rope_freqs, hp->rope.n_rot / 2,
            &m->rope_freqs, err);
    if (rc < 0) return rc;
    rc = model_bind_matrix(b, MODEL_GLOBAL, "output.weight", head, hp->n_embd, hp->n_vocab,
            &m->head, err);
    if (rc < 0 || m->head.bytes) return rc;

    /* Tied: the embedding rows stay in use from the mapping. */
    return take_rows(b, m->embd, 0, hp->n_vocab, false, &m->head, err);
}

struct part {
    const char *weight, *bias;
    uint32_t n;
    struct kern_mat *mat;
    const float **vector;
};

/* q, k and v as rows of one matrix. */
static int bind_fused_qkv(struct model_binder *b, uint32_t layer, const struct part *parts,
        enum model_need bias, struct err *err) {
    const uint64_t want[] = {b->model->hp.n_embd, (uint64_t)parts[0].n + parts[1].n + parts[2].n};
    const struct gguf_tensor *w = NULL, *v = NULL;

    int rc = find(b, layer, "attn_qkv.weight", MODEL_REQUIRED, want, 2, &w, err);
    if (rc < 0) return rc;
    rc = find(b, layer, "attn_qkv.bias", bias, want + 1, 1, &v, err);
    if (rc < 0) return rc;

    uint32_t row0 = 0;
    for (int i = 0; i < 3; i++) {
        rc = take_rows(b, w, row0, parts[i].n, true, parts[i].mat, err);
        if (rc < 0) return rc;
        if (v && (rc = take_floats(b, v, row0, parts[i].n, parts[i].vector, err)) < 0) return rc;
        row0 += parts[i].n;
    }
    return 0;
}

int model_bind_attn(struct model_binder *b, uint32_t layer, const struct model_attn_form *form,
        struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    struct model_attn *a = &b->model->blocks[layer].attn;
    uint32_t n_q = hp->n_head * hp->n_dim_k;
    uint32_t n_k = hp->n_head_kv * hp->n_dim_k;
    const struct part parts[] = {
            {"attn_q.weight", "attn_q.bias", n_q, &a->q, &a->q_bias},
            {"attn_k.weight", "attn_k.bias", n_k, &a->k, &a->k_bias},
            {"attn_v.weight", "attn_v.bias", hp->n_head_kv * hp->n_dim_v, &a->v, &a->v_bias},
    };

    int rc = model_bind_vector(b, layer, "attn_norm.weight", MODEL_REQUIRED, hp->n_embd, &a->norm,
            err);
    if (rc < 0) return rc;

    bool fused = model_bind_has(b, layer, "attn_qkv.weight");
    if (fused && (rc = bind_fused_qkv(b, layer, parts, form->qkv_bias, err)) < 0) return rc;
    for (size_t i = 0; !fused && i < ARRAY_LEN(parts); i++) {
        rc = model_bind_matrix(b, layer, parts[i].weight, MODEL_REQUIRED, hp->n_embd, parts[i].n,
                parts[i].mat, err);
        if (rc < 0) return rc;
        rc = model_bind_vector(b, layer, parts[i].bias, form->qkv_bias, parts[i].n, parts[i].vector,
                err);
        if (rc < 0) return rc;
    }

    uint32_t n_o = hp->n_head * hp->n_dim_v;
    rc = model_bind_matrix(b, layer, "attn_output.weight", MODEL_REQUIRED, n_o, hp->n_embd, &a->o,
            err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "attn_output.bias", form->o_bias, hp->n_embd, &a->o_bias, err);
    if (rc < 0 || form->qk_norm == MODEL_QK_NORM_NONE) return rc;

    bool whole = form->qk_norm == MODEL_QK_NORM_WHOLE;
    rc = model_bind_vector(b, layer, "attn_q_norm.weight", form->qk_norm_need,
            whole ? n_q : hp->n_dim_k, &a->q_norm, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "attn_k_norm.weight", form->qk_norm_need,
            whole ? n_k : hp->n_dim_k, &a->k_norm, err);
    a->qk_norm = a->q_norm && a->k_norm ? form->qk_norm : MODEL_QK_NORM_NONE;
    if (rc == 0 && !a->q_norm != !a->k_norm)
        rc = err_set(err, ERR_BAD_INPUT, "block %u has a norm for one of queries and keys only",
                layer);
    return rc;
}

int model_bind_dense_ffn(struct model_binder *b, uint32_t layer, enum model_need bias,
        struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    struct model_ffn *f = &b->model->blocks[layer].ffn;
    uint32_t d = hp->n_embd, n_ff = hp->n_ff;

    if (n_ff == 0)
        return err_set(err, ERR_BAD_INPUT, "block %u is dense, but feed_forward_length is missing",
                layer);
    int rc = model_bind_matrix(b, layer, "ffn_gate.weight", MODEL_REQUIRED, d, n_ff, &f->gate, err);
    if (rc < 0) return rc;
    rc = model_bind_matrix(b, layer, "ffn_up.weight", MODEL_REQUIRED, d, n_ff, &f->up, err);
    if (rc < 0) return rc;
    rc = model_bind_matrix(b, layer, "ffn_down.weight", MODEL_REQUIRED, n_ff, d, &f->down, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "ffn_gate.bias", bias, n_ff, &f->gate_bias, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "ffn_up.bias", bias, n_ff, &f->up_bias, err);
    if (rc < 0) return rc;
    return model_bind_vector(b, layer, "ffn_down.bias", bias, d, &f->down_bias, err);
}

/* Where expert 0 lies, and how far the next one is. */
static struct gguf_matrix expert_rows(const struct gguf_tensor *t, uint32_t row0) {
    uint64_t row = dtype_row_bytes(t->type, t->ne[0]);
    return (struct gguf_matrix){.type = t->type, .bytes = t->bytes + row0 * row,
            .stride = row * t->ne[1]};
}

int model_bind_experts(struct model_binder *b, uint32_t layer, enum model_need bias,
        struct err *err) {
    struct model_block *block = &b->model->blocks[layer];
    const struct model_hparams *hp = &b->model->hp;
    uint64_t n_expert = hp->router.n_expert, d = hp->n_embd, n_ff = hp->n_ff_exp;

    if (!model_bind_has(b, layer, "ffn_down_exps.weight") &&
            model_bind_has(b, layer, "ffn_down.0.weight")) {
        err_set(err, ERR_UNSUPPORTED,
                "block %u keeps every expert in a tensor of its own, as files of early 2024 do; "
                "that is not supported",
                layer);
        return err_hint(err, "get a newer GGUF file of the model, or convert it again");
    }

    block->is_moe = true;
    int rc = model_bind_matrix(b, layer, "ffn_gate_inp.weight", MODEL_REQUIRED, hp->n_embd,
            hp->router.n_expert, &block->router, err);
    if (rc < 0) return rc;

    const struct gguf_tensor *gate = NULL, *up = NULL, *down = NULL;
    bool fused = model_bind_has(b, layer, "ffn_gate_up_exps.weight");
    const uint64_t in[] = {d, fused ? 2 * n_ff : n_ff, n_expert}, out[] = {n_ff, d, n_expert};
    rc = find(b, layer, fused ? "ffn_gate_up_exps.weight" : "ffn_gate_exps.weight", MODEL_REQUIRED,
            in, 3, &gate, err);
    if (rc < 0) return rc;
    up = gate;
    if (!fused && (rc = find(b, layer, "ffn_up_exps.weight", MODEL_REQUIRED, in, 3, &up, err)) < 0)
        return rc;
    rc = find(b, layer, "ffn_down_exps.weight", MODEL_REQUIRED, out, 3, &down, err);
    if (rc < 0) return rc;

    block->experts = (struct model_experts){.layer = layer, .n_expert = hp->router.n_expert,
            .n_embd = hp->n_embd, .n_ff = hp->n_ff_exp, .glu = KERN_GLU_SILU,
            .gate = expert_rows(gate, 0), .up = expert_rows(up, fused ? hp->n_ff_exp : 0),
            .down = expert_rows(down, 0), .router = hp->router};
    return model_bind_vector(b, layer, "exp_probs_b.bias", bias, hp->router.n_expert,
            &block->experts.router.bias, err);
}

int model_bind_shexp(struct model_binder *b, uint32_t layer, bool has_gate, struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    struct model_block *block = &b->model->blocks[layer];
    struct model_ffn *f = &block->ffn;
    uint32_t d = hp->n_embd, n_ff = hp->n_ff_shexp;

    int rc = model_bind_matrix(b, layer, "ffn_gate_shexp.weight", MODEL_REQUIRED, d, n_ff, &f->gate,
            err);
    if (rc < 0) return rc;
    rc = model_bind_matrix(b, layer, "ffn_up_shexp.weight", MODEL_REQUIRED, d, n_ff, &f->up, err);
    if (rc < 0) return rc;
    rc = model_bind_matrix(b, layer, "ffn_down_shexp.weight", MODEL_REQUIRED, n_ff, d, &f->down,
            err);
    if (rc < 0 || !has_gate) return rc;
    return model_bind_matrix(b, layer, "ffn_gate_inp_shexp.weight", MODEL_REQUIRED, d, 1,
            &block->shexp_gate, err);
}

int model_bind_mtp(struct model_binder *b, uint32_t layer, struct err *err) {
    const struct model_hparams *hp = &b->model->hp;
    struct model_mtp *m = &b->model->blocks[layer].mtp;
    uint32_t d = hp->n_embd;

    int rc = model_bind_matrix(b, layer, "nextn.eh_proj.weight", MODEL_REQUIRED, 2 * d, d,
            &m->eh_proj, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "nextn.enorm.weight", MODEL_REQUIRED, d, &m->enorm, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "nextn.hnorm.weight", MODEL_REQUIRED, d, &m->hnorm, err);
    if (rc < 0) return rc;
    rc = model_bind_vector(b, layer, "nextn.shared_head_norm.weight", MODEL_OPTIONAL, d,
            &m->head_norm, err);
    if (rc < 0) return rc;
    rc = model_bind_table(b, layer, "nextn.embed_tokens.weight", MODEL_OPTIONAL, &m->embd, err);
    if (rc < 0) return rc;
    return model_bind_matrix(b, layer, "nextn.shared_head_head.weight", MODEL_OPTIONAL, d,
            hp->n_vocab, &m->head, err);
}

static int report_types(const struct model_binder *b, struct err *err) {
    char list[256] = "";
    size_t at = 0;

    for (uint32_t type = 0; type < DT_COUNT && at < sizeof list; type++) {
        if (b->n_bad_type[type] == 0) continue;
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s, used by %u tensor%s",
                at ? "; " : "", dtype_name(type), b->n_bad_type[type],
                b->n_bad_type[type] == 1 ? "" : "s");
    }
    if (at == 0) return 0;
    err_set(err, ERR_UNSUPPORTED, "tensor type not supported yet: %s", list);
    return err_hint(err, "use a file of the model in another quantisation, such as Q4_K_M or Q8_0");
}

static int by_address(const void *a, const void *b) {
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;
    return x < y ? -1 : x > y;
}

/* Tensors that nobody reads on purpose: of blocks that are not run, and of old converters. */
static bool may_be_unused(const struct model_binder *b, const char *name) {
    unsigned block = 0;
    int n = 0;
    if (sscanf(name, "blk.%9u.%n", &block, &n) == 1 && n > 0) {
        uint32_t n_bound = b->model->hp.n_layer + b->model->hp.n_mtp;
        return block >= n_bound || strcmp(name + n, "attn_rot_embd.weight") == 0;
    }
    return strcmp(name, "rope_freqs.weight") == 0;
}

/* A tensor that the architecture does not know would change the result if it were read: better to
 * refuse than to answer wrongly. */
static int report_strangers(struct model_binder *b, struct err *err) {
    qsort(b->used, b->n_used, sizeof *b->used, by_address);
    for (uint64_t i = 0; i < gguf_n_tensors(b->gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(b->gguf, i);
        if (b->n_used && bsearch(&t, b->used, b->n_used, sizeof *b->used, by_address)) continue;
        if (may_be_unused(b, t->name)) continue;
        return err_set(err, ERR_UNSUPPORTED,
                "tensor %.80s is not known for architecture %s; leaving it out would give wrong "
                "results",
                t->name, b->model->shape.architecture);
    }
    return 0;
}

int model_bind_finish(struct model_binder *b, struct err *err) {
    int rc = report_types(b, err);
    return rc < 0 ? rc : report_strangers(b, err);
}
