/* tok_test.c - the tokenizer against reference vectors and model files, and its promises about
 * round trips and streams. */
#include "coordinator/text/tok.h"

#include "coordinator/text/utf8.h"
#include "proto/base/checked.h"
#include "proto/base/mono.h"
#include "proto/base/rng.h"

#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHOW_ALL TOK_SHOW_SPECIAL

static const char *const vector_names[] = {
    "gpt-2", "deepseek-llm", "falcon", "refact", "qwen2", "llama-spm", "phi-3",
};

static double seconds_since(uint64_t start_ns) {
    return (double)(mono_now() - start_ns) / 1e9;
}

static const char *shared(const char *name, char out_path[512]) {
    const char *folder = getenv("POTLUCK_SHARED");
    snprintf(out_path, 512, "%s/%s", folder ? folder : "../shared", name);
    return out_path;
}

/* The vocabulary of a file under shared/; fails the test when it cannot be loaded. */
static struct tok *load(const char *name) {
    char path[512];
    struct err err = ERR_INIT;
    struct gguf *gguf = NULL;
    struct tok *tok = NULL;
    if (gguf_open(shared(name, path), &gguf, &err) < 0 || tok_load(gguf, &tok, &err) < 0)
        fail_msg("%s: %s: %s", path, err.where, err.what);
    gguf_free(gguf); /* the tokenizer keeps nothing of it */
    return tok;
}

static struct tok *load_vocab(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "reference/vectors/tokenizers/ggml-vocab-%s.gguf", name);
    return load(path);
}

static json_t *load_json(const char *name) {
    char path[512];
    json_error_t error;
    json_t *json = json_load_file(shared(name, path), JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s: line %d: %s", path, error.line, error.text);
    return json;
}

static struct tok_ids encode(const struct tok *tok, const char *text, size_t n, unsigned flags) {
    struct tok_ids ids = {0};
    struct err err = ERR_INIT;
    if (tok_encode(tok, text, n, flags, &ids, &err) < 0) fail_msg("%s", err.what);
    return ids;
}

static struct buf decode(const struct tok *tok, const int32_t *ids, size_t n, unsigned flags) {
    struct buf text = {0};
    assert_int_equal(tok_decode(tok, ids, n, flags, &text, NULL), 0);
    return text;
}

/* Compares ids with a JSON list; prints both where they part. */
static bool same_ids(const char *what, const struct tok_ids *got, const json_t *want) {
    size_t n = json_array_size(want), at = 0;
    while (at < n && at < got->n && json_integer_value(json_array_get(want, at)) == got->ids[at])
        at++;
    if (at == n && at == got->n) return true;
    print_error("%s: %zu ids, expected %zu; from %zu got", what, got->n, n, at);
    for (size_t i = at; i < got->n && i < at + 8; i++)
        print_error(" %d", (int)got->ids[i]);
    print_error("; expected");
    for (size_t i = at; i < n && i < at + 8; i++)
        print_error(" %d", (int)json_integer_value(json_array_get(want, i)));
    print_error("\n");
    return false;
}

static bool case_passes(const struct tok *tok, const json_t *test, const char *what) {
    const json_t *text = json_object_get(test, "text");
    unsigned flags = json_is_true(json_object_get(test, "add_special")) ? TOK_ADD_SPECIAL : 0;
    if (json_is_true(json_object_get(test, "parse_special"))) flags |= TOK_PARSE_SPECIAL;
    struct tok_ids ids = encode(tok, json_string_value(text), json_string_length(text), flags);
    bool same = same_ids(what, &ids, json_object_get(test, "ids"));

    const json_t *want = json_object_get(test, "detok");
    if (!want) want = text;
    struct buf got = decode(tok, ids.ids, ids.n, SHOW_ALL);
    if (same && (got.n_bytes != json_string_length(want)
                || memcmp(got.bytes ? got.bytes : "", json_string_value(want), got.n_bytes) != 0)) {
        print_error("%s: decoded \"%s\", expected \"%s\"\n", what, got.bytes,
                json_string_value(want));
        same = false;
    }
    buf_fini(&got);
    tok_ids_fini(&ids);
    return same;
}

static void reference_vectors_pass(void **state) {
    (void)state;
    size_t n_cases = 0, n_passed = 0;
    for (size_t v = 0; v < ARRAY_LEN(vector_names); v++) {
        char path[256], what[64];
        snprintf(path, sizeof path, "reference/vectors/tokenizers/%s.json", vector_names[v]);
        json_t *json = load_json(path);
        struct tok *tok = load_vocab(vector_names[v]);
        assert_int_equal(tok_n_vocab(tok), json_integer_value(json_object_get(json, "n_vocab")));
        const json_t *cases = json_object_get(json, "cases");
        for (size_t i = 0; i < json_array_size(cases); i++) {
            snprintf(what, sizeof what, "%s case %zu", vector_names[v], i);
            n_passed += case_passes(tok, json_array_get(cases, i), what);
            n_cases++;
        }
        tok_free(tok);
        json_decref(json);
    }
    print_message("%zu of %zu vectors pass\n", n_passed, n_cases);
    assert_true(n_cases > 900);
    assert_int_equal(n_passed, n_cases);
}

/* Text and tokens under these keys of a JSON file. */
static bool file_passes(const struct tok *tok, const json_t *json, const char *text_key,
        const char *ids_key, const char *what) {
    const json_t *text = json_object_get(json, text_key);
    struct tok_ids ids = encode(tok, json_string_value(text), json_string_length(text),
            TOK_PARSE_SPECIAL);
    bool same = same_ids(what, &ids, json_object_get(json, ids_key));
    tok_ids_fini(&ids);
    return same;
}

static void every_tiny_model_gives_the_tokens_of_its_text(void **state) {
    (void)state;
    char folder[512];
    DIR *dir = opendir(shared("models/tiny", folder));
    assert_non_null(dir);
    size_t n = 0;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".json") != 0) continue;
        char name[300];
        snprintf(name, sizeof name, "models/tiny/%s", entry->d_name);
        json_t *json = load_json(name);
        snprintf(name, sizeof name, "models/tiny/%.*s.gguf", (int)(dot - entry->d_name),
                entry->d_name);
        struct tok *tok = load(name);
        assert_true(file_passes(tok, json, "text", "tokens", name));
        assert_true(tok_is_eog(tok, tok_find(tok, "<|im_end|>", 10)));
        tok_free(tok);
        json_decref(json);
        n++;
    }
    closedir(dir);
    assert_true(n >= 29);
}

