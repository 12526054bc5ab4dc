/* make_model.c - writes a model of random weights with a real model's shape, for measuring speed and
 * memory: the text it makes means nothing, the work is that of the real thing.
 *
 *   make_model OUT.gguf [--embd 1024] [--layers 8] [--experts 64] [--used 8] [--ff 512] [--type Q4_K]
 *
 * Architecture qwen3moe; attention and head take the same type, norms and routers are F32. */
#include "proto/base/opt.h"
#include "proto/base/rng.h"
#include "tests/support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_VOCAB 32000
#define N_HEAD_DIM 128

struct shape {
    uint32_t n_embd, n_layer, n_expert, n_used, n_ff;
    const char *type_name;
    enum dtype type;
    struct rng rng;
};

/* Where the binary16 scales of a block stand; they get a sane size, all other bytes are random. */
static void fix_block(enum dtype type, uint8_t *block) {
    static const uint8_t d[2] = {0x00, 0x14}; /* 2^-10 */
    switch (type) {
    case DT_Q2_K:
        memcpy(block + 80, d, 2);
        memcpy(block + 82, d, 2);
        break;
    case DT_Q3_K:
        memcpy(block + 108, d, 2);
        break;
    case DT_Q4_K:
    case DT_Q5_K:
        memcpy(block, (uint8_t[]){0, 4, 0, 4}, 4);
        break;
    case DT_Q6_K:
        memcpy(block + 208, (uint8_t[]){0, 1}, 2);
        break;
    case DT_Q4_1:
    case DT_Q5_1:
        memcpy(block, d, 2);
        memcpy(block + 2, d, 2);
        break;
    case DT_MXFP4:
        block[0] = 120;
        break;
    case DT_IQ4_XS:
        memcpy(block, (uint8_t[]){0, 1}, 2);
        break;
    default:
        memcpy(block, d, 2);
        break; /* Q4_0 Q5_0 Q8_0 IQ4_NL: d comes first */
    }
}

static void random_blocks(struct shape *s, enum dtype type, uint64_t n, uint8_t *out) {
    const struct dtype_desc *desc = dtype_find(type);
    uint64_t n_blocks = n / desc->block_elems;
    for (uint64_t b = 0; b < n_blocks; b++) {
        uint8_t *block = out + b * desc->block_bytes;
        for (uint32_t i = 0; i < desc->block_bytes; i += 8) {
            uint64_t bits = rng_next(&s->rng);
            uint32_t left = desc->block_bytes - i;
            memcpy(block + i, &bits, left < 8 ? left : 8);
        }
        fix_block(type, block);
    }
}

static void add_matrix(struct gguf_writer *w, struct shape *s, const char *name, uint64_t n_in,
        uint64_t n_out, uint64_t n_expert) {
    uint64_t ne[3] = {n_in, n_out, n_expert};
    uint64_t n_bytes = dtype_row_bytes(s->type, n_in) * n_out * n_expert;
    uint8_t *bytes = malloc(n_bytes);
    if (!bytes) exit(1);
    random_blocks(s, s->type, n_in * n_out * n_expert, bytes);
    gguf_writer_tensor(w, name, s->type, n_expert > 1 ? 3 : 2, ne, bytes);
    free(bytes);
}

static void add_floats(struct gguf_writer *w, struct shape *s, const char *name, uint64_t n_in,
        uint64_t n_out, float scale, float offset) {
    uint64_t ne[2] = {n_in, n_out};
    float *values = malloc(n_in * n_out * sizeof *values);
    if (!values) exit(1);
    for (uint64_t i = 0; i < n_in * n_out; i++)
        values[i] = offset + scale * (float)(rng_unit(&s->rng) - 0.5);
    gguf_writer_tensor(w, name, DT_F32, n_out > 1 ? 2 : 1, ne, values);
    free(values);
}

