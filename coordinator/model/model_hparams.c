/* model_hparams.c - hyper-parameters from metadata. Owns: nothing. Does not: look at tensors,
 * except for the length of the vocabulary. Runs on: the loading thread. Nothing is believed
 * without a range; what one architecture needs beyond the common keys is in its own file. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_MAX 128

/* NextN blocks: one in every published model. */
#define N_MTP_MAX 8

static void key_name(const struct model_keys *keys, const char *suffix, char *out) {
    (void)snprintf(out, KEY_MAX, "%s.%s", keys->arch, suffix);
}

static int missing(const char *key, enum model_need need, struct err *err) {
    if (need != MODEL_REQUIRED) return 0;
    return err_set(err, ERR_BAD_INPUT, "metadata key %s is missing", key);
}

/* The common value of an array with one entry per block. */
static int uniform(const struct gguf_array *array, const char *key, uint64_t *value,
        struct err *err) {
    if (array->n == 0) return err_set(err, ERR_BAD_INPUT, "metadata key %s is an empty array", key);

    for (uint64_t i = 0; i < array->n; i++) {
        uint64_t v = 0;
        int rc = gguf_array_u64(array, i, &v, err);
        if (rc < 0) return err_note(err, "metadata key %s", key);
        if (i > 0 && v != *value)
            return err_set(err, ERR_UNSUPPORTED,
                    "metadata key %s differs from block to block (%" PRIu64 " and %" PRIu64
                    "), which is not supported yet",
                    key, *value, v);
        *value = v;
    }
    return 1;
}

int model_key_u32(const struct model_keys *keys, const char *suffix, enum model_need need,
        uint32_t min, uint32_t max, uint32_t *value, struct err *err) {
    char key[KEY_MAX];
    key_name(keys, suffix, key);

    uint64_t v = 0;
    struct gguf_array array;
    int rc = gguf_get_array(keys->gguf, key, &array, NULL) == 1
            ? uniform(&array, key, &v, err)
            : gguf_get_u64(keys->gguf, key, &v, err);
    if (rc < 0) return rc;
    if (rc == 0) return missing(key, need, err);
    if (v < min || v > max)
        return err_set(err, ERR_BAD_INPUT,
                "metadata key %s is %" PRIu64 "; %u to %u are possible", key, v, min, max);
    *value = (uint32_t)v;
    return 1;
}

int model_key_f64(const struct model_keys *keys, const char *suffix, enum model_need need,
        double min, double max, double *value, struct err *err) {
    char key[KEY_MAX];
    key_name(keys, suffix, key);

    double v = 0;
    int rc = gguf_get_f64(keys->gguf, key, &v, err);
    if (rc < 0) return rc;
    if (rc == 0) return missing(key, need, err);
    if (!(v >= min && v <= max)) /* NaN too */
        return err_set(err, ERR_BAD_INPUT, "metadata key %s is %g; %g to %g are possible", key, v,
                min, max);
    *value = v;
    return 1;
}

int model_key_bool(const struct model_keys *keys, const char *suffix, bool *value,
        struct err *err) {
    char key[KEY_MAX];
    key_name(keys, suffix, key);
    return gguf_get_bool(keys->gguf, key, value, err);
}

int model_read_architecture(const struct gguf *gguf, char *out, size_t n_out, struct err *err) {
    struct gguf_str name;
    int rc = gguf_get_str(gguf, "general.architecture", &name, err);
    if (rc < 0) return rc;
    if (rc == 0 || name.n == 0)
        return err_set(err, ERR_BAD_INPUT,
                "the file does not say its architecture (general.architecture)");

    size_t n = name.n < n_out - 1 ? name.n : n_out - 1;
    for (size_t i = 0; i < n; i++) {
        char c = name.bytes[i];
        out[i] = c > ' ' && c < 127 ? c : '?';
    }
    out[n] = 0;
    return 0;
}

