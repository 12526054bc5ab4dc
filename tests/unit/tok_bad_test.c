/* tok_bad_test.c - wrong vocabularies give errors or do no harm; odd texts and the rules that need
 * a made-up vocabulary to be seen. */
#include "coordinator/text/tok.h"
#include "coordinator/text/utf8.h"
#include "tests/support/toy_vocab.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"
#include "proto/base/mono.h"
#include "proto/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const abc[] = {"a", "b", "c", "ab", "abc"};
static const char *const abc_merges[] = {"a b", "ab c"};

static struct toy_vocab small_bpe(void) {
    return (struct toy_vocab){.model = "gpt2", .pre = "qwen2", .tokens = abc, .n_tokens = 5,
        .merges = abc_merges, .n_merges = 2, .bos = -1, .eos = -1, .unk = -1};
}

static struct toy_vocab small_spm(void) {
    return (struct toy_vocab){.model = "llama", .tokens = abc, .n_tokens = 5,
        .bos = -1, .eos = -1, .unk = -1};
}

static int load(const struct toy_vocab *vocab, struct tok **out_tok, struct err *err) {
    struct gguf_writer w;
    gguf_writer_begin(&w);
    toy_vocab_write(&w, vocab);
    int rc = toy_vocab_load(&w, out_tok, err);
    gguf_writer_fini(&w);
    return rc;
}

/* Loading must fail with this code, and the message must name the part. */
static void refused(const struct toy_vocab *vocab, int code, const char *part) {
    struct tok *tok = NULL;
    struct err err = ERR_INIT;
    int rc = load(vocab, &tok, &err);
    if (rc != code || !strstr(err.what, part))
        fail_msg("got %d \"%s\", expected %d with \"%s\"", rc, err.what, code, part);
    assert_null(tok);
}

static struct tok *loaded(const struct toy_vocab *vocab) {
    struct tok *tok = NULL;
    struct err err = ERR_INIT;
    if (load(vocab, &tok, &err) < 0) fail_msg("%s", err.what);
    return tok;
}

static struct tok *toy(const char *model) {
    struct tok *tok = NULL;
    struct err err = ERR_INIT;
    if (toy_vocab_open(model, &tok, &err) < 0) fail_msg("%s", err.what);
    return tok;
}

static struct tok_ids encode(const struct tok *tok, const char *text, unsigned flags) {
    struct tok_ids ids = {0};
    struct err err = ERR_INIT;
    if (tok_encode(tok, text, strlen(text), flags, &ids, &err) < 0) fail_msg("%s", err.what);
    return ids;
}

/* The ids' spellings, with bars between them, must be these. */
static void spells(const struct tok *tok, const char *text, unsigned flags, const char *want) {
    struct tok_ids ids = encode(tok, text, flags);
    struct buf got = {0};
    for (size_t i = 0; i < ids.n; i++) {
        struct tok_text t = tok_token_text(tok, ids.ids[i]);
        assert_int_equal(buf_printf(&got, NULL, "%s%.*s", i ? "|" : "", (int)t.n, t.bytes), 0);
    }
    if (strcmp(got.bytes ? got.bytes : "", want) != 0)
        fail_msg("\"%s\" gave \"%s\", expected \"%s\"", text, got.bytes, want);
    buf_fini(&got);
    tok_ids_fini(&ids);
}

static void other_tokenizers_are_refused_by_name(void **state) {
    (void)state;
    static const char *const names[] = {"bert", "t5", "rwkv", "plamo2", "none", "no_vocab", "x"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct toy_vocab vocab = small_bpe();
        vocab.model = names[i];
        char part[64];
        snprintf(part, sizeof part, "tokenizer not supported: %s", names[i]);
        refused(&vocab, ERR_UNSUPPORTED, part);
    }
    struct toy_vocab vocab = small_bpe();
    vocab.pre = "of-next-year";
    refused(&vocab, ERR_UNSUPPORTED, "pre-tokenizer not supported: of-next-year");
    vocab.model = NULL;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.model");
}

