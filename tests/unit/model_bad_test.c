/* model_bad_test.c - files that lie get an error that says what is wrong, and nothing worse. */
#include "tests/support/model_toy.h"
#include "tests/support/model_walk.h"

#include "proto/base/checked.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_TOKENS = 6, N_VOCAB = 64, N_EMBD = 32 };

/* Loads the toy as it is now. */
static int load(struct toy *toy, struct model_walk *walk, struct err *err) {
    struct gguf *gguf = toy_open(toy);
    if (!gguf) return err_set(err, ERR_BAD_INPUT, "the reader refuses the file");
    return model_walk_load(walk, gguf, kern_at(0), 1, err);
}

/* Runs a few tokens through the trunk and the MTP block; logits[2][N_TOKENS][N_VOCAB]. */
static void run(struct model_walk *walk, float *logits) {
    struct kv_shape shape;
    struct kv *kv = NULL;
    struct model_work *work = NULL;
    struct err err = ERR_INIT;
    model_kv_shape(walk->model, N_TOKENS, DT_F32, &shape);
    assert_int_equal(kv_new(&shape, &kv, &err), 0);
    assert_int_equal(model_work_new(walk->model, N_TOKENS, &work, &err), 0);

    size_t d = model_shape(walk->model)->n_embd, v = model_shape(walk->model)->n_vocab;
    int32_t tokens[N_TOKENS];
    uint32_t positions[N_TOKENS];
    struct kv *kvs[N_TOKENS];
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        tokens[i] = (int32_t)(i * 7 % v);
        positions[i] = i;
        kvs[i] = kv;
    }
    float *before = calloc((N_TOKENS + 1) * d, sizeof *before);
    float *out = calloc(2 * N_TOKENS * v, sizeof *out);
    assert_true(before && out);
    const struct model_batch batch = {N_TOKENS, tokens, positions, kvs};
    model_walk_step(walk, work, &batch, NULL, before + d, out);
    if (model_shape(walk->model)->n_mtp > 0)
        model_walk_mtp_step(walk, work, &batch, before, NULL, out + N_TOKENS * v);
    if (logits) memcpy(logits, out, 2 * N_TOKENS * v * sizeof *out);
    free(out);
    free(before);
    model_work_free(work);
    kv_free(kv);
}

/* The toy must be refused with this code and words in the message or the hint. */
static void expect_refusal(struct toy *toy, const char *what_was_done, int code,
        const char *words) {
    struct model_walk walk = {0};
    struct err err = ERR_INIT;
    int rc = load(toy, &walk, &err);
    if (rc != code) fail_msg("%s: code %d (%s), expected %d", what_was_done, rc, err.what, code);
    if (!strstr(err.what, words) && !strstr(err.hint, words))
        fail_msg("%s: \"%s\" (%s) does not say \"%s\"", what_was_done, err.what, err.hint, words);
    model_walk_close(&walk);
}

static void the_unspoilt_toy_works(void **state) {
    (void)state;
    struct toy toy;
    struct model_walk walk;
    struct err err = ERR_INIT;
    float logits[2 * N_TOKENS * N_VOCAB];
    toy_init(&toy);
    if (load(&toy, &walk, &err) < 0) fail_msg("%s", err.what);
    run(&walk, logits);
    for (size_t i = 0; i < ARRAY_LEN(logits); i++)
        assert_true(isfinite(logits[i]));
    assert_int_equal(model_shape(walk.model)->n_mtp, 1);
    assert_null(model_experts(walk.model, 0));
    assert_non_null(model_experts(walk.model, 2));
    assert_null(model_experts(walk.model, 3));
    model_walk_close(&walk);
    toy_fini(&toy);
}

