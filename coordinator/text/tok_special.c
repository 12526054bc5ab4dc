/* tok_special.c - which tokens mean something: by key, by well-known text, and the set that ends an
 * answer.
 * Owns: the attributes and special ids of a struct tok after this. Does not: search texts.
 * Runs on: the loading thread.
 *
 * Many files lack the keys for end-of-turn and the like, or give such tokens the wrong type, so
 * known texts are looked up; models disagree on what they mean, hence the exceptions at the end. */
#include "coordinator/text/tok_internal.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One special id: its keys, and the texts it is known by where no key says; earlier ones win. */
struct special_row {
    enum tok_special which;
    const char *keys[2]; /* without "tokenizer.ggml."; the second is an old name, which wins */
    const char *texts[12];
};

static const struct special_row rows[] = {
    {TOK_BOS, {"bos_token_id"}, {0}},
    {TOK_EOS, {"eos_token_id"}, {0}},
    {TOK_UNK, {"unknown_token_id"}, {0}},
    {TOK_SEP, {"seperator_token_id"}, {0}}, /* the format's spelling */
    {TOK_PAD, {"padding_token_id"}, {0}},
    {TOK_EOT, {"eot_token_id"},
            {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
             "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>",
             "<end_of_utterance>"}},
    {TOK_EOM, {"eom_token_id"}, {"<|eom_id|>"}},
    {TOK_FIM_PRE, {"fim_pre_token_id", "prefix_token_id"},
            {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
             "<|code_prefix|>", "<|prefix|>"}},
    {TOK_FIM_SUF, {"fim_suf_token_id", "suffix_token_id"},
            {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
             "<|code_suffix|>", "<|suffix|>"}},
    {TOK_FIM_MID, {"fim_mid_token_id", "middle_token_id"},
            {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
             "<|code_middle|>", "<|middle|>"}},
    {TOK_FIM_PAD, {"fim_pad_token_id"},
            {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {TOK_FIM_REP, {"fim_rep_token_id"},
            {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {TOK_FIM_SEP, {"fim_sep_token_id"}, {"<|file_sep|>"}},
};

/* Texts that end an answer wherever they occur. */
static const char *const eog_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
};

/* Also HTML tags and ordinary words: they count only where the file has them as special tokens. */
static const char *const eog_texts_if_special[] = {"</s>", "<eos>"};

/* The channel structure of gpt-oss: shown in the output, where the parser needs it. */
static const char *const shown_texts[] = {
    "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>",
};

static int32_t find(const struct tok *tok, const char *text) {
    return tok_find(tok, text, strlen(text));
}

static bool ends_answer(const struct tok *tok, const char *text) {
    int32_t id = find(tok, text);
    return id != TOK_NONE && tok->attrs[id] & ATTR_EOG;
}

static void set_defaults(struct tok *tok) {
    for (int i = 0; i < TOK_SPECIAL_COUNT; i++)
        tok->specials[i] = TOK_NONE;
    if (tok->kind == TOK_KIND_SPM) {
        tok->specials[TOK_UNK] = 0;
        if (tok->n_vocab > 1) tok->specials[TOK_BOS] = 1;
        if (tok->n_vocab > 2) tok->specials[TOK_EOS] = 2;
    }
    /* Falcon's files rely on 11; in other vocabularies it is a comma or the like. */
    if (tok->kind == TOK_KIND_BPE && tok->n_vocab > 11 && tok->attrs[11] & ATTR_CONTROL)
        tok->specials[TOK_BOS] = tok->specials[TOK_EOS] = 11;
}

static int read_key(struct tok *tok, const struct gguf *gguf, enum tok_special which,
        const char *name, struct err *err) {
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s", name);
    uint64_t id;
    int rc = gguf_get_u64(gguf, key, &id, err);
    if (rc <= 0) return rc;
    if (id < tok->n_vocab)
        tok->specials[which] = (int32_t)id;
    else
        LOG_WARN("tok.special_id", "key=%s id=%llu n_vocab=%u ignored=1", key,
                (unsigned long long)id, (unsigned)tok->n_vocab);
    return 0;
}

static int read_ids(struct tok *tok, const struct gguf *gguf, struct err *err) {
    set_defaults(tok);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        const struct special_row *row = &rows[r];
        for (size_t k = 0; k < ARRAY_LEN(row->keys) && row->keys[k]; k++) {
            int rc = read_key(tok, gguf, row->which, row->keys[k], err);
            if (rc < 0) return rc;
        }
        for (size_t t = 0; t < ARRAY_LEN(row->texts) && row->texts[t]; t++) {
            if (tok->specials[row->which] != TOK_NONE) break;
            int32_t id = find(tok, row->texts[t]);
            if (id == TOK_NONE) continue;
            tok->specials[row->which] = id;
            tok->attrs[id] |= ATTR_CONTROL;
        }
    }
    return 0;
}

static void add_eog(struct tok *tok, int32_t id) {
    if (id != TOK_NONE) tok->attrs[id] |= ATTR_EOG;
}

/* Not an end after all: text of the given attribute. */
static void drop_eog(struct tok *tok, const char *text, unsigned attr) {
    int32_t id = find(tok, text);
    if (id != TOK_NONE) tok->attrs[id] = (uint16_t)attr;
}

static void find_eog(struct tok *tok) {
    add_eog(tok, tok->specials[TOK_FIM_PAD]);
    add_eog(tok, tok->specials[TOK_FIM_REP]);
    add_eog(tok, tok->specials[TOK_FIM_SEP]);
    for (size_t i = 0; i < ARRAY_LEN(eog_texts); i++) {
        int32_t id = find(tok, eog_texts[i]);
        if (id != TOK_NONE) tok->attrs[id] |= ATTR_EOG | ATTR_CONTROL;
    }
    for (size_t i = 0; i < ARRAY_LEN(eog_texts_if_special); i++) {
        int32_t id = find(tok, eog_texts_if_special[i]);
        if (id != TOK_NONE && tok->attrs[id] & (ATTR_CONTROL | ATTR_USER))
            tok->attrs[id] |= ATTR_EOG | ATTR_CONTROL;
    }
    for (size_t i = 0; i < ARRAY_LEN(shown_texts); i++) {
        int32_t id = find(tok, shown_texts[i]);
        if (id != TOK_NONE) tok->attrs[id] = ATTR_USER;
    }
    add_eog(tok, tok->specials[TOK_EOS]);
    add_eog(tok, tok->specials[TOK_EOT]);
    add_eog(tok, tok->specials[TOK_EOM]);

    /* gpt-oss and kin end each of several messages with <|end|>, and the answer otherwise. */
    bool calls = ends_answer(tok, "<|call|>") || ends_answer(tok, "<|calls|>");
    bool other_end = ends_answer(tok, "<|return|>") || ends_answer(tok, "<|flush|>");
    if (calls && other_end && ends_answer(tok, "<|end|>")) drop_eog(tok, "<|end|>", ATTR_USER);
    /* Gemma 4 has HTML tags as tokens. */
    if (ends_answer(tok, "<|tool_response>") && ends_answer(tok, "</s>"))
        drop_eog(tok, "</s>", ATTR_NORMAL);
}

static void set_attr(struct tok *tok, const char *text, enum tok_attr attr, bool on) {
    int32_t id = find(tok, text);
    if (id == TOK_NONE) return;
    if (on)
        tok->attrs[id] |= (uint16_t)attr;
    else
        tok->attrs[id] &= (uint16_t)~attr;
}

static bool name_contains(struct gguf_str name, const char *part) {
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= name.n; i++)
        if (strncasecmp(name.bytes + i, part, n) == 0) return true;
    return false;
}

/* Files do not store which tokens swallow the white space beside them: known by name. */
static int set_strips(struct tok *tok, const struct gguf *gguf, unsigned pre_traits,
        struct err *err) {
    struct gguf_str name = {"", 0}, arch = {"", 0};
    int rc = gguf_get_str(gguf, "general.name", &name, err);
    if (rc >= 0) rc = gguf_get_str(gguf, "general.architecture", &arch, err);
    if (rc < 0) return rc;

    if (name_contains(name, "phi-3") || name_contains(name, "phi3")) {
        for (uint32_t id = 0; id < tok->n_vocab; id++)
            if (tok->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN | ATTR_USER))
                tok->attrs[id] |= ATTR_RSTRIP;
        set_attr(tok, "</s>", ATTR_RSTRIP, true);
        set_attr(tok, "<unk>", ATTR_RSTRIP, false);
        set_attr(tok, "<s>", ATTR_RSTRIP, false);
        set_attr(tok, "<|endoftext|>", ATTR_RSTRIP, false);
    }
    if (pre_traits & PRE_LSTRIP_MASK || name_contains(arch, "nomic-bert-moe")
            || name_contains(arch, "jina-bert-v3"))
        set_attr(tok, "<mask>", ATTR_LSTRIP, true);
    if (name_contains(name, "modern-bert")) set_attr(tok, "[MASK]", ATTR_LSTRIP, true);
    return 0;
}

