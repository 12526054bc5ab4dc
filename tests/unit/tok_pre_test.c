/* tok_pre_test.c - how pre-tokenizers cut texts: worked examples for each set of patterns, the
 * rewritten patterns against the form in which the models define them, and long runs. */
#include "coordinator/text/tok_pre.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"
#include "proto/base/mono.h"
#include "proto/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ACUTE "\xcc\x81" /* a combining mark */
#define E_ACUTE "e\xcc\x81"
#define NIHONGO "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"
#define TESUTO "\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88"

/* The pieces, with a bar between them. */
struct example {
    const char *pre;
    const char *want;
};

static const struct example examples[] = {
    {"gpt-2", "I|'|LL| we|'re"},
    {"llama-bpe", "I|'LL| we|'re"},
    {"qwen2", "I|'LL| we|'re"},
    {"qwen35", "I|'LL| we|'re"},
    {"deepseek-v3", "I|'LL| we|'re"},
    {"gpt-4o", "I'LL| we're"},
    {"tekken", "I|'LL| we|'re"},
    {"kimi-k2", "I'LL| we're"},
    {"deepseek-llm", "I|'|LL| we|'|re"},
    {"falcon", "I|'|LL| we|'|re"},

    {"gpt-2", " | Hello| | World"},
    {"llama-bpe", " | Hello| | World"},
    {"deepseek-v3", " | Hello| | World"},
    {"kimi-k2", " | Hello| | World"},
    {"deepseek-llm", " | Hello| | World"},

    {"gpt-2", "x|\n\n | y"},
    {"llama-bpe", "x|\n\n| | y"},
    {"qwen35", "x|\n\n| | y"},
    {"kimi-k2", "x|\n\n| | y"},
    {"deepseek-llm", "x|\n|\n| | y"},
    {"falcon", "x|\n\n | y"},

    {"gpt-2", "12345| 67"},
    {"llama-bpe", "123|45| |67"},
    {"qwen2", "1|2|3|4|5| |6|7"},
    {"qwen35", "1|2|3|4|5| |6|7"},
    {"deepseek-v3", "123|45| |67"},
    {"gpt-4o", "123|45| |67"},
    {"tekken", "1|2|3|4|5| |6|7"},
    {"kimi-k2", "123|45| |67"},
    {"deepseek-llm", "12345| |67"},
    {"falcon", "123|45| 67"},
    {"refact", "1|2|3|4|5| |6|7"},
    {"superbpe", "12|345| |67"},
    {"afmoe", "12|345| |67"},
    {"tiny_aya", "12|345| |67"},

    {"gpt-2", "camelCase"},
    {"deepseek-v3", "camelCase"},
    {"gpt-4o", "camel|Case"},
    {"tekken", "camel|Case"},
    {"kimi-k2", "camel|Case"},

    {"gpt-2", "e|" ACUTE "|t|" ACUTE},
    {"llama-bpe", "e|" ACUTE "t|" ACUTE},
    {"qwen35", "e" ACUTE "t" ACUTE},
    {"deepseek-v3", "e" ACUTE "t" ACUTE},
    {"gpt-4o", "e" ACUTE "t" ACUTE},
    {"kimi-k2", "e" ACUTE "t" ACUTE},

    {"gpt-2", "foo|(|bar|);| ~/|x"},
    {"llama-bpe", "foo|(bar|);| ~/|x"},
    {"deepseek-v3", "foo|(bar|);| ~/|x"},
    {"gpt-4o", "foo|(bar|);| ~/|x"},
    {"deepseek-llm", "foo|(|bar|);| ~/|x"},
    {"falcon", "foo|(|bar|);| |~/|x"},

    {"gpt-2", NIHONGO TESUTO "| ok"},
    {"llama-bpe", NIHONGO TESUTO "| ok"},
    {"kimi-k2", NIHONGO "|" TESUTO "| ok"},
    {"deepseek-llm", NIHONGO TESUTO "| ok"},

    {"gpt-2", "don|'t|!|\n|\n|Hi"},
    {"llama-bpe", "don|'t|!\n\n|Hi"},
    {"gpt-4o", "don't|!\n\n|Hi"},
    {"tekken", "don|'t|!\n\n|Hi"},
    {"deepseek-llm", "don|'|t|!|\n|\n|Hi"},
    {"falcon", "don|'|t|!|\n|\n|Hi"},
    {"seed-coder", "don|'t|!|\n\n|Hi"},

    /* U+180E is no space; a long s is no s; U+3001 is no Han; U+3005 is. */
    {"llama-bpe", "a|\xe1\xa0\x8e|1"},
    {"llama-bpe", "a| |1"},
    {"llama-bpe", "it|'\xc5\xbf"},
    {"kimi-k2", NIHONGO "|\xe3\x80\x81|" NIHONGO "\xe3\x80\x85"},

    {"gemma4", "two words|\n\n|and more"},
    {"default", "a|+=|b"},
    {"", "a|+=|b"},
    {"bloom", "one| two|,| three"},
    {"viking", "one| |2|2"},
    {"exaone-moe", "joined words here|.| |1"},
    {"tiny_aya", "123|4|a"}, /* not at a word's end: from the left */
    {"superbpe", "a b c |1|234|567| d"},
    {"chameleon", "<|sentinel|:|1|2|>|x|IMGIMGABZ"}, /* later steps cut inside earlier pieces */
    {"youtu", NIHONGO TESUTO "| ok|\xef\xbc\x8c|1|2"},
    {"jais-2", "x|        |  | y"},
};