static void each_missing_tensor_is_named(void **state) {
    (void)state;
    static const char *const optional[] = {"output.weight", "attn_q.bias", "attn_k.bias",
            "attn_v.bias", "nextn.eh_proj.weight"};
    struct toy toy;
    toy_init(&toy);
    uint32_t n = toy.n_tensors;
    toy_fini(&toy);

    for (uint32_t i = 0; i < n; i++) {
        toy_init(&toy);
        char name[64];
        (void)snprintf(name, sizeof name, "%s", toy.tensors[i].name);
        bool may_miss = false;
        for (size_t j = 0; j < ARRAY_LEN(optional); j++)
            may_miss = may_miss || strstr(name, optional[j]);
        toy_drop_tensor(&toy, name);
        if (may_miss && !strstr(name, "attn_output")) {
            struct model_walk walk = {0};
            struct err err = ERR_INIT;
            if (load(&toy, &walk, &err) < 0) fail_msg("without %s: %s", name, err.what);
            run(&walk, NULL);
            model_walk_close(&walk);
        } else {
            bool only_mtp = strcmp(name, "blk.0.attn_norm.weight") == 0;
            expect_refusal(&toy, name, only_mtp ? ERR_UNSUPPORTED : ERR_BAD_INPUT,
                    only_mtp ? "NextN" : name);
        }
        toy_fini(&toy);
    }
}

static void each_misshapen_tensor_is_named(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    uint32_t n = toy.n_tensors;
    toy_fini(&toy);

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t dim = 0; dim < 3; dim++) {
            toy_init(&toy);
            struct toy_tensor *t = &toy.tensors[i];
            free(t->content);
            t->content = NULL;
            if (dim >= t->n_dims) t->n_dims = dim + 1;
            t->ne[dim]++;
            expect_refusal(&toy, t->name, ERR_BAD_INPUT, t->name);
            toy_fini(&toy);
        }
}

struct absurd {
    const char *key;
    double value;
    int code;
    const char *words;
};