static int read_suppressed(struct tok *tok, const struct gguf *gguf, struct err *err) {
    struct gguf_array list = {0};
    int rc = gguf_get_array(gguf, "tokenizer.ggml.suppress_tokens", &list, err);
    if (rc <= 0 || list.n == 0) return rc;
    if (list.n > tok->n_vocab)
        return err_set(err, ERR_BAD_INPUT,
                "tokenizer.ggml.suppress_tokens names %llu tokens; the vocabulary has %u",
                (unsigned long long)list.n, (unsigned)tok->n_vocab);

    tok->suppressed = calloc(list.n, sizeof *tok->suppressed);
    if (!tok->suppressed) return err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary");
    for (uint64_t i = 0; i < list.n; i++) {
        int64_t id;
        rc = gguf_array_i64(&list, i, &id, err);
        if (rc < 0) return rc;
        if (id >= 0 && id < (int64_t)tok->n_vocab)
            tok->suppressed[tok->n_suppressed++] = (int32_t)id;
    }
    return 0;
}

int specials_load(struct tok *tok, const struct gguf *gguf, unsigned pre_traits, struct err *err) {
    int rc = read_ids(tok, gguf, err);
    if (rc < 0) return rc;
    find_eog(tok);
    rc = set_strips(tok, gguf, pre_traits, err);
    if (rc < 0) return rc;

    tok->add_bos = tok->kind == TOK_KIND_SPM || pre_traits & PRE_ADD_BOS;
    tok->add_eos = false;
    tok->add_prefix_space = tok->kind == TOK_KIND_SPM;
    rc = gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", &tok->add_bos, err);
    if (rc >= 0) rc = gguf_get_bool(gguf, "tokenizer.ggml.add_eos_token", &tok->add_eos, err);
    if (rc >= 0)
        rc = gguf_get_bool(gguf, "tokenizer.ggml.add_space_prefix", &tok->add_prefix_space, err);
    if (rc < 0) return rc;

    /* Gemma 4 is useless without its BOS, and there are files that say it has none. */
    if (strcmp(tok->model_name, "gemma4") == 0) tok->add_bos = true;
    if (tok->kind != TOK_KIND_SPM) tok->add_prefix_space = false;
    if (tok->specials[TOK_BOS] == TOK_NONE) tok->add_bos = false;
    if (tok->specials[TOK_EOS] == TOK_NONE) tok->add_eos = false;
    return read_suppressed(tok, gguf, err);
}
