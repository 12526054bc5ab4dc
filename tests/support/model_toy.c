/* model_toy.c - the toy model. Owns: its content. Does not: check what tests do to it. Runs on: a
 * test. */
#include "tests/support/model_toy.h"

#include "proto/base/rng.h"
#include "tests/support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t n_elements(const struct toy_tensor *t) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        n *= t->ne[i];
    return n;
}

struct toy_tensor *toy_add(struct toy *toy, const char *name, uint32_t n_dims, uint64_t ne0,
        uint64_t ne1, uint64_t ne2, const float *content) {
    ASSERT(toy->n_tensors < TOY_LIST_MAX);
    struct toy_tensor *t = &toy->tensors[toy->n_tensors++];
    *t = (struct toy_tensor){.type = DT_F32, .n_dims = n_dims, .ne = {ne0, ne1, ne2, 1}};
    (void)snprintf(t->name, sizeof t->name, "%s", name);

    uint64_t n = n_elements(t), seed = 1;
    t->content = malloc(n * sizeof *t->content);
    ASSERT(t->content);
    for (const char *c = name; *c; c++)
        seed = seed * 131 + (unsigned char)*c;
    struct rng rng;
    rng_init(&rng, seed);
    bool is_norm = strstr(name, "norm") != NULL;
    for (uint64_t i = 0; i < n; i++)
        t->content[i] = content ? content[i]
                                : (float)(rng_unit(&rng) - 0.5) * 0.6f + (is_norm ? 1.0f : 0.0f);
    return t;
}

static struct toy_key *add_key(struct toy *toy, const char *name, enum gguf_type type) {
    ASSERT(toy->n_keys < TOY_LIST_MAX);
    struct toy_key *k = &toy->keys[toy->n_keys++];
    *k = (struct toy_key){.type = type};
    bool whole = strncmp(name, "general.", 8) == 0 || strncmp(name, "tokenizer.", 10) == 0;
    (void)snprintf(k->name, sizeof k->name, "%s%s", whole ? "" : "glm4moe.", name);
    return k;
}

struct toy_key *toy_key(struct toy *toy, const char *name) {
    char full[64];
    (void)snprintf(full, sizeof full, "glm4moe.%s", name);
    for (uint32_t i = 0; i < toy->n_keys; i++)
        if (strcmp(toy->keys[i].name, name) == 0 || strcmp(toy->keys[i].name, full) == 0)
            return &toy->keys[i];
    return NULL;
}

struct toy_tensor *toy_tensor(struct toy *toy, const char *name) {
    for (uint32_t i = 0; i < toy->n_tensors; i++)
        if (strcmp(toy->tensors[i].name, name) == 0) return &toy->tensors[i];
    return NULL;
}

void toy_set(struct toy *toy, const char *name, double value) {
    struct toy_key *k = toy_key(toy, name);
    if (!k) k = add_key(toy, name, GGUF_U32);
    k->value = value;
}

void toy_drop_key(struct toy *toy, const char *name) {
    struct toy_key *k = toy_key(toy, name);
    ASSERT(k);
    *k = toy->keys[--toy->n_keys];
}

void toy_drop_tensor(struct toy *toy, const char *name) {
    struct toy_tensor *t = toy_tensor(toy, name);
    ASSERT(t);
    free(t->content);
    *t = toy->tensors[--toy->n_tensors];
}

static void add_in_block(struct toy *toy, int block, const char *name, uint32_t n_dims,
        uint64_t ne0, uint64_t ne1, uint64_t ne2) {
    char full[64];
    (void)snprintf(full, sizeof full, "blk.%d.%s", block, name);
    (void)toy_add(toy, full, n_dims, ne0, ne1, ne2, NULL);
}

static void add_block(struct toy *toy, int block) {
    add_in_block(toy, block, "attn_norm.weight", 1, 32, 1, 1);
    add_in_block(toy, block, "post_attention_norm.weight", 1, 32, 1, 1);
    add_in_block(toy, block, "attn_q.weight", 2, 32, 32, 1);
    add_in_block(toy, block, "attn_q.bias", 1, 32, 1, 1);
    add_in_block(toy, block, "attn_k.weight", 2, 32, 16, 1);
    add_in_block(toy, block, "attn_k.bias", 1, 16, 1, 1);
    add_in_block(toy, block, "attn_v.weight", 2, 32, 16, 1);
    add_in_block(toy, block, "attn_v.bias", 1, 16, 1, 1);
    add_in_block(toy, block, "attn_output.weight", 2, 32, 32, 1);
    if (block == 0) {
        add_in_block(toy, block, "ffn_gate.weight", 2, 32, 64, 1);
        add_in_block(toy, block, "ffn_up.weight", 2, 32, 64, 1);
        add_in_block(toy, block, "ffn_down.weight", 2, 64, 32, 1);
        return;
    }
    add_in_block(toy, block, "ffn_gate_inp.weight", 2, 32, 4, 1);
    add_in_block(toy, block, "exp_probs_b.bias", 1, 4, 1, 1);
    add_in_block(toy, block, "ffn_gate_exps.weight", 3, 32, 32, 4);
    add_in_block(toy, block, "ffn_up_exps.weight", 3, 32, 32, 4);
    add_in_block(toy, block, "ffn_down_exps.weight", 3, 32, 32, 4);
    add_in_block(toy, block, "ffn_gate_shexp.weight", 2, 32, 32, 1);
    add_in_block(toy, block, "ffn_up_shexp.weight", 2, 32, 32, 1);
    add_in_block(toy, block, "ffn_down_shexp.weight", 2, 32, 32, 1);
}

