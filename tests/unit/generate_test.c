/* generate_test.c - the decode loop on the demo model: stop texts, lengths, interruption, limits. */
#include "coordinator/cli/app.h"
#include "coordinator/engine/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_CTX 128

struct fixture {
    struct app app;
    struct tok_ids prompt;
    struct buf text;
    unsigned n_asked;    /* how often `interrupted` was asked */
    unsigned stop_after; /* answers yes from this call on; 0: never */
};

static int open_demo(void **state) {
    struct fixture *fx = calloc(1, sizeof *fx);
    struct app_options options = APP_OPTIONS_DEFAULTS;
    struct err err = ERR_INIT;
    options.general.quiet = true;
    options.ctx = N_CTX;
    options.batch = 7;
    if (app_open(&fx->app, &options, "deploy/demo/potluck-demo.gguf", &(struct app_needs){0},
                &err) < 0)
        fail_msg("%s: %s", err.where, err.what);
    const char *text = "<|im_start|>user\nWhat is a bridge?<|im_end|>\n<|im_start|>assistant\n";
    assert_int_equal(
            tok_encode(fx->app.tok, text, strlen(text), TOK_PARSE_SPECIAL, &fx->prompt, &err), 0);
    *state = fx;
    return 0;
}

static int close_demo(void **state) {
    struct fixture *fx = *state;
    app_close(&fx->app);
    tok_ids_fini(&fx->prompt);
    buf_fini(&fx->text);
    free(fx);
    return 0;
}

static void on_text(void *arg, const char *bytes, size_t n) {
    struct fixture *fx = arg;
    assert_int_equal(buf_append(&fx->text, bytes, n, NULL), 0);
}

static bool on_interrupted(void *arg) {
    struct fixture *fx = arg;
    return fx->stop_after && ++fx->n_asked >= fx->stop_after;
}

static struct generate_options greedy(struct fixture *fx, uint32_t n_max) {
    struct generate_options options = {.sample = SAMPLE_DEFAULTS,
            .n_max = n_max,
            .arg = fx,
            .text = on_text,
            .interrupted = on_interrupted};
    options.sample.temperature = 0;
    return options;
}

/* Generates in an emptied session; the text stands in fx->text. */
static int run(struct fixture *fx, const struct generate_options *options,
        struct generate_result *result, struct err *err) {
    buf_reset(&fx->text);
    session_truncate(fx->app.session, 0);
    return generate(fx->app.engine, fx->app.session, fx->app.tok, fx->prompt.ids,
            (uint32_t)fx->prompt.n, options, result, err);
}

static void greedy_answers_repeat_to_the_bit(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 30);
    struct generate_result a, b;
    assert_int_equal(run(fx, &options, &a, NULL), 0);
    assert_int_equal(run(fx, &options, &b, NULL), 0);
    assert_int_equal(a.tokens.n, 30);
    assert_int_equal(a.stop, GENERATE_LENGTH);
    assert_string_equal(a.logits_sha256, b.logits_sha256);
    assert_memory_equal(a.tokens.ids, b.tokens.ids, 30 * sizeof a.tokens.ids[0]);
    assert_int_equal(strncmp(fx->text.bytes, "The word bridge", 15), 0);
    generate_result_fini(&a);
    generate_result_fini(&b);
}

static void seeds_repeat_and_differ(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 40);
    struct generate_result a, b, c;
    options.sample.temperature = 5; /* the demo model is sure of what it knows */
    options.sample.min_p = 0;
    options.sample.top_p = 1;
    options.ignore_eos = true;
    options.sample.seed = 1;
    assert_int_equal(run(fx, &options, &a, NULL), 0);
    assert_int_equal(run(fx, &options, &b, NULL), 0);
    options.sample.seed = 2;
    assert_int_equal(run(fx, &options, &c, NULL), 0);
    assert_string_equal(a.logits_sha256, b.logits_sha256);
    assert_string_not_equal(a.logits_sha256, c.logits_sha256);
    generate_result_fini(&a);
    generate_result_fini(&b);
    generate_result_fini(&c);
}

