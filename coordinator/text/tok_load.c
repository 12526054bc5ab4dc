/* tok_load.c - builds a struct tok from the keys of a GGUF file.
 * Owns: the order in which its parts are made. Does not: keep anything of the file.
 * Runs on: any thread; the struct tok belongs to it until tok_load returns. */
#include "coordinator/text/tok_internal.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tok_free(struct tok *tok) {
    if (!tok) return;
    free(tok->model_name);
    free(tok->pre_name);
    free(tok->attrs);
    free(tok->scores);
    text_list_fini(&tok->texts);
    text_list_fini(&tok->symbols);
    text_list_fini(&tok->pieces);
    text_index_fini(&tok->by_text);
    text_index_fini(&tok->by_symbol);
    free(tok->pairs);
    tok_pre_free(tok->pre);
    free(tok->marks);
    free(tok->mark_order);
    free(tok->suppressed);
    free(tok);
}

static char *copy_name(struct gguf_str name) {
    return strndup(name.bytes, name.n < 64 ? name.n : 64);
}

static bool is_name(struct gguf_str name, const char *text) {
    return name.n == strlen(text) && memcmp(name.bytes, text, name.n) == 0;
}

/* The kind of tokenizer, and the pre-tokenizer where the kind has one. */
static int read_kind(struct tok *tok, const struct gguf *gguf, const struct pre_entry **out_pre,
        struct err *err) {
    struct gguf_str model = {"", 0}, pre = {"", 0};
    int rc = gguf_get_str(gguf, "tokenizer.ggml.model", &model, err);
    if (rc > 0) rc = gguf_get_str(gguf, "tokenizer.ggml.pre", &pre, err);
    else if (rc == 0)
        rc = err_set(err, ERR_BAD_INPUT, "no tokenizer (key tokenizer.ggml.model) in the file");
    if (rc < 0) return rc;

    tok->model_name = copy_name(model);
    if (is_name(model, "gemma4")) pre = (struct gguf_str){"gemma4", 6};
    tok->pre_name = copy_name(pre);
    if (!tok->model_name || !tok->pre_name)
        return err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary");

    if (is_name(model, "llama")) {
        tok->kind = TOK_KIND_SPM;
        *out_pre = NULL;
        return 0;
    }
    if (!is_name(model, "gpt2") && !is_name(model, "gemma4")) {
        err_set(err, ERR_UNSUPPORTED, "tokenizer not supported: %s", tok->model_name);
        return err_hint(err,
                "supported are gpt2 (byte-level BPE), llama (SentencePiece) and gemma4");
    }
    *out_pre = pre_find(pre.bytes, pre.n);
    if (!*out_pre) {
        err_set(err, ERR_UNSUPPORTED, "pre-tokenizer not supported: %s", tok->pre_name);
        return err_hint(err, "supported are default, llama-bpe, qwen2, qwen35, deepseek-v3, "
                "deepseek-llm, gpt-4o, kimi-k2, tekken, glm4, minimax-m2, gpt-2, gemma4 and some "
                "seventy more; a newer Potluck may know it");
    }
    tok->kind = (*out_pre)->traits & PRE_RAW ? TOK_KIND_RAW_BPE : TOK_KIND_BPE;
    tok->whole_words = ((*out_pre)->traits & PRE_WHOLE_WORDS) != 0;
    return tok_pre_new(*out_pre, &tok->pre, err);
}

/* A list that must be there and be of strings. */
static int read_strings(const struct gguf *gguf, const char *key, uint64_t n_max,
        struct gguf_array *out_list, struct err *err) {
    int rc = gguf_get_array(gguf, key, out_list, err);
    if (rc < 0) return rc;
    if (rc == 0 || out_list->type != GGUF_STRING || out_list->n == 0)
        return err_set(err, ERR_BAD_INPUT, "%s is %s", key,
                rc == 0 ? "missing" : out_list->n == 0 ? "empty" : "no list of texts");
    if (out_list->n > n_max)
        return err_set(err, ERR_LIMIT, "%s has %llu entries; at most %llu are allowed", key,
                (unsigned long long)out_list->n, (unsigned long long)n_max);
    return 0;
}