static void the_demo_model_gives_its_expected_tokens(void **state) {
    (void)state;
    json_t *json = load_json("models/demo/expected.json");
    struct tok *tok = load("models/demo/potluck-demo.gguf");
    assert_true(file_passes(tok, json, "text", "text_token_ids", "demo text"));

    const json_t *greedy = json_object_get(json, "greedy");
    assert_true(json_array_size(greedy) > 0);
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        const json_t *row = json_array_get(greedy, i);
        char prompt[512];
        snprintf(prompt, sizeof prompt,
                "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
                json_string_value(json_object_get(row, "prompt")));
        struct tok_ids ids = encode(tok, prompt, strlen(prompt), TOK_PARSE_SPECIAL);
        assert_true(same_ids("demo prompt", &ids, json_object_get(row, "prompt_token_ids")));
        tok_ids_fini(&ids);

        const json_t *answer = json_object_get(row, "greedy_token_ids");
        for (size_t k = 0; k < json_array_size(answer); k++)
            assert_int_equal(tok_ids_push(&ids,
                    (int32_t)json_integer_value(json_array_get(answer, k)), NULL), 0);
        struct buf text = decode(tok, ids.ids, ids.n, 0);
        assert_string_equal(text.bytes, json_string_value(json_object_get(row, "greedy_text")));
        buf_fini(&text);
        tok_ids_fini(&ids);
    }
    tok_free(tok);
    json_decref(json);
}

static void smollm2_gives_its_expected_tokens(void **state) {
    (void)state;
    char path[512];
    const char *name = "models/real/SmolLM2-135M-Instruct.Q4_1.gguf";
    FILE *file = fopen(shared(name, path), "rb");
    if (!file) skip(); /* not shipped with the vectors */
    fclose(file);
    json_t *json = load_json("models/real/smollm2-135m.json");
    struct tok *tok = load(name);
    assert_true(file_passes(tok, json, "prompt", "prompt_token_ids", "smollm2 prompt"));
    struct buf prose = {0};
    assert_int_equal(buf_read_file(&prose, shared("models/real/prose.txt", path), 1 << 20, NULL), 0);
    struct tok_ids ids = encode(tok, prose.bytes, prose.n_bytes, 0);
    assert_true(same_ids("smollm2 prose", &ids, json_object_get(json, "token_ids")));
    tok_ids_fini(&ids);
    buf_fini(&prose);
    tok_free(tok);
    json_decref(json);
}

