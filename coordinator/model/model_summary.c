/* model_summary.c - what can be said of a model file without loading it. Owns: nothing. Does
 * not: need the architecture to be supported: sizes come from the tensors' names and from keys
 * that all architectures share. Runs on: any thread. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one block's routed experts hold. */
struct block_sums {
    uint64_t bytes;
    uint64_t n_elements;
};

struct sums {
    struct block_sums blocks[MODEL_N_BLOCK_MAX];
    uint64_t n_elements;     /* all tensors */
    uint64_t n_elements_mtp; /* blocks after the trunk */
    uint64_t bytes;
};

static uint64_t n_elements(const struct gguf_tensor *t) {
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; /* fits: gguf_open() checked the bytes */
}

/* The block of a tensor, or MODEL_GLOBAL; *rest is the name behind "blk.N.". */
static uint32_t block_of(const char *name, const char **rest) {
    *rest = name;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') return MODEL_GLOBAL;
    char *end = NULL;
    unsigned long block = strtoul(name + 4, &end, 10);
    if (*end != '.' || block >= MODEL_N_BLOCK_MAX) return MODEL_GLOBAL;
    *rest = end + 1;
    return (uint32_t)block;
}

/* Weights of routed experts: all in one tensor, or (old files) one tensor for each. */
static bool is_expert(const char *rest) {
    if (strstr(rest, "_exps.")) return true;
    static const char *const old[] = {"ffn_gate.", "ffn_up.", "ffn_down."};
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        size_t n = strlen(old[i]);
        if (strncmp(rest, old[i], n) == 0 && rest[n] >= '0' && rest[n] <= '9') return true;
    }
    return false;
}

static void add_up(const struct gguf *gguf, uint32_t n_layer, struct sums *s) {
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        const char *rest = NULL;
        uint32_t block = block_of(t->name, &rest);
        bool is_mtp = block != MODEL_GLOBAL && block >= n_layer;

        s->bytes += t->n_bytes;
        s->n_elements += n_elements(t);
        if (is_mtp) s->n_elements_mtp += n_elements(t);
        if (block == MODEL_GLOBAL || !is_expert(rest)) continue;
        s->blocks[block].bytes += t->n_bytes;
        s->blocks[block].n_elements += n_elements(t);
    }
}

static void fill_sizes(const struct sums *s, struct model_summary *out) {
    const struct model_shape *shape = &out->shape;
    uint64_t unused = 0;

    for (uint32_t i = 0; i < MODEL_N_BLOCK_MAX; i++) {
        const struct block_sums *b = &s->blocks[i];
        if (b->bytes == 0) continue;
        out->experts_bytes += b->bytes;
        if (shape->n_expert > 0)
            out->expert_bytes = max_u64(out->expert_bytes, b->bytes / shape->n_expert);
        if (i >= shape->n_layer) continue;
        out->n_moe_layers++;
        if (shape->n_expert > 0)
            unused += b->n_elements / shape->n_expert * (shape->n_expert - shape->n_expert_used);
    }
    out->n_parameters = s->n_elements;
    out->n_parameters_active = s->n_elements - s->n_elements_mtp - unused;
    out->other_bytes = s->bytes - out->experts_bytes;
}

/* The usual keys, each where it is there and plausible. */
static void read_usual_keys(const struct model_keys *keys, struct model_shape *s) {
    uint32_t n_block = 0;
    (void)model_key_u32(keys, "block_count", MODEL_OPTIONAL, 1, MODEL_N_BLOCK_MAX, &n_block, NULL);
    (void)model_key_u32(keys, "nextn_predict_layers", MODEL_OPTIONAL, 0, n_block, &s->n_mtp, NULL);
    s->n_layer = n_block - s->n_mtp;
    (void)model_key_u32(keys, "context_length", MODEL_OPTIONAL, 1, INT32_MAX, &s->n_ctx_train,
            NULL);
    (void)model_key_u32(keys, "embedding_length", MODEL_OPTIONAL, 1, MODEL_N_EMBD_MAX, &s->n_embd,
            NULL);
    (void)model_key_u32(keys, "attention.head_count", MODEL_OPTIONAL, 1, MODEL_N_HEAD_MAX,
            &s->n_head, NULL);
    s->n_head_kv = s->n_head;
    (void)model_key_u32(keys, "attention.head_count_kv", MODEL_OPTIONAL, 1, MODEL_N_HEAD_MAX,
            &s->n_head_kv, NULL);
    s->n_dim_k = s->n_dim_v = s->n_head ? s->n_embd / s->n_head : 0;
    (void)model_key_u32(keys, "attention.key_length", MODEL_OPTIONAL, 1, MODEL_N_DIM_HEAD_MAX,
            &s->n_dim_k, NULL);
    (void)model_key_u32(keys, "attention.value_length", MODEL_OPTIONAL, 1, MODEL_N_DIM_HEAD_MAX,
            &s->n_dim_v, NULL);
    (void)model_key_u32(keys, "expert_count", MODEL_OPTIONAL, 0, MODEL_N_EXPERT_MAX, &s->n_expert,
            NULL);
    (void)model_key_u32(keys, "expert_used_count", MODEL_OPTIONAL, 0, s->n_expert,
            &s->n_expert_used, NULL);

    struct gguf_array tokens;
    const struct gguf_tensor *embd = gguf_find_tensor(keys->gguf, "token_embd.weight");
    if (gguf_get_array(keys->gguf, "tokenizer.ggml.tokens", &tokens, NULL) == 1)
        s->n_vocab = (uint32_t)min_u64(tokens.n, MODEL_N_VOCAB_MAX);
    else if (embd)
        s->n_vocab = (uint32_t)min_u64(embd->ne[1], MODEL_N_VOCAB_MAX);
}

/* Tries to bind all without copying anything; the reason why not is the error's text. */
static int try_binding(const struct gguf *gguf, struct model_summary *out, struct err *err) {
    struct model_binder b = {0};
    struct model *m = NULL;
    struct err why = ERR_INIT;

    int rc = model_prepare(gguf, true, &b, &m, &why);
    if (rc == 0) out->shape = m->shape;
    model_binder_fini(&b);
    model_free(m);
    if (rc == ERR_NO_MEMORY) return err_set(err, ERR_NO_MEMORY, "%s", why.what);

    out->supported = rc == 0;
    if (rc < 0)
        (void)snprintf(out->reason, sizeof out->reason, "%.240s%s%.240s", why.what,
                why.hint[0] ? "; " : "", why.hint);
    return 0;
}

int model_summarise(const struct gguf *gguf, struct model_summary *out_summary, struct err *err) {
    struct model_summary s = {0};
    int rc = model_read_architecture(gguf, s.shape.architecture, sizeof s.shape.architecture, err);
    if (rc < 0) return rc;

    const struct model_keys keys = {gguf, s.shape.architecture};
    read_usual_keys(&keys, &s.shape);
    if ((rc = try_binding(gguf, &s, err)) < 0) return rc;

    struct sums *sums = calloc(1, sizeof *sums);
    if (!sums) return err_set(err, ERR_NO_MEMORY, "no memory for a summary");
    add_up(gguf, s.shape.n_layer ? s.shape.n_layer : MODEL_N_BLOCK_MAX, sums);
    fill_sizes(sums, &s);
    free(sums);
    *out_summary = s;
    return 0;
}