static void add_layer(struct gguf_writer *w, struct shape *s, uint32_t layer, uint32_t n_head,
        uint32_t n_head_kv) {
    char name[64];
#define NAME(tail) (snprintf(name, sizeof name, "blk.%u." tail, layer), name)
    add_floats(w, s, NAME("attn_norm.weight"), s->n_embd, 1, 0.1f, 1);
    add_floats(w, s, NAME("ffn_norm.weight"), s->n_embd, 1, 0.1f, 1);
    add_floats(w, s, NAME("attn_q_norm.weight"), N_HEAD_DIM, 1, 0.1f, 1);
    add_floats(w, s, NAME("attn_k_norm.weight"), N_HEAD_DIM, 1, 0.1f, 1);
    add_matrix(w, s, NAME("attn_q.weight"), s->n_embd, n_head * N_HEAD_DIM, 1);
    add_matrix(w, s, NAME("attn_k.weight"), s->n_embd, n_head_kv * N_HEAD_DIM, 1);
    add_matrix(w, s, NAME("attn_v.weight"), s->n_embd, n_head_kv * N_HEAD_DIM, 1);
    add_matrix(w, s, NAME("attn_output.weight"), n_head * N_HEAD_DIM, s->n_embd, 1);
    add_floats(w, s, NAME("ffn_gate_inp.weight"), s->n_embd, s->n_expert, 0.2f, 0);
    add_matrix(w, s, NAME("ffn_gate_exps.weight"), s->n_embd, s->n_ff, s->n_expert);
    add_matrix(w, s, NAME("ffn_up_exps.weight"), s->n_embd, s->n_ff, s->n_expert);
    add_matrix(w, s, NAME("ffn_down_exps.weight"), s->n_ff, s->n_embd, s->n_expert);
#undef NAME
}

/* A byte-level vocabulary: 256 byte tokens in the usual stand-in characters, one merge, fillers. */
static void add_vocabulary(struct gguf_writer *w) {
    static char texts[N_VOCAB][16];
    static const char *pointers[N_VOCAB];
    static int32_t types[N_VOCAB];
    uint32_t n_other = 0;
    for (uint32_t i = 0; i < N_VOCAB; i++) {
        bool plain =
                (i >= 0x21 && i <= 0x7e) || (i >= 0xa1 && i <= 0xac) || (i >= 0xae && i <= 0xff);
        uint32_t c = i < 256 ? (plain ? i : 256 + n_other++) : 0;
        types[i] = i <= 256 ? 1 : 5;
        if (i == 256)
            snprintf(texts[i], sizeof texts[i], "th");
        else if (i > 256)
            snprintf(texts[i], sizeof texts[i], "[PAD%u]", i);
        else if (c < 0x80)
            snprintf(texts[i], sizeof texts[i], "%c", (char)c);
        else
            snprintf(texts[i], sizeof texts[i], "%c%c", (char)(0xc0 | c >> 6),
                    (char)(0x80 | (c & 63)));
        pointers[i] = texts[i];
    }
    gguf_writer_str(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_str(w, "tokenizer.ggml.pre", "qwen2");
    gguf_writer_str_array(w, "tokenizer.ggml.tokens", N_VOCAB, pointers);
    gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, N_VOCAB, types);
    const char *merge = "t h";
    gguf_writer_str_array(w, "tokenizer.ggml.merges", 1, &merge);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", N_VOCAB - 1);
}