/* Characters that exercise pre-tokenizers: cases, marks, digits, spaces, scripts, emoji. */
static const char *const bits[] = {
    "a", "Z", "the", " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "1", "234", ".", "!?", "~/", "_",
    "\xc3\xa9", "e\xcc\x81", "\xc3\x89", "\xd0\x9f\xd1\x80", "\xe6\x97\xa5\xe6\x9c\xac",
    "\xe3\x83\x86", "\xe0\xa4\x95\xe0\xa5\x8d", "\xf0\x9f\x98\x80", "\xc2\xa0", "\xe3\x80\x80",
    "\xe1\xa0\x8e", "\xe2\x80\x99", "\xc2\xb2", "<|im_start|>", "</s>", "<s>", "\xe2\x96\x81",
    "\x01", "\x7f", "\xf3\xa0\x80\x81",
};

static size_t random_text(struct rng *rng, char *text, size_t room) {
    size_t n = 0;
    for (uint64_t k = rng_below(rng, 40); k > 0; k--) {
        const char *bit = bits[rng_below(rng, ARRAY_LEN(bits))];
        if (n + strlen(bit) >= room) break;
        memcpy(text + n, bit, strlen(bit));
        n += strlen(bit);
    }
    return n;
}

/* SentencePiece reads U+2581 as a space, so it is left out there, and an added prefix space is
 * dropped again. */
static void check_round_trips(const char *vocab, uint64_t seed, int n_texts) {
    struct tok *tok = load_vocab(vocab);
    bool spm = strcmp(tok_model_name(tok), "llama") == 0;
    struct rng rng;
    rng_init(&rng, seed);
    for (int i = 0; i < n_texts; i++) {
        char text[1024];
        size_t n = random_text(&rng, text, sizeof text - 1);
        text[n] = 0;
        if (spm && strstr(text, "\xe2\x96\x81")) continue;
        struct tok_ids ids = encode(tok, text, n, 0);
        struct buf back = decode(tok, ids.ids, ids.n, TOK_STRIP_PREFIX);
        if (back.n_bytes != n || memcmp(back.bytes ? back.bytes : "", text, n) != 0)
            fail_msg("%s, seed %llu, text %d: \"%s\" came back as \"%s\"", vocab,
                    (unsigned long long)seed, i, text, back.bytes);
        buf_fini(&back);
        tok_ids_fini(&ids);
    }
    tok_free(tok);
}

static void texts_come_back_from_their_tokens(void **state) {
    (void)state;
    check_round_trips("qwen2", 1, 400);
    check_round_trips("gpt-2", 2, 400);
    check_round_trips("falcon", 3, 400);
    check_round_trips("deepseek-llm", 4, 400);
    check_round_trips("refact", 5, 400);
    check_round_trips("llama-spm", 6, 400);
}

static void check_stream(const struct tok *tok, const int32_t *ids, size_t n, unsigned flags) {
    struct buf whole = decode(tok, ids, n, flags), streamed = {0}, raw = {0}, clean = {0};
    struct tok_stream stream;
    tok_stream_init(&stream, tok, flags);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tok_stream_push(&stream, ids[i], &streamed, NULL), 0);
        assert_true(utf8_valid(streamed.bytes, streamed.n_bytes));
        assert_true(stream.n_held <= 3);
    }
    assert_int_equal(tok_stream_finish(&stream, &streamed, NULL), 0);
    assert_int_equal(streamed.n_bytes, whole.n_bytes);
    if (whole.n_bytes) assert_memory_equal(streamed.bytes, whole.bytes, whole.n_bytes);

    /* The same from the raw pieces, cleaned at once. */
    for (size_t i = 0; i < n; i++) {
        struct tok_text piece = tok_piece(tok, ids[i], (flags & TOK_SHOW_SPECIAL) != 0);
        assert_int_equal(buf_append(&raw, piece.bytes, piece.n, NULL), 0);
    }
    assert_int_equal(utf8_append(&clean, raw.bytes ? raw.bytes : "", raw.n_bytes, NULL), 0);
    assert_int_equal(clean.n_bytes, whole.n_bytes);
    if (whole.n_bytes) assert_memory_equal(clean.bytes, whole.bytes, whole.n_bytes);
    buf_fini(&whole);
    buf_fini(&streamed);
    buf_fini(&raw);
    buf_fini(&clean);
}