void toy_init(struct toy *toy) {
    static const struct {
        const char *name;
        double value;
    } numbers[] = {{"block_count", 3}, {"context_length", 64}, {"embedding_length", 32},
            {"feed_forward_length", 64}, {"attention.head_count", 2},
            {"attention.head_count_kv", 1}, {"attention.key_length", 16},
            {"attention.value_length", 16}, {"rope.dimension_count", 8}, {"vocab_size", 64},
            {"expert_count", 4}, {"expert_used_count", 2}, {"expert_feed_forward_length", 32},
            {"expert_shared_count", 1}, {"leading_dense_block_count", 1},
            {"expert_gating_func", 2}, {"nextn_predict_layers", 1}};

    *toy = (struct toy){0};
    struct toy_key *arch = add_key(toy, "general.architecture", GGUF_STRING);
    (void)snprintf(arch->text, sizeof arch->text, "glm4moe");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        add_key(toy, numbers[i].name, GGUF_U32)->value = numbers[i].value;
    add_key(toy, "attention.layer_norm_rms_epsilon", GGUF_F32)->value = 1e-5;
    add_key(toy, "rope.freq_base", GGUF_F32)->value = 10000;
    add_key(toy, "expert_weights_scale", GGUF_F32)->value = 1.5;
    add_key(toy, "expert_weights_norm", GGUF_BOOL)->value = 1;

    (void)toy_add(toy, "token_embd.weight", 2, 32, 64, 1, NULL);
    (void)toy_add(toy, "output_norm.weight", 1, 32, 1, 1, NULL);
    (void)toy_add(toy, "output.weight", 2, 32, 64, 1, NULL);
    for (int block = 0; block < 3; block++)
        add_block(toy, block);
    add_in_block(toy, 2, "nextn.eh_proj.weight", 2, 64, 32, 1);
    add_in_block(toy, 2, "nextn.enorm.weight", 1, 32, 1, 1);
    add_in_block(toy, 2, "nextn.hnorm.weight", 1, 32, 1, 1);
}

void toy_fini(struct toy *toy) {
    for (uint32_t i = 0; i < toy->n_tensors; i++)
        free(toy->tensors[i].content);
    buf_fini(&toy->bytes);
    *toy = (struct toy){0};
}

static void write_key(struct gguf_writer *w, const struct toy_key *k) {
    switch (k->type) {
    case GGUF_U32:
        gguf_writer_u64(w, k->name, (uint64_t)k->value); /* any width is allowed */
        break;
    case GGUF_F32:
        gguf_writer_f32(w, k->name, (float)k->value);
        break;
    case GGUF_BOOL:
        gguf_writer_bool(w, k->name, k->value != 0);
        break;
    case GGUF_ARRAY:
        gguf_writer_array(w, k->name, GGUF_U32, k->n_array, k->array);
        break;
    default:
        gguf_writer_str(w, k->name, k->text);
    }
}

struct gguf *toy_open(struct toy *toy) {
    struct gguf_writer w;
    gguf_writer_begin(&w);
    for (uint32_t i = 0; i < toy->n_keys; i++)
        write_key(&w, &toy->keys[i]);
    for (uint32_t i = 0; i < toy->n_tensors; i++) {
        const struct toy_tensor *t = &toy->tensors[i];
        gguf_writer_tensor(&w, t->name, t->type, t->n_dims, t->ne, t->content);
    }
    buf_reset(&toy->bytes);
    struct err err = ERR_INIT;
    int rc = gguf_writer_finish(&w, &toy->bytes, &err);
    gguf_writer_fini(&w);
    ASSERT(rc == 0);

    struct gguf *gguf = NULL;
    return gguf_open_bytes(toy->bytes.bytes, toy->bytes.n_bytes, &gguf, &err) == 0 ? gguf : NULL;
}