static int write_model(struct shape *s, const char *path, struct err *err) {
    struct gguf_writer w;
    uint32_t n_head = 2 * s->n_embd / N_HEAD_DIM, n_head_kv = n_head / 4;
    gguf_writer_begin(&w);
    gguf_writer_str(&w, "general.architecture", "qwen3moe");
    gguf_writer_str(&w, "general.name", "random weights");
    gguf_writer_u32(&w, "general.quantization_version", 2);
    gguf_writer_u32(&w, "qwen3moe.block_count", s->n_layer);
    gguf_writer_u32(&w, "qwen3moe.context_length", 32768);
    gguf_writer_u32(&w, "qwen3moe.embedding_length", s->n_embd);
    gguf_writer_u32(&w, "qwen3moe.feed_forward_length", s->n_ff);
    gguf_writer_u32(&w, "qwen3moe.expert_feed_forward_length", s->n_ff);
    gguf_writer_u32(&w, "qwen3moe.expert_count", s->n_expert);
    gguf_writer_u32(&w, "qwen3moe.expert_used_count", s->n_used);
    gguf_writer_u32(&w, "qwen3moe.attention.head_count", n_head);
    gguf_writer_u32(&w, "qwen3moe.attention.head_count_kv", n_head_kv);
    gguf_writer_u32(&w, "qwen3moe.attention.key_length", N_HEAD_DIM);
    gguf_writer_u32(&w, "qwen3moe.attention.value_length", N_HEAD_DIM);
    gguf_writer_f32(&w, "qwen3moe.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_writer_f32(&w, "qwen3moe.rope.freq_base", 1e6f);
    add_vocabulary(&w);

    add_matrix(&w, s, "token_embd.weight", s->n_embd, N_VOCAB, 1);
    add_floats(&w, s, "output_norm.weight", s->n_embd, 1, 0.1f, 1);
    add_matrix(&w, s, "output.weight", s->n_embd, N_VOCAB, 1);
    for (uint32_t l = 0; l < s->n_layer; l++)
        add_layer(&w, s, l, n_head, n_head_kv);
    int rc = gguf_writer_finish_file(&w, path, err);
    gguf_writer_fini(&w);
    return rc;
}

static int check(struct shape *s, const struct opt_words *words, struct err *err) {
    if (words->n != 1) return err_set(err, ERR_USAGE, "expected the file to write");
    uint32_t id = 0;
    while (id < DT_COUNT && strcmp(dtype_name(id), s->type_name) != 0)
        id++;
    const struct dtype_desc *desc = dtype_find(id);
    if (!desc || !desc->computable || desc->block_elems == 1)
        return err_set(err, ERR_USAGE, "--type %s: expected a quantised type", s->type_name);
    s->type = (enum dtype)id;
    if (s->n_embd % 512 || s->n_embd == 0 || s->n_ff % 256 || s->n_ff == 0)
        return err_set(err, ERR_USAGE, "--embd takes multiples of 512, --ff of 256");
    if (s->n_used == 0 || s->n_used > s->n_expert)
        return err_set(err, ERR_USAGE, "--used takes 1 to --experts");
    return 0;
}

int main(int argc, char **argv) {
    struct shape s = {.n_embd = 1024,
            .n_layer = 8,
            .n_expert = 64,
            .n_used = 8,
            .n_ff = 512,
            .type_name = "Q4_K"};
    const struct opt table[] = {
            {"embd", 0, OPT_U32, &s.n_embd, "N", "width"},
            {"layers", 0, OPT_U32, &s.n_layer, "N", "blocks"},
            {"experts", 0, OPT_U32, &s.n_expert, "N", "experts of a block"},
            {"used", 0, OPT_U32, &s.n_used, "N", "experts a token uses"},
            {"ff", 0, OPT_U32, &s.n_ff, "N", "width of an expert"},
            {"type", 0, OPT_STR, &s.type_name, "TYPE", "of all matrices: Q4_K, Q8_0, ..."},
            OPT_END,
    };
    const struct opt *const tables[] = {table, NULL};
    struct opt_words words;
    struct err err = ERR_INIT;
    rng_init(&s.rng, 1);
    int rc = opt_parse(tables, argc, argv, &words, &err);
    if (rc == 0) rc = check(&s, &words, &err);
    if (rc == 0) rc = write_model(&s, words.words[0], &err);
    if (rc == 0) return 0;
    err_print(&err, "make_model", stderr);
    opt_print(tables, stderr);
    return rc == ERR_USAGE ? 2 : 1;
}