static void absurd_numbers_are_refused(void **state) {
    (void)state;
    static const struct absurd cases[] = {
            {"block_count", 0, ERR_BAD_INPUT, "block_count is 0"},
            {"block_count", 1e9, ERR_BAD_INPUT, "block_count"},
            {"block_count", 5, ERR_BAD_INPUT, "missing"},
            {"nextn_predict_layers", 3, ERR_BAD_INPUT, "nextn_predict_layers is 3"},
            {"leading_dense_block_count", 3, ERR_BAD_INPUT, "leading_dense_block_count"},
            {"leading_dense_block_count", 0, ERR_BAD_INPUT, "blk.0.ffn_gate_inp"},
            {"context_length", 0, ERR_BAD_INPUT, "context_length"},
            {"context_length", 1e18, ERR_BAD_INPUT, "context_length"},
            {"embedding_length", 0, ERR_BAD_INPUT, "embedding_length"},
            {"embedding_length", 64, ERR_BAD_INPUT, "token_embd.weight has the shape [32, 64]"},
            {"embedding_length", 1e12, ERR_BAD_INPUT, "embedding_length"},
            {"feed_forward_length", 0, ERR_BAD_INPUT, "feed_forward_length"},
            {"feed_forward_length", 1e15, ERR_BAD_INPUT, "feed_forward_length"},
            {"attention.head_count", 0, ERR_BAD_INPUT, "head_count is 0"},
            {"attention.head_count", 1e10, ERR_BAD_INPUT, "head_count"},
            {"attention.head_count_kv", 0, ERR_BAD_INPUT, "head_count_kv is 0"},
            {"attention.head_count_kv", 3, ERR_BAD_INPUT, "2 query heads"},
            {"attention.head_count_kv", 2, ERR_BAD_INPUT, "attn_k.weight"},
            {"attention.key_length", 0, ERR_BAD_INPUT, "key_length"},
            {"attention.key_length", 1e9, ERR_BAD_INPUT, "key_length"},
            {"attention.layer_norm_rms_epsilon", 0, ERR_BAD_INPUT, "epsilon is 0"},
            {"attention.layer_norm_rms_epsilon", NAN, ERR_BAD_INPUT, "epsilon is"},
            {"attention.layer_norm_rms_epsilon", INFINITY, ERR_BAD_INPUT, "epsilon is inf"},
            {"attention.layer_norm_rms_epsilon", -1, ERR_BAD_INPUT, "epsilon is -1"},
            {"rope.dimension_count", 0, ERR_BAD_INPUT, "dimension_count"},
            {"rope.dimension_count", 7, ERR_BAD_INPUT, "7 rotated"},
            {"rope.dimension_count", 18, ERR_BAD_INPUT, "18 rotated"},
            {"rope.freq_base", 0, ERR_BAD_INPUT, "freq_base"},
            {"rope.freq_base", -INFINITY, ERR_BAD_INPUT, "freq_base"},
            {"rope.freq_base", NAN, ERR_BAD_INPUT, "freq_base"},
            {"vocab_size", 63, ERR_BAD_INPUT, "token_embd.weight"},
            {"vocab_size", 1e15, ERR_BAD_INPUT, "vocab_size"},
            {"expert_count", 0, ERR_BAD_INPUT, "expert_count"},
            {"expert_count", 1152921504606846976.0, ERR_BAD_INPUT, "expert_count"},
            {"expert_count", 3, ERR_BAD_INPUT, "ffn_gate_inp"},
            {"expert_used_count", 0, ERR_BAD_INPUT, "expert_used_count"},
            {"expert_used_count", 5, ERR_BAD_INPUT, "expert_used_count is 5"},
            {"expert_feed_forward_length", 0, ERR_BAD_INPUT, "expert_feed_forward_length"},
            {"expert_feed_forward_length", 33, ERR_BAD_INPUT, "ffn_gate_exps"},
            {"expert_shared_count", 1e6, ERR_BAD_INPUT, "expert_shared_count"},
            {"expert_shared_count", 0, ERR_UNSUPPORTED, "shexp"},
            {"expert_shared_count", 2, ERR_BAD_INPUT, "shexp"},
            {"expert_gating_func", 4, ERR_UNSUPPORTED, "softplus"},
            {"expert_gating_func", 5, ERR_BAD_INPUT, "expert_gating_func"},
            {"expert_weights_scale", NAN, ERR_BAD_INPUT, "expert_weights_scale"},
            {"expert_weights_scale", -2, ERR_BAD_INPUT, "expert_weights_scale"},
            {"expert_group_count", 3, ERR_BAD_INPUT, "4 experts cannot be divided into 3"},
            {"expert_group_count", 2, ERR_BAD_INPUT, "expert_group_used_count is missing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct toy toy;
        char label[128];
        toy_init(&toy);
        toy_set(&toy, cases[i].key, cases[i].value);
        (void)snprintf(label, sizeof label, "%s = %g", cases[i].key, cases[i].value);
        expect_refusal(&toy, label, cases[i].code, cases[i].words);
        toy_fini(&toy);
    }
}

static void required_keys_are_named(void **state) {
    (void)state;
    static const char *const keys[] = {"block_count", "context_length", "embedding_length",
            "attention.head_count", "attention.layer_norm_rms_epsilon", "expert_used_count",
            "expert_feed_forward_length", "expert_shared_count"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct toy toy;
        toy_init(&toy);
        toy_drop_key(&toy, keys[i]);
        expect_refusal(&toy, keys[i], ERR_BAD_INPUT, keys[i]);
        toy_fini(&toy);
    }
}

/* Every key with every odd value and of every odd type: loads and runs, or is refused. */
static void no_value_of_any_key_does_harm(void **state) {
    (void)state;
    static const double values[] = {0, 1, 2, 3, 5, 8, 17, 255, 65536, 2147483647, 2147483648.0,
            4294967295.0, 4294967296.0, 1.8e19, NAN};
    struct toy toy;
    toy_init(&toy);
    uint32_t n = toy.n_keys;
    toy_fini(&toy);
    uint32_t n_loaded = 0;

    for (uint32_t key = 0; key < n; key++)
        for (size_t i = 0; i < ARRAY_LEN(values); i++)
            for (enum gguf_type type = GGUF_U32; type <= GGUF_ARRAY; type++) {
                toy_init(&toy);
                struct toy_key *k = &toy.keys[key];
                if (type != GGUF_U32 && type != GGUF_F32 && type != GGUF_BOOL && type < GGUF_STRING)
                    goto next;
                if (type == GGUF_U32 && isnan(values[i])) goto next;
                k->type = type;
                k->value = values[i];
                k->n_array = (uint32_t)(i % 4);
                for (uint32_t j = 0; j < k->n_array; j++)
                    k->array[j] = i % 2 ? 1 : j + 1;

                struct model_walk walk = {0};
                struct err err = ERR_INIT;
                if (load(&toy, &walk, &err) == 0) {
                    run(&walk, NULL);
                    n_loaded++;
                } else {
                    assert_true(err.what[0] != 0);
                }
                model_walk_close(&walk);
            next:
                toy_fini(&toy);
            }
    assert_true(n_loaded > 0);
}

static void per_block_arrays_are_accepted_when_all_entries_are_equal(void **state) {
    (void)state;
    struct toy toy;
    struct model_walk walk = {0};
    struct err err = ERR_INIT;
    toy_init(&toy);
    struct toy_key *k = toy_key(&toy, "attention.head_count_kv");
    k->type = GGUF_ARRAY;
    k->n_array = 3;
    k->array[0] = k->array[1] = k->array[2] = 1;
    if (load(&toy, &walk, &err) < 0) fail_msg("%s", err.what);
    model_walk_close(&walk);

    k->array[2] = 2;
    expect_refusal(&toy, "unequal entries", ERR_UNSUPPORTED, "not supported yet");
    toy_fini(&toy);
}

static void types_that_cannot_be_computed_are_counted(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    static const char *const names[] = {"blk.0.ffn_down.weight", "blk.1.ffn_down_exps.weight",
            "blk.2.nextn.eh_proj.weight"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct toy_tensor *t = toy_tensor(&toy, names[i]);
        free(t->content);
        t->content = NULL;
        t->type = i < 2 ? DT_I16 : DT_F64;
    }
    expect_refusal(&toy, "integer weights", ERR_UNSUPPORTED,
            "not supported yet: I16, used by 2 tensors; F64, used by 1 tensor");
    toy_fini(&toy);
}

static void unknown_architectures_get_the_list_of_known_ones(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    (void)snprintf(toy_key(&toy, "general.architecture")->text, 32, "stable\n\033[31mmodel");
    expect_refusal(&toy, "architecture", ERR_UNSUPPORTED, "stable??[31mmodel is not supported");
    expect_refusal(&toy, "architecture", ERR_UNSUPPORTED, "llama, qwen2, qwen2moe");
    toy_drop_key(&toy, "general.architecture");
    expect_refusal(&toy, "no architecture", ERR_BAD_INPUT, "general.architecture");
    toy_fini(&toy);
}

static void tensors_nobody_knows_are_refused(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    (void)toy_add(&toy, "blk.1.ffn_gate_exps.scale", 1, 4, 1, 1, NULL);
    expect_refusal(&toy, "a scale", ERR_UNSUPPORTED, "blk.1.ffn_gate_exps.scale");
    toy_drop_tensor(&toy, "blk.1.ffn_gate_exps.scale");
    (void)toy_add(&toy, "blk.0.attn_rot_embd.weight", 1, 4, 1, 1, NULL);
    struct model_walk walk = {0};
    struct err err = ERR_INIT;
    if (load(&toy, &walk, &err) < 0) fail_msg("%s", err.what);
    model_walk_close(&walk);
    toy_fini(&toy);
}

static void one_tensor_for_each_expert_is_refused(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    toy_drop_tensor(&toy, "blk.1.ffn_down_exps.weight");
    (void)toy_add(&toy, "blk.1.ffn_down.0.weight", 2, 32, 32, 1, NULL);
    expect_refusal(&toy, "old experts", ERR_UNSUPPORTED, "newer GGUF");
    toy_fini(&toy);
}

static void the_token_list_must_match_the_embeddings(void **state) {
    (void)state;
    struct toy toy;
    toy_init(&toy);
    toy_set(&toy, "tokenizer.ggml.tokens", 0);
    struct toy_key *k = toy_key(&toy, "tokenizer.ggml.tokens");
    k->type = GGUF_ARRAY;
    k->n_array = 5;
    expect_refusal(&toy, "five tokens", ERR_BAD_INPUT, "[32, 5]");
    k->n_array = 0;
    expect_refusal(&toy, "no tokens", ERR_BAD_INPUT, "vocabulary of 0");
    toy_fini(&toy);
}

/* ---- fused forms ---- */

/* Rows of several tensors one after the other, for each of n_expert slices. */
static void fuse(struct toy *toy, const char *const *parts, size_t n_parts, uint32_t n_dims,
        uint64_t n_slices, const char *name) {
    uint64_t ne0 = toy_tensor(toy, parts[0])->ne[0], n_rows = 0;
    if (n_dims == 1) ne0 = 1;
    for (size_t i = 0; i < n_parts; i++)
        n_rows += toy_tensor(toy, parts[i])->ne[n_dims == 1 ? 0 : 1];
    float *all = malloc(ne0 * n_rows * n_slices * sizeof *all);
    assert_non_null(all);
    float *to = all;
    for (uint64_t slice = 0; slice < n_slices; slice++)
        for (size_t i = 0; i < n_parts; i++) {
            const struct toy_tensor *t = toy_tensor(toy, parts[i]);
            uint64_t n = ne0 * t->ne[n_dims == 1 ? 0 : 1];
            memcpy(to, t->content + slice * n, n * sizeof *to);
            to += n;
        }
    for (size_t i = 0; i < n_parts; i++)
        toy_drop_tensor(toy, parts[i]);
    (void)toy_add(toy, name, n_dims, n_dims == 1 ? n_rows : ne0, n_rows, n_slices, all);
    free(all);
}

static void fused_tensors_give_the_same_bits(void **state) {
    (void)state;
    struct toy toy;
    struct model_walk walk = {0};
    struct err err = ERR_INIT;
    static float plain[2 * N_TOKENS * N_VOCAB], fused[2 * N_TOKENS * N_VOCAB];
    toy_init(&toy);
    assert_int_equal(load(&toy, &walk, &err), 0);
    run(&walk, plain);
    model_walk_close(&walk);

    static const char *const qkv[] = {
            "blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"};
    static const char *const bias[] = {
            "blk.1.attn_q.bias", "blk.1.attn_k.bias", "blk.1.attn_v.bias"};
    static const char *const exps[] = {"blk.2.ffn_gate_exps.weight", "blk.2.ffn_up_exps.weight"};
    fuse(&toy, qkv, 3, 2, 1, "blk.1.attn_qkv.weight");
    fuse(&toy, bias, 3, 1, 1, "blk.1.attn_qkv.bias");
    fuse(&toy, exps, 2, 3, 4, "blk.2.ffn_gate_up_exps.weight");
    if (load(&toy, &walk, &err) < 0) fail_msg("%s", err.what);
    run(&walk, fused);
    assert_memory_equal(plain, fused, sizeof plain);
    model_walk_close(&walk);
    toy_fini(&toy);
}

/* ---- summaries ---- */

static void a_summary_counts_layers_experts_and_bytes(void **state) {
    (void)state;
    struct toy toy;
    struct model_summary s;
    struct err err = ERR_INIT;
    toy_init(&toy);
    struct gguf *gguf = toy_open(&toy);
    assert_non_null(gguf);
    assert_int_equal(model_summarise(gguf, &s, &err), 0);
    assert_true(s.supported);
    assert_string_equal(s.shape.architecture, "glm4moe");
    assert_int_equal(s.shape.n_layer, 2);
    assert_int_equal(s.shape.n_mtp, 1);
    assert_int_equal(s.n_moe_layers, 1);
    assert_int_equal(s.expert_bytes, 3 * 32 * 32 * 4);
    assert_int_equal(s.experts_bytes, 2 * 4 * 3 * 32 * 32 * 4);

    uint64_t n = 0, n_mtp = 0;
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        n += t->n_bytes / 4;
        if (strncmp(t->name, "blk.2.", 6) == 0) n_mtp += t->n_bytes / 4;
    }
    assert_int_equal(s.n_parameters, n);
    assert_int_equal(s.n_parameters_active, n - n_mtp - 2 * 3 * 32 * 32);
    assert_int_equal(s.other_bytes, n * 4 - s.experts_bytes);
    gguf_free(gguf);
    toy_fini(&toy);
}