static void a_stop_text_ends_the_answer_before_it(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 60);
    struct generate_result result;
    options.stops[0] = "never said";
    options.stops[1] = " common mean"; /* begins and ends inside tokens */
    options.n_stops = 2;
    assert_int_equal(run(fx, &options, &result, NULL), 0);
    assert_int_equal(result.stop, GENERATE_STOP_TEXT);
    assert_string_equal(fx->text.bytes, "The word bridge has two");
    generate_result_fini(&result);

    /* the beginning of a stop text that does not go on is shown all the same */
    options.stops[0] = "meanings.\n1. (verb)";
    options.n_stops = 1;
    assert_int_equal(run(fx, &options, &result, NULL), 0);
    assert_non_null(strstr(fx->text.bytes, "meanings.\n1. (noun)"));
    generate_result_fini(&result);
}

static void the_answer_ends_at_its_end_token_unless_told_otherwise(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 0);
    struct generate_result result;
    assert_int_equal(run(fx, &options, &result, NULL), 0);
    uint32_t eos = (uint32_t)result.tokens.ids[result.tokens.n - 1];
    bool ended = result.stop == GENERATE_EOS && tok_is_eog(fx->app.tok, (int32_t)eos);
    bool full = result.stop == GENERATE_LENGTH && fx->prompt.n + result.tokens.n == N_CTX + 1;
    assert_true(ended || full);
    generate_result_fini(&result);

    options.ignore_eos =
            true; /* then only the context ends it: n_ctx positions and one more token */
    assert_int_equal(run(fx, &options, &result, NULL), 0);
    assert_int_equal(result.stop, GENERATE_LENGTH);
    assert_int_equal(fx->prompt.n + result.tokens.n, N_CTX + 1);
    generate_result_fini(&result);
}

static void interruption_keeps_what_was_said(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 60);
    struct generate_result result;
    fx->n_asked = 0;
    fx->stop_after = 14;
    assert_int_equal(run(fx, &options, &result, NULL), 0);
    fx->stop_after = 0;
    assert_int_equal(result.stop, GENERATE_INTERRUPTED);
    assert_true(result.tokens.n > 5 && result.tokens.n < 14);
    assert_int_equal(strncmp(fx->text.bytes, "The word bridge", 15), 0);
    generate_result_fini(&result);
}

static void prompts_that_do_not_fit_or_do_not_exist_are_errors(void **state) {
    struct fixture *fx = *state;
    struct generate_options options = greedy(fx, 5);
    struct generate_result result;
    struct err err = ERR_INIT;
    static int32_t many[N_CTX + 1];
    session_truncate(fx->app.session, 0);
    int rc = generate(
            fx->app.engine, fx->app.session, fx->app.tok, many, N_CTX + 1, &options, &result, &err);
    assert_int_equal(rc, ERR_LIMIT);
    assert_non_null(strstr(err.what, "129 tokens do not fit: the context holds 128"));
    generate_result_fini(&result);

    err_reset(&err);
    many[3] = 4096;
    rc = generate(fx->app.engine, fx->app.session, fx->app.tok, many, 10, &options, &result, &err);
    assert_int_equal(rc, ERR_BAD_INPUT);
    assert_non_null(strstr(err.what, "token id 4096"));
    generate_result_fini(&result);

    err_reset(&err);
    rc = generate(fx->app.engine, fx->app.session, fx->app.tok, many, 0, &options, &result, &err);
    assert_int_equal(rc, ERR_BAD_INPUT);
    generate_result_fini(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(greedy_answers_repeat_to_the_bit),
            cmocka_unit_test(seeds_repeat_and_differ),
            cmocka_unit_test(a_stop_text_ends_the_answer_before_it),
            cmocka_unit_test(the_answer_ends_at_its_end_token_unless_told_otherwise),
            cmocka_unit_test(interruption_keeps_what_was_said),
            cmocka_unit_test(prompts_that_do_not_fit_or_do_not_exist_are_errors),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