static void a_stream_gives_whole_characters_and_the_same_text(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2", "llama-spm"};
    for (size_t v = 0; v < ARRAY_LEN(names); v++) {
        struct tok *tok = load_vocab(names[v]);
        struct rng rng;
        rng_init(&rng, 7 + v);
        for (int round = 0; round < 2000; round++) {
            int32_t ids[24];
            size_t n = rng_below(&rng, ARRAY_LEN(ids));
            for (size_t i = 0; i < n; i++) { /* many single bytes: broken characters */
                bool byte = rng_below(&rng, 2) == 0;
                ids[i] = (int32_t)rng_below(&rng, byte ? 260 : tok_n_vocab(tok) + 2u) - 1;
            }
            check_stream(tok, ids, n, round % 2 ? TOK_SHOW_SPECIAL : 0);
        }
        tok_free(tok);
    }
}

static void spm_drops_the_prefix_space_only_when_told(void **state) {
    (void)state;
    struct tok *tok = load_vocab("llama-spm");
    struct tok_ids ids = encode(tok, "Hello world", 11, TOK_ADD_SPECIAL);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 15043);
    struct buf text = decode(tok, ids.ids, ids.n, TOK_STRIP_PREFIX);
    assert_string_equal(text.bytes, "Hello world");
    buf_fini(&text);
    text = decode(tok, ids.ids, ids.n, 0); /* generated text: its first space is real */
    assert_string_equal(text.bytes, " Hello world");
    buf_fini(&text);
    tok_ids_fini(&ids);

    ids = encode(tok, "Hello", 5, TOK_CONTINUE);
    text = decode(tok, ids.ids, ids.n, 0);
    assert_string_equal(text.bytes, "Hello");
    buf_fini(&text);
    tok_ids_fini(&ids);
    tok_free(tok);
}

static void check_eog(const char *vocab, const int32_t *want, size_t n) {
    struct tok *tok = load_vocab(vocab);
    size_t found = 0;
    for (int32_t id = -1; id <= (int32_t)tok_n_vocab(tok); id++) {
        if (!tok_is_eog(tok, id)) continue;
        if (found >= n || want[found] != id) fail_msg("%s: %d must not end answers", vocab, (int)id);
        found++;
    }
    assert_int_equal(found, n);
    tok_free(tok);
}

static void end_of_generation_sets_are_right(void **state) {
    (void)state;
    /* Not 128247, the HTML tag </s>, which is an ordinary token there. */
    static const int32_t qwen[] = {151643, 151645, 151662, 151663, 151664};
    static const int32_t phi3[] = {2, 32000, 32007};
    static const int32_t deepseek[] = {100001};
    static const int32_t falcon[] = {11};
    static const int32_t llama[] = {2};
    check_eog("qwen2", qwen, ARRAY_LEN(qwen));
    check_eog("phi-3", phi3, ARRAY_LEN(phi3));
    check_eog("deepseek-llm", deepseek, ARRAY_LEN(deepseek));
    check_eog("falcon", falcon, ARRAY_LEN(falcon));
    check_eog("llama-spm", llama, ARRAY_LEN(llama));
}

static void special_ids_are_found_by_key_and_by_text(void **state) {
    (void)state;
    struct tok *tok = load_vocab("qwen2");
    assert_string_equal(tok_model_name(tok), "gpt2");
    assert_string_equal(tok_pre_name(tok), "qwen2");
    assert_int_equal(tok_special(tok, TOK_BOS), 151643);
    assert_int_equal(tok_special(tok, TOK_EOS), 151645);
    assert_int_equal(tok_special(tok, TOK_EOT), 151645);
    assert_int_equal(tok_special(tok, TOK_FIM_MID), 151660);
    assert_int_equal(tok_special(tok, TOK_UNK), TOK_NONE);
    assert_int_equal(tok_type(tok, 151645), TOK_CONTROL);
    assert_int_equal(tok_type(tok, 0), TOK_NORMAL);
    assert_int_equal(tok_type(tok, 151935), TOK_UNUSED);
    assert_int_equal(tok_type(tok, -5), TOK_UNDEFINED);
    assert_false(tok_adds_bos(tok));
    assert_int_equal(tok_find(tok, "nowhere in it", 13), TOK_NONE);
    assert_int_equal(tok_piece(tok, 151645, false).n, 0);
    assert_int_equal(tok_piece(tok, 151645, true).n, 10);
    assert_int_equal(tok_piece(tok, INT32_MAX, true).n, 0);
    tok_free(tok);
}