static int read_texts(struct tok *tok, const struct gguf *gguf, struct err *err) {
    struct gguf_array list = {0};
    int rc = read_strings(gguf, "tokenizer.ggml.tokens", TOK_VOCAB_MAX, &list, err);
    if (rc == 0) rc = text_index_reserve(&tok->by_text, &tok->texts, list.n, err);
    if (rc < 0) return rc;

    struct gguf_str text;
    size_t cursor = 0;
    while (gguf_array_next_str(&list, &cursor, &text)) {
        uint32_t id = tok->texts.n;
        if (text.n > TOK_TOKEN_BYTES_MAX)
            return err_set(err, ERR_LIMIT, "token %u has %zu bytes; at most %u are allowed",
                    (unsigned)id, text.n, TOK_TOKEN_BYTES_MAX);
        char empty[24];
        if (text.n == 0) {
            snprintf(empty, sizeof empty, "[EMPTY_%u]", (unsigned)id);
            text = (struct gguf_str){empty, strlen(empty)};
        }
        rc = text_list_add(&tok->texts, text.bytes, text.n, err);
        if (rc < 0) return rc;
        text_index_add(&tok->by_text, &tok->texts, id);
    }
    tok->n_vocab = tok->texts.n;
    return 0;
}

static int read_attrs(struct tok *tok, const struct gguf *gguf, struct err *err) {
    static const uint16_t attr_of_type[] = {0, ATTR_NORMAL, ATTR_UNKNOWN, ATTR_CONTROL, ATTR_USER,
        ATTR_UNUSED, ATTR_BYTE};
    tok->attrs = calloc(tok->n_vocab, sizeof *tok->attrs);
    if (!tok->attrs) return err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary");

    struct gguf_array types = {0};
    int has_types = gguf_get_array(gguf, "tokenizer.ggml.token_type", &types, err);
    if (has_types < 0) return has_types;
    if (has_types && types.n < tok->n_vocab)
        return err_set(err, ERR_BAD_INPUT,
                "tokenizer.ggml.token_type has %llu entries for %u tokens",
                (unsigned long long)types.n, (unsigned)tok->n_vocab);
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        int64_t type = TOK_NORMAL;
        int rc = has_types ? gguf_array_i64(&types, id, &type, err) : 0;
        if (rc < 0) return rc;
        if (type >= 0 && type < (int64_t)ARRAY_LEN(attr_of_type))
            tok->attrs[id] = attr_of_type[type];
    }
    return 0;
}

static int read_scores(struct tok *tok, const struct gguf *gguf, struct err *err) {
    tok->scores = calloc(tok->n_vocab, sizeof *tok->scores);
    if (!tok->scores) return err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary");

    struct gguf_array scores = {0};
    int rc = gguf_get_array(gguf, "tokenizer.ggml.scores", &scores, err);
    if (rc <= 0) return rc;
    if (scores.n < tok->n_vocab)
        return err_set(err, ERR_BAD_INPUT, "tokenizer.ggml.scores has %llu entries for %u tokens",
                (unsigned long long)scores.n, (unsigned)tok->n_vocab);
    bool whole = scores.type != GGUF_F32 && scores.type != GGUF_F64;
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        double score = 0;
        int64_t number;
        rc = whole ? gguf_array_i64(&scores, id, &number, err)
                   : gguf_array_f64(&scores, id, &score, err);
        if (rc < 0) return rc;
        if (whole) score = (double)number;
        if (isnan(score))
            return err_set(err, ERR_BAD_INPUT, "tokenizer.ggml.scores: that of token %u is no "
                    "number", (unsigned)id);
        tok->scores[id] = (float)score;
    }
    return 0;
}

/* Numbers the symbols of the vocabulary: raw bytes (byte-level BPE) or the texts. */
static int make_symbols(struct tok *tok, struct err *err) {
    struct buf raw = {0};
    tok->space_starts_symbol = tok->kind != TOK_KIND_BPE;
    int rc = text_index_reserve(&tok->by_symbol, &tok->symbols, tok->n_vocab, err);
    for (uint32_t id = 0; id < tok->n_vocab && rc >= 0; id++) {
        struct tok_text text = text_list_at(&tok->texts, id);
        if (tok->kind == TOK_KIND_BPE) {
            buf_reset(&raw);
            rc = bytes_from_mapped(&raw, text.bytes, text.n, err);
            text = rc > 0 ? (struct tok_text){raw.bytes, raw.n_bytes} : (struct tok_text){"", 0};
        }
        if (rc >= 0) rc = text_list_add(&tok->symbols, text.bytes, text.n, err);
        if (rc < 0) break;
        if (text.n > tok->symbol_bytes_max) tok->symbol_bytes_max = text.n;
        if (text.n > 0) text_index_add(&tok->by_symbol, &tok->symbols, id);
        if (has_inner_space(text.bytes, text.n)) tok->space_starts_symbol = false;
    }
    buf_fini(&raw);
    return rc < 0 ? rc : 0;
}