static struct tok_pre *open_pre(const char *name) {
    const struct pre_entry *entry = pre_find(name, strlen(name));
    if (!entry) fail_msg("no pre-tokenizer %s", name);
    struct tok_pre *pre = NULL;
    struct err err = ERR_INIT;
    if (tok_pre_new(entry, &pre, &err) < 0) fail_msg("%s", err.what);
    return pre;
}

/* Appends the pieces with bars between them. */
static void cut_to_text(const struct tok_pre *pre, const char *text, size_t n, struct buf *out) {
    struct pre_cuts cuts = {0};
    assert_int_equal(tok_pre_cut(pre, text, n, &cuts, NULL), 0);
    size_t from = 0;
    for (size_t i = 0; i < cuts.n; i++) {
        assert_true(cuts.ends[i] > from);
        if (from > 0) assert_int_equal(buf_append(out, "|", 1, NULL), 0);
        assert_int_equal(buf_append(out, text + from, cuts.ends[i] - from, NULL), 0);
        from = cuts.ends[i];
    }
    assert_int_equal(from, n);
    pre_cuts_fini(&cuts);
}

static void texts_are_cut_as_the_models_were_trained(void **state) {
    (void)state;
    int n_wrong = 0;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        char text[128];
        size_t n = 0;
        for (const char *c = examples[i].want; *c; c++)
            if (*c != '|') text[n++] = *c;
        struct tok_pre *pre = open_pre(examples[i].pre);
        struct buf got = {0};
        cut_to_text(pre, text, n, &got);
        if (strcmp(got.bytes, examples[i].want) != 0) {
            print_error("%s: got \"%s\", expected \"%s\"\n", examples[i].pre, got.bytes,
                    examples[i].want);
            n_wrong++;
        }
        buf_fini(&got);
        tok_pre_free(pre);
    }
    assert_int_equal(n_wrong, 0);
}

static const char *const bits[] = {
    "a", "B", "zz", " ", "  ", "   ", "\n", "\r\n", "\t", "'s", "'LL", "'", "1", "23", "456", "1234",
    ".", "!?", "/", "_", "(", "\xc3\xa9", ACUTE, E_ACUTE, "\xc3\x89", NIHONGO, TESUTO, "\xc2\xa0",
    "\xe3\x80\x80", "\xe2\x80\x83", "\xf0\x9f\x98\x80", "\xc2\xb2", "\xd9\xa3",
};

static size_t random_text(struct rng *rng, char *text, size_t room, uint64_t n_bits) {
    size_t n = 0;
    for (uint64_t k = rng_below(rng, n_bits); k > 0; k--) {
        const char *bit = bits[rng_below(rng, ARRAY_LEN(bits))];
        if (n + strlen(bit) > room) break;
        memcpy(text + n, bit, strlen(bit));
        n += strlen(bit);
    }
    return n;
}

