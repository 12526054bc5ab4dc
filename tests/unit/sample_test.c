/* sample_test.c - the sampler's order and formulas, against the documented definition. */
#include "coordinator/engine/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct sampler *make(struct sample_options options, uint32_t n_vocab) {
    struct sampler *sampler = NULL;
    struct err err = ERR_INIT;
    if (sampler_new(&options, n_vocab, &sampler, &err) < 0) fail_msg("%s", err.what);
    return sampler;
}

static const struct sample_options greedy = {.top_p = 1, .repeat_penalty = 1};

static void temperature_zero_takes_the_largest_lowest_id_first(void **state) {
    (void)state;
    float z[] = {1, 5, NAN, 5, 2};
    struct sampler *sampler = make(greedy, 5);
    assert_int_equal(sampler_draw(sampler, z, NULL, 0), 1);
    int32_t never[] = {1};
    assert_int_equal(sampler_draw(sampler, z, never, 1), 3);
    sampler_free(sampler);
}

static void the_repeat_penalty_pushes_down_what_was_said(void **state) {
    (void)state;
    float z[] = {-1, 5, 4};
    struct sample_options options = greedy;
    options.repeat_penalty = 2;
    struct sampler *sampler = make(options, 3);
    sampler_accept(sampler, 1);
    sampler_accept(sampler, 1); /* counts once: 5 / 2 */
    assert_int_equal(sampler_draw(sampler, z, NULL, 0), 2);
    sampler_accept(sampler, 2);
    assert_int_equal(sampler_draw(sampler, z, NULL, 0), 1); /* 2.5 against 2 */
    for (int i = 0; i < SAMPLE_PENALTY_TOKENS; i++)
        sampler_accept(sampler, 0);
    assert_int_equal(sampler_draw(sampler, z, NULL, 0), 1); /* forgotten again */
    sampler_free(sampler);
}

/* Draws many times and compares the shares with the expected probabilities. */
static void expect_shares(
        struct sample_options options, const float *z, const double *want, int n) {
    struct sampler *sampler = make(options, (uint32_t)n);
    int count[8] = {0};
    const int n_draws = 40000;
    for (int i = 0; i < n_draws; i++)
        count[sampler_draw(sampler, z, NULL, 0)]++;
    for (int i = 0; i < n; i++) {
        double share = (double)count[i] / n_draws;
        if (want[i] == 0 ? count[i] != 0 : fabs(share - want[i]) > 0.012)
            fail_msg("token %d: drawn %.4f of the time, expected %.4f", i, share, want[i]);
    }
    sampler_free(sampler);
}

/* Probabilities 0.1 0.4 0.2 0.3. */
static const float z4[] = {-2.302585093f, -0.916290732f, -1.609437912f, -1.203972804f};

static void draws_follow_the_softmax(void **state) {
    (void)state;
    expect_shares(
            (struct sample_options){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 3},
            z4, (const double[]){0.1, 0.4, 0.2, 0.3}, 4);
}

static void temperature_sharpens(void **state) {
    (void)state;
    double sum = 0.01 + 0.16 + 0.04 + 0.09;
    expect_shares(
            (struct sample_options){
                    .temperature = 0.5f, .top_p = 1, .repeat_penalty = 1, .seed = 4},
            z4, (const double[]){0.01 / sum, 0.16 / sum, 0.04 / sum, 0.09 / sum}, 4);
}

static void top_k_keeps_the_k_largest(void **state) {
    (void)state;
    expect_shares(
            (struct sample_options){
                    .temperature = 1, .top_k = 2, .top_p = 1, .repeat_penalty = 1, .seed = 5},
            z4, (const double[]){0, 4.0 / 7, 0, 3.0 / 7}, 4);
}

static void top_p_keeps_the_shortest_prefix_that_reaches_p(void **state) {
    (void)state;
    expect_shares(
            (struct sample_options){
                    .temperature = 1, .top_p = 0.75f, .repeat_penalty = 1, .seed = 6},
            z4, (const double[]){0, 4.0 / 9, 2.0 / 9, 3.0 / 9}, 4);
    /* among the top 3 (sum 0.9) the prefix 0.4 + 0.3 reaches 0.75 * 0.9 */
    expect_shares(
            (struct sample_options){
                    .temperature = 1, .top_k = 3, .top_p = 0.75f, .repeat_penalty = 1, .seed = 7},
            z4, (const double[]){0, 4.0 / 7, 0, 3.0 / 7}, 4);
}

static void min_p_is_relative_to_the_largest(void **state) {
    (void)state;
    expect_shares(
            (struct sample_options){
                    .temperature = 1, .top_p = 1, .min_p = 0.45f, .repeat_penalty = 1, .seed = 8},
            z4, (const double[]){0, 4.0 / 9, 2.0 / 9, 3.0 / 9}, 4);
}

static void the_same_seed_draws_the_same_tokens(void **state) {
    (void)state;
    struct sample_options options = SAMPLE_DEFAULTS;
    options.seed = 11;
    struct sampler *a = make(options, 4), *b = make(options, 4);
    for (int i = 0; i < 200; i++)
        assert_int_equal(sampler_draw(a, z4, NULL, 0), sampler_draw(b, z4, NULL, 0));
    sampler_free(a);
    sampler_free(b);
}

static void rows_of_nan_draw_some_token(void **state) {
    (void)state;
    float z[] = {NAN, NAN, NAN};
    struct sample_options options = SAMPLE_DEFAULTS;
    struct sampler *sampler = make(options, 3);
    int32_t id = sampler_draw(sampler, z, NULL, 0);
    assert_true(id >= 0 && id < 3);
    sampler_free(sampler);
}

static void values_out_of_range_are_refused_by_name(void **state) {
    (void)state;
    static const struct sample_options wrong[] = {
            {.temperature = -1, .top_p = 1, .repeat_penalty = 1},
            {.temperature = NAN, .top_p = 1, .repeat_penalty = 1},
            {.top_p = 0, .repeat_penalty = 1},
            {.top_p = 1.5f, .repeat_penalty = 1},
            {.top_p = 1, .min_p = 2, .repeat_penalty = 1},
            {.top_p = 1, .repeat_penalty = 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct sampler *sampler = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(sampler_new(&wrong[i], 4, &sampler, &err), ERR_USAGE);
        assert_null(sampler);
        assert_true(strlen(err.what) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(temperature_zero_takes_the_largest_lowest_id_first),
            cmocka_unit_test(the_repeat_penalty_pushes_down_what_was_said),
            cmocka_unit_test(draws_follow_the_softmax),
            cmocka_unit_test(temperature_sharpens),
            cmocka_unit_test(top_k_keeps_the_k_largest),
            cmocka_unit_test(top_p_keeps_the_shortest_prefix_that_reaches_p),
            cmocka_unit_test(min_p_is_relative_to_the_largest),
            cmocka_unit_test(the_same_seed_draws_the_same_tokens),
            cmocka_unit_test(rows_of_nan_draw_some_token),
            cmocka_unit_test(values_out_of_range_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