/* block_count, and how many of them are NextN blocks. */
static int read_blocks(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    int rc = model_key_u32(keys, "block_count", MODEL_REQUIRED, 1, MODEL_N_BLOCK_MAX, &hp->n_block,
            err);
    if (rc < 0) return rc;

    uint32_t n_mtp_max = hp->n_block - 1 < N_MTP_MAX ? hp->n_block - 1 : N_MTP_MAX;
    rc = model_key_u32(keys, "nextn_predict_layers", MODEL_OPTIONAL, 0, n_mtp_max, &hp->n_mtp, err);
    if (rc < 0) return rc;
    hp->n_layer = hp->n_block - hp->n_mtp;

    rc = model_key_u32(keys, "leading_dense_block_count", MODEL_OPTIONAL, 0, hp->n_layer,
            &hp->n_layer_dense, err);
    return rc < 0 ? rc : 0;
}

static int read_attention(const struct model_keys *keys, struct model_hparams *hp,
        struct err *err) {
    int rc = model_key_u32(keys, "attention.head_count", MODEL_REQUIRED, 1, MODEL_N_HEAD_MAX,
            &hp->n_head, err);
    if (rc < 0) return rc;

    hp->n_head_kv = hp->n_head;
    rc = model_key_u32(keys, "attention.head_count_kv", MODEL_OPTIONAL, 1, MODEL_N_HEAD_MAX,
            &hp->n_head_kv, err);
    if (rc < 0) return rc;
    if (hp->n_head % hp->n_head_kv != 0)
        return err_set(err, ERR_BAD_INPUT,
                "%u query heads cannot share %u key/value heads evenly", hp->n_head, hp->n_head_kv);

    hp->n_dim_k = hp->n_dim_v = hp->n_embd / hp->n_head;
    int has_k = model_key_u32(keys, "attention.key_length", MODEL_OPTIONAL, 1,
            MODEL_N_DIM_HEAD_MAX, &hp->n_dim_k, err);
    if (has_k < 0) return has_k;
    int has_v = model_key_u32(keys, "attention.value_length", MODEL_OPTIONAL, 1,
            MODEL_N_DIM_HEAD_MAX, &hp->n_dim_v, err);
    if (has_v < 0) return has_v;
    if ((!has_k || !has_v) && hp->n_embd % hp->n_head != 0)
        return err_set(err, ERR_BAD_INPUT,
                "the embedding length %u cannot be divided among %u heads", hp->n_embd,
                hp->n_head);

    double eps = 0, scale = 0;
    rc = model_key_f64(keys, "attention.layer_norm_rms_epsilon", MODEL_REQUIRED, 1e-30, 1.0, &eps,
            err);
    if (rc < 0) return rc;
    rc = model_key_f64(keys, "attention.scale", MODEL_OPTIONAL, 0, 1e6, &scale, err);
    if (rc < 0) return rc;
    hp->eps = (float)eps;
    hp->attn_scale = (float)(scale > 0 ? scale : 1.0 / sqrt((double)hp->n_dim_k));
    return 0;
}

/* The router's keys. gating, renormalise and n_ff_exp are for the architecture to say. */
static int read_router(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    struct model_router *r = &hp->router;
    int rc = model_key_u32(keys, "expert_count", MODEL_OPTIONAL, 0, MODEL_N_EXPERT_MAX,
            &r->n_expert, err);
    if (rc < 0) return rc;
    if (r->n_expert == 0) return 0;

    rc = model_key_u32(keys, "expert_used_count", MODEL_REQUIRED, 1, r->n_expert, &r->n_expert_used,
            err);
    if (rc < 0) return rc;

    double scale = 0;
    rc = model_key_f64(keys, "expert_weights_scale", MODEL_OPTIONAL, 0, 1e6, &scale, err);
    if (rc < 0) return rc;
    r->scale = (float)scale;

    rc = model_key_u32(keys, "expert_group_count", MODEL_OPTIONAL, 0, MODEL_N_GROUP_MAX,
            &r->n_group, err);
    if (rc < 0) return rc;
    if (r->n_group <= 1) return 0;

    if (r->n_expert % r->n_group != 0)
        return err_set(err, ERR_BAD_INPUT, "%u experts cannot be divided into %u groups",
                r->n_expert, r->n_group);
    rc = model_key_u32(keys, "expert_group_used_count", MODEL_REQUIRED, 1, r->n_group,
            &r->n_group_used, err);
    if (rc < 0) return rc;
    if (r->n_group_used * (r->n_expert / r->n_group) < r->n_expert_used)
        return err_set(err, ERR_BAD_INPUT,
                "%u groups of %u experts cannot give the %u experts that a token uses",
                r->n_group_used, r->n_expert / r->n_group, r->n_expert_used);
    return 0;
}