/* The patterns of three definitions, before they were rewritten to run in linear time. */
#define WS "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"         \
           "\\x{202f}\\x{205f}\\x{3000}"
#define S "[" WS "]"
#define NS "[^" WS "]"
#define C "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"

static const struct pre_step exaone_moe_defined[] = {
    {C "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^" WS "\\p{L}\\p{N}]+"
       "[\\r\\n/]?|" S "*[\\r\\n]|" S "+(?!" NS ")|" S "+", 0}, {0}};
static const struct pre_step jais2_defined[] = {
    {C "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" S "*[\\r\\n]+|"
       S "{512}(?!" NS ")|" S "{256}(?!" NS ")|" S "{128}(?!" NS ")|" S "{64}(?!" NS ")|" S "{32}(?!"
       NS ")|" S "{16}(?!" NS ")|" S "{8}(?!" NS ")|" S "{4}(?!" NS ")|" S "{1,2}(?!" NS ")|" S "{1}",
       0}, {0}};
static const struct pre_step superbpe_defined[] = {
    {"\\p{N}+", 0}, {"(?=(\\d{3})+(?!\\d))", 0}, {0}};
static const struct pre_step tiny_aya_defined[] = {
    {"\\d{1,3}(?=(?:\\d{3})*\\b)", 0}, {0}};
static const struct pre_step tiny_aya_rewritten[] = {
    {"(?<!\\d)\\d++\\b", PRE_CUT_THREES}, {0}};
static const struct pre_step spaces_at_end_defined[] = {{S "+$", 0}, {0}};
static const struct pre_step spaces_at_end_rewritten[] = {{"(?<!" S ")" S "++$", 0}, {0}};

static void check_same_cuts(const struct pre_entry *one, const struct pre_entry *other) {
    struct tok_pre *pre_one = NULL, *pre_other = NULL;
    assert_int_equal(tok_pre_new(one, &pre_one, NULL), 0);
    assert_int_equal(tok_pre_new(other, &pre_other, NULL), 0);
    struct rng rng;
    rng_init(&rng, 11);
    for (int i = 0; i < 4000; i++) {
        char text[512];
        size_t n = random_text(&rng, text, sizeof text, i % 2 ? 12 : 60);
        struct buf got = {0}, want = {0};
        cut_to_text(pre_one, text, n, &want);
        cut_to_text(pre_other, text, n, &got);
        if (n && strcmp(got.bytes, want.bytes) != 0)
            fail_msg("%s, text %d: got \"%s\", expected \"%s\"", other->name, i, got.bytes,
                    want.bytes);
        buf_fini(&got);
        buf_fini(&want);
    }
    tok_pre_free(pre_one);
    tok_pre_free(pre_other);
}

static void rewritten_patterns_cut_like_their_definitions(void **state) {
    (void)state;
    check_same_cuts(&(struct pre_entry){"definition", exaone_moe_defined, 0},
            pre_find("exaone-moe", 10));
    check_same_cuts(&(struct pre_entry){"definition", jais2_defined, 0}, pre_find("jais-2", 6));
    check_same_cuts(&(struct pre_entry){"definition", superbpe_defined, 0},
            pre_find("superbpe", 8));
    check_same_cuts(&(struct pre_entry){"definition", tiny_aya_defined, 0},
            &(struct pre_entry){"tiny_aya", tiny_aya_rewritten, 0});
    check_same_cuts(&(struct pre_entry){"definition", spaces_at_end_defined, 0},
            &(struct pre_entry){"deepseek-llm", spaces_at_end_rewritten, 0});
}

static const char *const each_set[] = {
    "gpt-2", "llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "kimi-k2", "deepseek-v3",
    "deepseek-llm", "deepseek-coder", "refact", "falcon", "default", "gemma4", "jais-2", "seed-coder",
    "bailingmoe", "exaone-moe", "superbpe", "tiny_aya", "afmoe", "youtu", "bloom", "viking",
    "chameleon",
};

static void every_set_keeps_all_bytes_of_random_texts(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t s = 0; s < ARRAY_LEN(each_set); s++) {
        struct tok_pre *pre = open_pre(each_set[s]);
        for (int i = 0; i < 300; i++) {
            char text[512];
            size_t n = random_text(&rng, text, sizeof text, 60);
            struct buf got = {0};
            cut_to_text(pre, text, n, &got); /* checks that nothing is lost */
            buf_fini(&got);
        }
        tok_pre_free(pre);
    }
}