static void missing_and_short_lists_are_refused(void **state) {
    (void)state;
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = NULL;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.tokens is missing");
    vocab = small_bpe();
    vocab.n_tokens = 0;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.tokens is empty");
    vocab = small_bpe();
    vocab.merges = NULL;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.merges is missing");

    static const int32_t types[] = {1, 1, 1, 1};
    vocab = small_bpe();
    vocab.types = types;
    vocab.n_types = 4;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.token_type has 4 entries for 5 tokens");

    static const float scores[] = {0, 1, 2, 3};
    vocab = small_spm();
    vocab.scores = scores;
    vocab.n_scores = 4;
    refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.scores has 4 entries for 5 tokens");

    const float no_number[] = {0, 0, NAN, 0, 0};
    vocab.scores = no_number;
    vocab.n_scores = 5;
    refused(&vocab, ERR_BAD_INPUT, "that of token 2 is no number");
}

static void lists_of_the_wrong_type_are_refused(void **state) {
    (void)state;
    static const char *const list_keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    for (size_t i = 0; i < ARRAY_LEN(list_keys); i++) {
        struct toy_vocab vocab = small_bpe();
        if (i == 0) vocab.tokens = NULL;
        if (i == 1) vocab.merges = NULL;
        struct gguf_writer w;
        gguf_writer_begin(&w);
        toy_vocab_write(&w, &vocab);
        static const int32_t numbers[] = {1, 2, 3};
        gguf_writer_array(&w, list_keys[i], GGUF_I32, 3, numbers);
        struct tok *tok = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(toy_vocab_load(&w, &tok, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.what, "no list of texts"));
        gguf_writer_fini(&w);
    }
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.token_type", "tokenizer.ggml.suppress_tokens", "general.name"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct toy_vocab vocab = small_bpe();
        struct gguf_writer w;
        gguf_writer_begin(&w);
        toy_vocab_write(&w, &vocab);
        gguf_writer_f32(&w, keys[i], 0.5f);
        struct tok *tok = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(toy_vocab_load(&w, &tok, &err), ERR_BAD_INPUT);
        gguf_writer_fini(&w);
    }
}

static void wrong_merges_are_refused_or_never_happen(void **state) {
    (void)state;
    static const char *const shapeless[] = {"", "ab", " a", "a ", "  "};
    for (size_t i = 0; i < ARRAY_LEN(shapeless); i++) {
        struct toy_vocab vocab = small_bpe();
        vocab.merges = &shapeless[i];
        vocab.n_merges = 1;
        refused(&vocab, ERR_BAD_INPUT, "tokenizer.ggml.merges: entry 0");
    }
    /* x, y and xy are no tokens; U+4E00 stands for no byte; the second "a b" is too late. */
    static const char *const odd[] = {"x y", "\xe4\xb8\x80 a", "b c", "a b", "b a", "a b", "c c",
        "cc cc"};
    struct toy_vocab vocab = small_bpe();
    vocab.merges = odd;
    vocab.n_merges = ARRAY_LEN(odd);
    vocab.unk = 2;
    struct tok *tok = loaded(&vocab);
    spells(tok, "abc", 0, "a|b|c");   /* bc first, which is no token: byte by byte */
    spells(tok, "abb", 0, "ab|b");
    spells(tok, "cccc", 0, "c|c|c|c");
    spells(tok, "xy", 0, "c");        /* the unknown token */
    tok_free(tok);
}

static void a_text_that_cannot_be_spelled_is_an_error(void **state) {
    (void)state;
    struct toy_vocab vocab = small_bpe();
    struct tok *tok = loaded(&vocab);
    struct tok_ids ids = {0};
    struct err err = ERR_INIT;
    assert_int_equal(tok_ids_push(&ids, 4, NULL), 0);
    assert_int_equal(tok_encode(tok, "abx", 3, 0, &ids, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.what, "0x78"));
    assert_int_equal(ids.n, 1); /* as before */
    assert_int_equal(tok_encode(tok, "abcab", 5, 0, &ids, NULL), 0);
    assert_int_equal(ids.n, 3);
    tok_ids_fini(&ids);
    tok_free(tok);
}