int model_read_gating(const struct model_keys *keys, enum model_gating if_absent,
        enum model_gating *gating, struct err *err) {
    uint32_t value = 0;
    int rc = model_key_u32(keys, "expert_gating_func", MODEL_OPTIONAL, 0, 4, &value, err);
    if (rc < 0) return rc;
    if (value == 4)
        return err_set(err, ERR_UNSUPPORTED,
                "routing by the root of softplus (%s.expert_gating_func 4) is not supported yet",
                keys->arch);
    *gating = value ? (enum model_gating)value : if_absent;
    return 0;
}

/* The length of the token list, or what the metadata says, or 0. */
static int read_vocab(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    struct gguf_array tokens;
    int has_list = gguf_get_array(keys->gguf, "tokenizer.ggml.tokens", &tokens, err);
    if (has_list < 0) return has_list;

    int rc = model_key_u32(keys, "vocab_size", MODEL_OPTIONAL, 1, MODEL_N_VOCAB_MAX, &hp->n_vocab,
            err);
    if (rc < 0 || !has_list) return rc < 0 ? rc : 0;

    /* The list wins: vocab_size is what the original configuration said, before padding. */
    if (tokens.n == 0 || tokens.n > MODEL_N_VOCAB_MAX)
        return err_set(err, ERR_BAD_INPUT,
                "a vocabulary of %" PRIu64 " tokens; 1 to %u are possible", tokens.n, MODEL_N_VOCAB_MAX);
    hp->n_vocab = (uint32_t)tokens.n;
    return 0;
}

int model_hparams_read(const struct model_keys *keys, struct model_hparams *hp, struct err *err) {
    *hp = (struct model_hparams){0};

    int rc = read_blocks(keys, hp, err);
    if (rc < 0) return rc;
    rc = model_key_u32(keys, "context_length", MODEL_REQUIRED, 1, INT32_MAX, &hp->n_ctx_train, err);
    if (rc < 0) return rc;
    rc = model_key_u32(keys, "embedding_length", MODEL_REQUIRED, 1, MODEL_N_EMBD_MAX, &hp->n_embd,
            err);
    if (rc < 0) return rc;
    rc = model_key_u32(keys, "feed_forward_length", MODEL_OPTIONAL, 0, MODEL_N_FF_MAX, &hp->n_ff,
            err);
    if (rc < 0) return rc;

    if ((rc = read_attention(keys, hp, err)) < 0) return rc;
    if ((rc = read_router(keys, hp, err)) < 0) return rc;
    if ((rc = read_vocab(keys, hp, err)) < 0) return rc;
    return model_rope_read(keys, hp, &hp->rope, err);
}

int model_hparams_check(const struct model_hparams *hp, struct err *err) {
    const struct model_router *r = &hp->router;

    if (hp->rope.n_rot > hp->n_dim_k)
        return err_set(err, ERR_BAD_INPUT, "%u rotated elements in heads of %u", hp->rope.n_rot,
                hp->n_dim_k);
    if (r->n_expert == 0) {
        if (hp->n_ff == 0)
            return err_set(err, ERR_BAD_INPUT,
                    "the file says neither the width of the feed-forward layers "
                    "(feed_forward_length) nor a number of experts");
        return 0;
    }
    if (hp->n_ff_exp == 0)
        return err_set(err, ERR_BAD_INPUT, "the file does not say how wide an expert is");
    if (hp->n_layer_dense > 0 && hp->n_ff == 0)
        return err_set(err, ERR_BAD_INPUT,
                "%u leading blocks are dense, but feed_forward_length is missing",
                hp->n_layer_dense);
    ASSERT(r->gating != 0);
    return 0;
}
