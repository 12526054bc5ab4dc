/* toy_vocab.c - small vocabularies in memory. Owns: nothing. Runs on: the test's thread. */
#include "tests/support/toy_vocab.h"

#include "proto/base/checked.h"

#include <stdio.h>
#include <string.h>

void toy_vocab_mapped(unsigned byte, char out[4]) {
    unsigned cp = byte;
    bool prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    if (!prints) cp = 0x100 + (byte <= 0x20 ? byte : byte < 0xad ? byte - 0x7f + 0x21 : 0x43);
    if (cp < 0x80) {
        snprintf(out, 4, "%c", (char)cp);
        return;
    }
    out[0] = (char)(0xc0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 0x3f));
    out[2] = 0;
}

void toy_vocab_write(struct gguf_writer *w, const struct toy_vocab *v) {
    if (v->model) gguf_writer_str(w, "tokenizer.ggml.model", v->model);
    if (v->pre) gguf_writer_str(w, "tokenizer.ggml.pre", v->pre);
    if (v->tokens) gguf_writer_str_array(w, "tokenizer.ggml.tokens", v->n_tokens, v->tokens);
    if (v->types)
        gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, v->n_types, v->types);
    if (v->scores)
        gguf_writer_array(w, "tokenizer.ggml.scores", GGUF_F32, v->n_scores, v->scores);
    if (v->merges) gguf_writer_str_array(w, "tokenizer.ggml.merges", v->n_merges, v->merges);
    if (v->bos >= 0) gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)v->bos);
    if (v->eos >= 0) gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos);
    if (v->unk >= 0) gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", (uint32_t)v->unk);
}

int toy_vocab_load(struct gguf_writer *w, struct tok **out_tok, struct err *err) {
    struct buf file = {0};
    struct gguf *gguf = NULL;
    int rc = gguf_writer_finish(w, &file, err);
    if (rc == 0) rc = gguf_open_bytes(file.bytes, file.n_bytes, &gguf, err);
    if (rc == 0) rc = tok_load(gguf, out_tok, err);
    gguf_free(gguf);
    buf_fini(&file);
    return rc;
}

#define N_MAX 320

struct maker {
    char texts[256][8];
    const char *tokens[N_MAX];
    int32_t types[N_MAX];
    float scores[N_MAX];
    size_t n;
};

static void add(struct maker *m, const char *text, int32_t type) {
    m->types[m->n] = type;
    m->scores[m->n] = -(float)m->n;
    m->tokens[m->n++] = text;
}

static void add_all(struct maker *m, const char *const *texts, size_t n, int32_t type) {
    for (size_t i = 0; i < n; i++)
        add(m, texts[i], type);
}

/* G with a dot above stands for the space. */
static const char *const mapped_merges[] = {
    "\xc4\xa0 t", "h e", "\xc4\xa0t he", "i n", "\xc4\xa0 \xc4\xa0", "\xc3\x83 \xc2\xa9", "a a",
    "aa aa", "in g",
};
static const char *const mapped_words[] = {
    "\xc4\xa0t", "he", "\xc4\xa0the", "in", "\xc4\xa0\xc4\xa0", "\xc3\x83\xc2\xa9", "aa", "aaaa",
    "ing",
};
static const char *const marked_merges[] = {
    "\xe2\x96\x81 t", "h e", "\xe2\x96\x81t he", "i n", "a a", "\n \n", "\n\n \n\n",
};
static const char *const marked_words[] = {
    "\xe2\x96\x81t", "he", "\xe2\x96\x81the", "in", "aa", "\n\n\n\n", "\xe2\x96\x81", "t", "h", "e",
    "i", "n", "a", "\n", "\xc3\xa9",
};
static const char *const control[] = {"<s>", "</s>", "<|im_end|>"};
static const char *const user[] = {"<|x|>", "<a><b", "\n\n", "<|x"};

int toy_vocab_open(const char *model, struct tok **out_tok, struct err *err) {
    struct maker m = {.n = 0};
    bool mapped = strcmp(model, "gpt2") == 0;
    for (unsigned b = 0; b < 256; b++) {
        if (mapped)
            toy_vocab_mapped(b, m.texts[b]);
        else
            snprintf(m.texts[b], sizeof m.texts[b], "<0x%02X>", b);
        add(&m, m.texts[b], mapped ? TOK_NORMAL : TOK_BYTE);
    }
    if (mapped)
        add_all(&m, mapped_words, ARRAY_LEN(mapped_words), TOK_NORMAL);
    else
        add_all(&m, marked_words, ARRAY_LEN(marked_words), TOK_NORMAL);
    add_all(&m, control, ARRAY_LEN(control), TOK_CONTROL);
    add_all(&m, user, ARRAY_LEN(user), TOK_USER_DEFINED);

    size_t first_control = m.n - ARRAY_LEN(user) - ARRAY_LEN(control);
    struct toy_vocab vocab = {
        .model = model,
        .pre = mapped ? "qwen2" : NULL,
        .tokens = m.tokens, .n_tokens = m.n,
        .types = m.types, .n_types = m.n,
        .scores = m.scores, .n_scores = m.n,
        .merges = mapped ? mapped_merges : marked_merges,
        .n_merges = mapped ? ARRAY_LEN(mapped_merges) : ARRAY_LEN(marked_merges),
        .bos = (int64_t)first_control,
        .eos = (int64_t)first_control + 1,
        .unk = -1,
    };
    struct gguf_writer w;
    gguf_writer_begin(&w);
    toy_vocab_write(&w, &vocab);
    gguf_writer_bool(&w, "tokenizer.ggml.add_bos_token", true);
    gguf_writer_bool(&w, "tokenizer.ggml.add_eos_token", true);
    int rc = toy_vocab_load(&w, out_tok, err);
    gguf_writer_fini(&w);
    return rc;
}