static void texts_over_the_limit_are_refused(void **state) {
    (void)state;
    struct tok *tok = toy("gpt2");
    struct tok_ids ids = {0};
    char *text = calloc(1, TOK_TEXT_MAX + 1);
    assert_non_null(text);
    assert_int_equal(tok_encode(tok, text, TOK_TEXT_MAX + 1, 0, &ids, NULL), ERR_LIMIT);
    assert_int_equal(ids.n, 0);
    free(text);
    tok_free(tok);
}

static void duplicate_tokens_encode_as_the_first(void **state) {
    (void)state;
    static const char *const twice[] = {"a", "b", "c", "ab", "a", "ab", "abc", "", ""};
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = twice;
    vocab.n_tokens = ARRAY_LEN(twice);
    struct tok *tok = loaded(&vocab);
    struct tok_ids ids = encode(tok, "aab", 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 0);
    assert_int_equal(ids.ids[1], 3);
    assert_int_equal(tok_piece(tok, 5, false).n, 2);
    assert_int_equal(tok_find(tok, "[EMPTY_8]", 9), 8);
    tok_ids_fini(&ids);
    tok_free(tok);
}

static void special_ids_out_of_range_are_ignored(void **state) {
    (void)state;
    log_set_level(LOG_LEVEL_ERR);
    struct toy_vocab vocab = small_bpe();
    vocab.bos = 5;
    vocab.eos = UINT32_MAX;
    struct gguf_writer w;
    gguf_writer_begin(&w);
    toy_vocab_write(&w, &vocab);
    gguf_writer_bool(&w, "tokenizer.ggml.add_bos_token", true);
    static const int32_t suppressed[] = {-1, 3, 5, 1 << 30};
    gguf_writer_array(&w, "tokenizer.ggml.suppress_tokens", GGUF_I32, 4, suppressed);
    struct tok *tok = NULL;
    assert_int_equal(toy_vocab_load(&w, &tok, NULL), 0);
    gguf_writer_fini(&w);
    log_set_level(LOG_LEVEL_WARN);

    assert_int_equal(tok_special(tok, TOK_BOS), TOK_NONE);
    assert_int_equal(tok_special(tok, TOK_EOS), TOK_NONE);
    assert_false(tok_adds_bos(tok));
    struct tok_ids ids = encode(tok, "a", TOK_ADD_SPECIAL);
    assert_int_equal(ids.n, 1);
    size_t n;
    const int32_t *list = tok_suppressed(tok, &n);
    assert_int_equal(n, 1);
    assert_int_equal(list[0], 3);
    tok_ids_fini(&ids);
    tok_free(tok);
}

static void token_types_out_of_range_are_undefined(void **state) {
    (void)state;
    static const int32_t types[] = {1, 1, 1, -7, 99};
    struct toy_vocab vocab = small_bpe();
    vocab.types = types;
    vocab.n_types = 5;
    struct tok *tok = loaded(&vocab);
    assert_int_equal(tok_type(tok, 3), TOK_UNDEFINED);
    assert_int_equal(tok_type(tok, 4), TOK_UNDEFINED);
    assert_int_equal(tok_piece(tok, 4, true).n, 0);
    tok_free(tok);
}