static void a_summary_says_why_a_file_is_not_supported(void **state) {
    (void)state;
    struct toy toy;
    struct model_summary s;
    struct err err = ERR_INIT;
    toy_init(&toy);
    (void)snprintf(toy_key(&toy, "general.architecture")->text, 32, "glm9");
    for (uint32_t i = 0; i < toy.n_keys; i++) {
        char old[64];
        memcpy(old, toy.keys[i].name, sizeof old);
        if (strncmp(old, "glm4moe", 7) == 0)
            (void)snprintf(toy.keys[i].name, sizeof toy.keys[i].name, "glm9%s", old + 7);
    }
    struct gguf *gguf = toy_open(&toy);
    assert_non_null(gguf);
    assert_int_equal(model_summarise(gguf, &s, &err), 0);
    assert_false(s.supported);
    assert_non_null(strstr(s.reason, "glm9 is not supported yet; supported are: llama"));
    assert_int_equal(s.shape.n_layer, 2);
    assert_int_equal(s.shape.n_expert, 4);
    assert_int_equal(s.n_moe_layers, 1);
    gguf_free(gguf);

    toy_drop_key(&toy, "general.architecture");
    gguf = toy_open(&toy);
    assert_non_null(gguf);
    assert_int_equal(model_summarise(gguf, &s, &err), ERR_BAD_INPUT);
    gguf_free(gguf);
    toy_fini(&toy);
}