static void special_texts_count_only_when_asked_for(void **state) {
    (void)state;
    struct tok *tok = load_vocab("qwen2");
    const char *text = "a<|im_end|>b";
    struct tok_ids ids = encode(tok, text, strlen(text), TOK_PARSE_SPECIAL);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[1], 151645);
    ids.n = 0;
    assert_int_equal(tok_encode(tok, text, strlen(text), 0, &ids, NULL), 0);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_not_equal(ids.ids[i], 151645);
    tok_ids_fini(&ids);
    tok_free(tok);
}

static void *encode_again_and_again(void *arg) {
    const struct tok *tok = arg;
    const char *text = "<|im_start|>user\nHow much is 12345 + 678?<|im_end|>\n";
    for (int i = 0; i < 200; i++) {
        struct tok_ids ids = {0};
        struct buf back = {0};
        bool fine = tok_encode(tok, text, strlen(text), TOK_PARSE_SPECIAL, &ids, NULL) == 0
                && tok_decode(tok, ids.ids, ids.n, TOK_SHOW_SPECIAL, &back, NULL) == 0
                && strcmp(back.bytes, text) == 0;
        tok_ids_fini(&ids);
        buf_fini(&back);
        if (!fine) return arg;
    }
    return NULL;
}

static void threads_may_share_a_tokenizer(void **state) {
    (void)state;
    struct tok *tok = load_vocab("qwen2");
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_again_and_again, tok), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *wrong = tok;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    tok_free(tok);
}

static void a_big_vocabulary_loads_fast(void **state) {
    (void)state;
    uint64_t start = mono_now();
    struct tok *tok = load_vocab("qwen2");
    double ms = seconds_since(start) * 1e3;
    print_message("qwen2's vocabulary of 151936 tokens: %.0f ms\n", ms);
    tok_free(tok);
    assert_true(ms < 5000); /* sanitizers and busy machines included */
}

static void runs_of_a_mebibyte_take_seconds_at_most(void **state) {
    (void)state;
    static const char *const runs[] = {"a", " ", "\n", "A", "1", "!", "\xe3\x81\x82", "\t", "a ",
        " \n", "<|"};
    static const char *const names[] = {"qwen2", "deepseek-llm", "llama-spm"};
    char *text = malloc(1 << 20);
    assert_non_null(text);
    for (size_t v = 0; v < ARRAY_LEN(names); v++) {
        struct tok *tok = load_vocab(names[v]);
        for (size_t r = 0; r < ARRAY_LEN(runs); r++) {
            size_t n_run = strlen(runs[r]), n = r < 3 ? 1 << 20 : 1 << 17;
            for (size_t i = 0; i + n_run <= n; i += n_run)
                memcpy(text + i, runs[r], n_run);
            uint64_t start = mono_now();
            struct tok_ids ids = encode(tok, text, n / n_run * n_run, TOK_PARSE_SPECIAL);
            double seconds = seconds_since(start);
            if (seconds > 1)
                print_message("%s: %zu bytes of \"%s\": %.2f s\n", names[v], n, runs[r], seconds);
            assert_true(seconds < 60);
            tok_ids_fini(&ids);
        }
        tok_free(tok);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_vectors_pass),
        cmocka_unit_test(every_tiny_model_gives_the_tokens_of_its_text),
        cmocka_unit_test(the_demo_model_gives_its_expected_tokens),
        cmocka_unit_test(smollm2_gives_its_expected_tokens),
        cmocka_unit_test(texts_come_back_from_their_tokens),
        cmocka_unit_test(a_stream_gives_whole_characters_and_the_same_text),
        cmocka_unit_test(spm_drops_the_prefix_space_only_when_told),
        cmocka_unit_test(end_of_generation_sets_are_right),
        cmocka_unit_test(special_ids_are_found_by_key_and_by_text),
        cmocka_unit_test(special_texts_count_only_when_asked_for),
        cmocka_unit_test(threads_may_share_a_tokenizer),
        cmocka_unit_test(a_big_vocabulary_loads_fast),
        cmocka_unit_test(runs_of_a_mebibyte_take_seconds_at_most),
    };
    return cmocka_run_group_tests_name("tok", tests, NULL, NULL);
}