static void tokens_that_are_too_long_are_refused(void **state) {
    (void)state;
    static char huge[9000], mark[1200];
    memset(huge, 'a', sizeof huge - 1);
    memset(mark, 'a', sizeof mark - 1);
    const char *const with_huge[] = {"a", "b", huge}, *const with_mark[] = {"a", "b", mark};
    static const int32_t types[] = {1, 1, TOK_CONTROL};
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = with_huge;
    vocab.n_tokens = 3;
    refused(&vocab, ERR_LIMIT, "token 2 has 8999 bytes");
    vocab.tokens = with_mark;
    vocab.types = types;
    vocab.n_types = 3;
    refused(&vocab, ERR_LIMIT, "special token 2 has 1199 bytes");
}

/* GLM and MiniMax files have such texts; the longest wins wherever it starts. */
static void longer_special_tokens_win_over_earlier_ones(void **state) {
    (void)state;
    struct tok *tok = toy("gpt2");
    spells(tok, "a<|x|>b", 0, "a|<|x|>|b");               /* user-defined: always */
    spells(tok, "<|im_end|>", TOK_PARSE_SPECIAL, "<|im_end|>");
    spells(tok, "<s></s>", TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL, "<s>|<s>|</s>|</s>");
    spells(tok, "<|x<|x|>", 0, "<|x|<|x|>");
    spells(tok, "<|x|<|x|>", 0, "<|x|||<|x|>");
    spells(tok, "<a><b<|x", 0, "<a><b|<|x");
    spells(tok, "<a><a><b", 0, "<|a|>|<a><b");
    tok_free(tok);
}

/* In "abcde" the token bcd (longest) leaves a and e, though abc starts earlier. */
static void overlapping_special_tokens_go_by_length_then_id(void **state) {
    (void)state;
    static const char *const tokens[] = {"a", "b", "c", "d", "e", "abc", "bcde", "cde", "de", "ab"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 4, 4, 4, 4, 4};
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.n_tokens = vocab.n_types = ARRAY_LEN(tokens);
    struct tok *tok = loaded(&vocab);
    spells(tok, "abcde", 0, "a|bcde");
    spells(tok, "abccde", 0, "abc|cde");
    spells(tok, "abcabcd", 0, "abc|abc|d");
    spells(tok, "ababde", 0, "ab|ab|de");
    tok_free(tok);
}

/* The rule as it is defined: each token in turn on all the text that is left. */
static void split_by_definition(const char *const *marks, size_t n_marks, const char *text, char *out) {
    char kind[64] = {0};
    size_t n = strlen(text);
    for (size_t m = 0; m < n_marks; m++) {
        size_t n_mark = strlen(marks[m]);
        for (size_t i = 0; i + n_mark <= n;) {
            bool fits = memcmp(text + i, marks[m], n_mark) == 0;
            for (size_t k = i; k < i + n_mark; k++)
                fits = fits && kind[k] == 0;
            if (fits) {
                memset(kind + i, 1, n_mark);
                kind[i] = 2;
                i += n_mark;
            } else {
                i++;
            }
        }
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && kind[i] != 1) out[at++] = '|';
        out[at++] = text[i];
    }
    out[at] = 0;
}