static void summaries_of_all_tiny_models_are_sound(void **state) {
    (void)state;
    static const char *const others[] = {"deepseek2", "gpt-oss-mxfp4", "qwen35moe", "gemma4",
            "granitemoe", "minimax-m2", "glm4moe-q4k"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char path[1024];
        struct gguf *gguf = NULL;
        struct model_summary s;
        struct err err = ERR_INIT;
        const char *shared = getenv("POTLUCK_SHARED");
        (void)snprintf(path, sizeof path, "%s/models/tiny/%s.gguf", shared ? shared : "../shared",
                others[i]);
        if (gguf_open(path, &gguf, &err) < 0) fail_msg("%s", err.what);
        assert_int_equal(model_summarise(gguf, &s, &err), 0);
        assert_true(s.supported == (s.reason[0] == 0));
        assert_in_range(s.shape.n_layer, 1, 8);
        assert_in_range(s.n_moe_layers, 1, s.shape.n_layer);
        assert_true(s.expert_bytes > 0 && s.experts_bytes > s.expert_bytes);
        assert_true(s.n_parameters_active < s.n_parameters);
        gguf_free(gguf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_unspoilt_toy_works),
            cmocka_unit_test(each_missing_tensor_is_named),
            cmocka_unit_test(each_misshapen_tensor_is_named),
            cmocka_unit_test(absurd_numbers_are_refused),
            cmocka_unit_test(required_keys_are_named),
            cmocka_unit_test(no_value_of_any_key_does_harm),
            cmocka_unit_test(per_block_arrays_are_accepted_when_all_entries_are_equal),
            cmocka_unit_test(types_that_cannot_be_computed_are_counted),
            cmocka_unit_test(unknown_architectures_get_the_list_of_known_ones),
            cmocka_unit_test(tensors_nobody_knows_are_refused),
            cmocka_unit_test(one_tensor_for_each_expert_is_refused),
            cmocka_unit_test(the_token_list_must_match_the_embeddings),
            cmocka_unit_test(fused_tensors_give_the_same_bits),
            cmocka_unit_test(a_summary_counts_layers_experts_and_bytes),
            cmocka_unit_test(a_summary_says_why_a_file_is_not_supported),
            cmocka_unit_test(summaries_of_all_tiny_models_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