static void long_runs_are_cut_in_linear_time(void **state) {
    (void)state;
    static const char *const runs[] = {
        "a", "A", " ", "\n", "1", "!", "'", "\xe3\x81\x82", "\xe6\x97\xa5", E_ACUTE, "a ", " \n",
        "\t", "aA", "1a", ".1", "\xc2\xa0",
    };
    const size_t n = 1 << 17;
    char *text = malloc(n + 8);
    assert_non_null(text);
    for (size_t s = 0; s < ARRAY_LEN(each_set); s++) {
        struct tok_pre *pre = open_pre(each_set[s]);
        struct pre_cuts cuts = {0};
        for (size_t r = 0; r < ARRAY_LEN(runs); r++) {
            for (int tail = 0; tail < 2; tail++) { /* alone, and with a letter behind */
                size_t n_run = strlen(runs[r]), end = n / n_run * n_run;
                for (size_t i = 0; i < end; i += n_run)
                    memcpy(text + i, runs[r], n_run);
                if (tail) text[end++] = 'x';
                uint64_t start = mono_now();
                assert_int_equal(tok_pre_cut(pre, text, end, &cuts, NULL), 0);
                double ms = (double)(mono_now() - start) / 1e6;
                if (ms > 250)
                    print_message("%s: 128 KiB of \"%s\"%s: %.0f ms\n", each_set[s], runs[r],
                            tail ? " and x" : "", ms);
                assert_true(ms < 10000);
                assert_int_equal(cuts.ends[cuts.n - 1], end);
            }
        }
        pre_cuts_fini(&cuts);
        tok_pre_free(pre);
    }
    free(text);
}

static void a_pattern_that_gives_up_leaves_even_pieces(void **state) {
    (void)state;
    /* Needs a stack frame for each letter. */
    static const struct pre_step greedy[] = {{"(?:\\p{L}(?=.))+\\d", 0}, {0}};
    const struct pre_entry entry = {"greedy", greedy, 0};
    struct tok_pre *pre = NULL;
    assert_int_equal(tok_pre_new(&entry, &pre, NULL), 0);
    const size_t n = 3 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i += 3)
        memcpy(text + i, "\xe3\x81\x82", 3);
    struct pre_cuts cuts = {0};
    assert_int_equal(tok_pre_cut(pre, text, n, &cuts, NULL), 0);
    assert_true(cuts.n >= n / 4096);
    size_t from = 0;
    for (size_t i = 0; i < cuts.n; i++) {
        assert_true(cuts.ends[i] > from && cuts.ends[i] - from <= 4096);
        assert_int_equal(cuts.ends[i] % 3, 0); /* at characters' borders */
        from = cuts.ends[i];
    }
    assert_int_equal(from, n);
    pre_cuts_fini(&cuts);
    tok_pre_free(pre);
    free(text);
}

static void names_are_found_exactly(void **state) {
    (void)state;
    assert_null(pre_find("qwen", 4));
    assert_null(pre_find("qwen2 ", 6));
    assert_null(pre_find("qwen3", 5));
    assert_string_equal(pre_find("qwen2", 5)->name, "qwen2");
    assert_string_equal(pre_find("", 0)->name, "default");
    assert_true(pre_find("llama-bpe", 9)->traits & PRE_WHOLE_WORDS);
    assert_true(pre_find("tekken", 6)->traits & PRE_ADD_BOS);
    assert_false(pre_find("glm4", 4)->traits & PRE_ADD_BOS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_as_the_models_were_trained),
        cmocka_unit_test(rewritten_patterns_cut_like_their_definitions),
        cmocka_unit_test(every_set_keeps_all_bytes_of_random_texts),
        cmocka_unit_test(long_runs_are_cut_in_linear_time),
        cmocka_unit_test(a_pattern_that_gives_up_leaves_even_pieces),
        cmocka_unit_test(names_are_found_exactly),
    };
    return cmocka_run_group_tests_name("tok_pre", tests, NULL, NULL);
}