static void the_search_for_special_tokens_follows_its_definition(void **state) {
    (void)state;
    static const char *const tokens[] = {"a", "b", "ababa", "abab", "bbaa", "aab", "aba", "bb", "aa"};
    static const int32_t types[] = {1, 1, 4, 4, 4, 4, 4, 4, 4};
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.n_tokens = vocab.n_types = ARRAY_LEN(tokens);
    static const char *const never[] = {"b ab"};
    vocab.merges = never;
    vocab.n_merges = 1;
    struct tok *tok = loaded(&vocab);
    struct rng rng;
    rng_init(&rng, 9);
    for (int round = 0; round < 5000; round++) {
        char text[32] = {0}, want[64];
        size_t n = rng_below(&rng, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = rng_below(&rng, 2) ? 'a' : 'b';
        split_by_definition(tokens + 2, ARRAY_LEN(tokens) - 2, text, want);
        spells(tok, text, 0, want);
    }
    tok_free(tok);
}

static void invalid_utf8_is_read_as_replacement_characters(void **state) {
    (void)state;
    static const char *const models[] = {"gpt2", "llama", "gemma4"};
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct tok *tok = toy(models[m]);
        struct rng rng;
        rng_init(&rng, m);
        for (int round = 0; round < 2000; round++) {
            char text[40];
            size_t n = rng_below(&rng, sizeof text);
            for (size_t i = 0; i < n; i++)
                text[i] = (char)(round % 2 ? rng_below(&rng, 256) : 0xc0 + rng_below(&rng, 64));
            if (memchr(text, '\n', n)) continue; /* a token after which SPM adds a space */
            struct tok_ids ids = {0}, clean_ids = {0};
            struct buf clean = {0}, back = {0};
            assert_int_equal(utf8_append(&clean, text, n, NULL), 0);
            assert_int_equal(tok_encode(tok, text, n, 0, &ids, NULL), 0);
            assert_int_equal(tok_encode(tok, clean.bytes ? clean.bytes : "", clean.n_bytes, 0,
                    &clean_ids, NULL), 0);
            assert_int_equal(ids.n, clean_ids.n);
            for (size_t i = 0; i < ids.n; i++)
                assert_int_equal(ids.ids[i], clean_ids.ids[i]);
            assert_int_equal(tok_decode(tok, ids.ids, ids.n, TOK_STRIP_PREFIX, &back, NULL), 0);
            assert_int_equal(back.n_bytes, clean.n_bytes);
            if (back.n_bytes) assert_memory_equal(back.bytes, clean.bytes, back.n_bytes);
            tok_ids_fini(&ids);
            tok_ids_fini(&clean_ids);
            buf_fini(&clean);
            buf_fini(&back);
        }
        tok_free(tok);
    }
}

static void gemma4_merges_whole_lines_in_plain_utf8(void **state) {
    (void)state;
    struct tok *tok = toy("gemma4");
    spells(tok, " the", 0, "\xe2\x96\x81the");
    spells(tok, "in the\xc3\xa9", 0, "in|\xe2\x96\x81the|\xc3\xa9");
    spells(tok, "t\n\n\n\nt", 0, "t|\n\n|\n\n|t"); /* user-defined tokens are cut out before */
    spells(tok, "\n", 0, "\n");
    spells(tok, "\xe6\x97\xa5", 0, "<0xE6>|<0x97>|<0xA5>");
    assert_true(tok_adds_bos(tok));
    tok_free(tok);
}

static void spm_puts_a_space_after_every_special_token(void **state) {
    (void)state;
    struct tok *tok = toy("llama");
    spells(tok, "the", 0, "\xe2\x96\x81the");
    spells(tok, "<|im_end|>the", TOK_PARSE_SPECIAL, "<|im_end|>|\xe2\x96\x81the");
    spells(tok, "the", TOK_CONTINUE, "t|he");
    spells(tok, "", TOK_ADD_SPECIAL, "<s>|</s>");
    tok_free(tok);
}

/* Words are merged one by one only where no token holds a space inside. */
static void spm_merges_across_spaces_where_tokens_do(void **state) {
    (void)state;
    static const char *const tokens[] = {"\xe2\x96\x81", "a", "b", "\xe2\x96\x81" "b",
        "a\xe2\x96\x81", "a\xe2\x96\x81" "b"};
    static const float scores[] = {-9, -9, -9, -3, -2, -1};
    struct toy_vocab vocab = small_spm();
    vocab.tokens = tokens;
    vocab.n_tokens = 4;
    vocab.scores = scores;
    vocab.n_scores = 6;
    struct tok *tok = loaded(&vocab);
    spells(tok, "a b", 0, "\xe2\x96\x81|a|\xe2\x96\x81" "b");
    tok_free(tok);
    vocab.n_tokens = 6;
    tok = loaded(&vocab);
    spells(tok, "a b", 0, "\xe2\x96\x81|a\xe2\x96\x81" "b");
    tok_free(tok);
}