static int read_merges(struct tok *tok, const struct gguf *gguf, struct err *err) {
    struct gguf_array merges = {0};
    int rc = read_strings(gguf, "tokenizer.ggml.merges", TOK_MERGES_MAX, &merges, err);
    return rc < 0 ? rc : bpe_load(tok, &merges, err);
}

/* What spells a byte: byte-level BPE its own token; the others "<0xNN>", or a one-byte token. */
static void find_byte_tokens(struct tok *tok) {
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b, name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        uint32_t plain = text_index_find(&tok->by_symbol, &tok->symbols, &byte, 1);
        int32_t named = tok_find(tok, name, 6);
        int32_t own = plain < tok->n_vocab ? (int32_t)plain : TOK_NONE;
        bool prefer_own = tok->kind == TOK_KIND_BPE;
        tok->byte_tokens[b] = prefer_own ? own : named;
        if (tok->byte_tokens[b] == TOK_NONE) tok->byte_tokens[b] = prefer_own ? named : own;
    }
}

/* Appends a spelled text with spaces for U+2581. */
static int append_unmarked(struct buf *out, struct tok_text text, struct err *err) {
    for (size_t i = 0; i < text.n;) {
        bool mark = text.n - i >= 3 && memcmp(text.bytes + i, SPACE_MARK, 3) == 0;
        int rc = buf_append(out, mark ? " " : text.bytes + i, 1, err);
        if (rc < 0) return rc;
        i += mark ? 3 : 1;
    }
    return 0;
}

static int make_piece(struct tok *tok, uint32_t id, struct buf *piece, struct err *err) {
    unsigned attrs = tok->attrs[id];
    struct tok_text text = text_list_at(&tok->texts, id);
    struct tok_text symbol = text_list_at(&tok->symbols, id);
    int byte = byte_from_token_text(text);
    if (attrs & (ATTR_CONTROL | ATTR_UNKNOWN | ATTR_USER))
        return buf_append(piece, text.bytes, text.n, err);
    if (attrs & ATTR_BYTE && byte >= 0) {
        char raw = (char)byte;
        return buf_append(piece, &raw, 1, err);
    }
    if (!(attrs & (ATTR_NORMAL | ATTR_BYTE))) return 0;
    if (tok->kind != TOK_KIND_BPE) return append_unmarked(piece, text, err);
    if (symbol.n > 0) text = symbol; /* else the text is not byte-mapped: shown as it is */
    return buf_append(piece, text.bytes, text.n, err);
}

static int make_pieces(struct tok *tok, struct err *err) {
    struct buf piece = {0};
    int rc = 0;
    for (uint32_t id = 0; id < tok->n_vocab && rc == 0; id++) {
        buf_reset(&piece);
        rc = make_piece(tok, id, &piece, err);
        if (rc == 0) rc = text_list_add(&tok->pieces, piece.bytes, piece.n_bytes, err);
    }
    buf_fini(&piece);
    return rc;
}

int tok_load(const struct gguf *gguf, struct tok **out_tok, struct err *err) {
    struct tok *tok = calloc(1, sizeof *tok);
    if (!tok) return err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary");
    tok->by_text.seed = tok->by_symbol.seed = rng_random_seed();

    const struct pre_entry *pre = NULL;
    int rc = read_kind(tok, gguf, &pre, err);
    if (rc == 0) rc = read_texts(tok, gguf, err);
    if (rc == 0) rc = read_attrs(tok, gguf, err);
    if (rc == 0 && tok->kind == TOK_KIND_SPM) rc = read_scores(tok, gguf, err);
    if (rc == 0) rc = make_symbols(tok, err);
    if (rc == 0 && tok->kind != TOK_KIND_SPM) rc = read_merges(tok, gguf, err);
    if (rc == 0) rc = specials_load(tok, gguf, pre ? pre->traits : 0, err);
    if (rc == 0) rc = make_pieces(tok, err);
    if (rc == 0) rc = marks_load(tok, err);
    if (rc < 0) {
        tok_free(tok);
        return err_note(err, "reading the tokenizer of %s", gguf_path(gguf));
    }
    find_byte_tokens(tok);
    *out_tok = tok;
    return 0;
}