static void gpt_oss_structure_is_text_and_its_end_no_end(void **state) {
    (void)state;
    static const char *const tokens[] = {"a", "<|return|>", "<|call|>", "<|end|>", "<|channel|>",
        "<|start|>", "</s>"};
    static const int32_t types[] = {1, 3, 3, 3, 3, 3, 1};
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.n_tokens = vocab.n_types = ARRAY_LEN(tokens);
    vocab.eos = 1;
    struct tok *tok = loaded(&vocab);
    assert_true(tok_is_eog(tok, 1));
    assert_true(tok_is_eog(tok, 2));
    assert_false(tok_is_eog(tok, 3));
    assert_false(tok_is_eog(tok, 6));
    assert_int_equal(tok_type(tok, 3), TOK_USER_DEFINED);
    assert_int_equal(tok_type(tok, 4), TOK_USER_DEFINED);
    assert_int_equal(tok_piece(tok, 4, false).n, 11);
    assert_int_equal(tok_piece(tok, 1, false).n, 0);
    tok_free(tok);
}

/* 31 lengths of runs are tokens, as in Gemma: every byte of a long run starts 31 occurrences. */
static void long_runs_of_special_tokens_take_seconds_at_most(void **state) {
    (void)state;
    static char runs[31][32];
    const char *tokens[33] = {"a", "x"};
    int32_t types[33] = {1, 1};
    for (int i = 0; i < 31; i++) {
        memset(runs[i], ' ', (size_t)i + 1);
        tokens[i + 2] = runs[i];
        types[i + 2] = TOK_USER_DEFINED;
    }
    struct toy_vocab vocab = small_bpe();
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.n_tokens = vocab.n_types = 33;
    struct tok *tok = loaded(&vocab);
    const size_t n = 1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, ' ', n);
    struct tok_ids ids = {0};
    uint64_t start = mono_now();
    assert_int_equal(tok_encode(tok, text, n, 0, &ids, NULL), 0);
    double seconds = (double)(mono_now() - start) / 1e9;
    print_message("1 MiB of 31 nested special tokens: %.2f s\n", seconds);
    assert_int_equal(ids.n, n / 31 + (n % 31 > 0));
    assert_int_equal(ids.ids[0], 32);
    assert_true(seconds < 30);
    tok_ids_fini(&ids);
    free(text);
    tok_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_tokenizers_are_refused_by_name),
        cmocka_unit_test(missing_and_short_lists_are_refused),
        cmocka_unit_test(lists_of_the_wrong_type_are_refused),
        cmocka_unit_test(wrong_merges_are_refused_or_never_happen),
        cmocka_unit_test(a_text_that_cannot_be_spelled_is_an_error),
        cmocka_unit_test(texts_over_the_limit_are_refused),
        cmocka_unit_test(duplicate_tokens_encode_as_the_first),
        cmocka_unit_test(special_ids_out_of_range_are_ignored),
        cmocka_unit_test(token_types_out_of_range_are_undefined),
        cmocka_unit_test(tokens_that_are_too_long_are_refused),
        cmocka_unit_test(longer_special_tokens_win_over_earlier_ones),
        cmocka_unit_test(overlapping_special_tokens_go_by_length_then_id),
        cmocka_unit_test(the_search_for_special_tokens_follows_its_definition),
        cmocka_unit_test(invalid_utf8_is_read_as_replacement_characters),
        cmocka_unit_test(gemma4_merges_whole_lines_in_plain_utf8),
        cmocka_unit_test(spm_puts_a_space_after_every_special_token),
        cmocka_unit_test(spm_merges_across_spaces_where_tokens_do),
        cmocka_unit_test(gpt_oss_structure_is_text_and_its_end_no_end),
        cmocka_unit_test(long_runs_of_special_tokens_take_seconds_at_most),
    };
    return cmocka_run_group_tests_name("tok_bad", tests, NULL, NULL);
}
