/* moe_test.c - routing and splitting: pure decisions, checked against slow and obvious twins. */
#include "coordinator/moe/route.h"
#include "coordinator/moe/split.h"
#include "proto/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_EXPERT 12
#define N_USED 3

static const struct kern_ops *scalar(void) {
    const struct kern_ops *ops = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kern_select("scalar", &ops, &err), 0);
    return ops;
}

static void softmax_router_takes_the_largest_and_renormalises(void **state) {
    (void)state;
    float logits[6] = {0, 3, 1, 3, -2, 2};
    struct model_router router = {
            .gating = MODEL_GATING_SOFTMAX, .n_expert = 6, .n_expert_used = 3, .renormalise = true};
    uint16_t expert[3];
    float weight[3], scratch[6];
    moe_route(&router, scalar(), logits, 1, expert, weight, scratch);
    assert_int_equal(expert[0], 1);
    assert_int_equal(expert[1], 3);
    assert_int_equal(expert[2], 5);
    double e3 = exp(3), e2 = exp(2), sum = 2 * e3 + e2;
    assert_true(fabs(weight[0] - e3 / sum) < 1e-6);
    assert_true(fabs(weight[2] - e2 / sum) < 1e-6);
}

static void ties_go_to_the_lower_index_and_nan_is_never_preferred(void **state) {
    (void)state;
    float logits[5] = {1, NAN, 1, 1, 1};
    struct model_router router = {
            .gating = MODEL_GATING_SOFTMAX_TOPK, .n_expert = 5, .n_expert_used = 2};
    uint16_t expert[2];
    float weight[2], scratch[5];
    moe_route(&router, scalar(), logits, 1, expert, weight, scratch);
    assert_int_equal(expert[0], 0);
    assert_int_equal(expert[1], 2);
    assert_true(weight[0] == 0.5f && weight[1] == 0.5f);
}

static void bias_chooses_but_does_not_weigh_and_scale_multiplies(void **state) {
    (void)state;
    float logits[4] = {0, 0, 0, 0};
    float bias[4] = {0, 0.5f, 0, 0.25f};
    struct model_router router = {.gating = MODEL_GATING_SIGMOID,
            .n_expert = 4,
            .n_expert_used = 2,
            .bias = bias,
            .scale = 2.5f};
    uint16_t expert[2];
    float weight[2], scratch[4];
    moe_route(&router, scalar(), logits, 1, expert, weight, scratch);
    assert_int_equal(expert[0], 1);
    assert_int_equal(expert[1], 3);
    assert_true(weight[0] == 1.25f && weight[1] == 1.25f);
}

static void groups_limit_the_choice(void **state) {
    (void)state;
    /* groups of 2: sums 9, 8, 7, 1; two groups kept, so expert 5 (7) loses against 2 and 3 (4, 4) */
    float logits[8] = {8, 1, 4, 4, 0, 7, 0.5f, 0.5f};
    struct model_router router = {.gating = MODEL_GATING_SOFTMAX_TOPK,
            .n_expert = 8,
            .n_expert_used = 3,
            .n_group = 4,
            .n_group_used = 2};
    uint16_t expert[3];
    float weight[3], scratch[8];
    moe_route(&router, scalar(), logits, 1, expert, weight, scratch);
    assert_int_equal(expert[0], 0);
    assert_int_equal(expert[1], 2);
    assert_int_equal(expert[2], 3);
}

/* Every route must appear exactly once, at a worker that holds the expert, in the promised order. */
static void check_split(const struct split *split, const struct placement *placement,
        uint64_t alive, const uint16_t *expert, const float *weight, uint32_t n_rows) {
    uint32_t n_seen = 0;
    int worker_of[N_EXPERT];
    for (int e = 0; e < N_EXPERT; e++)
        worker_of[e] = -1;
    for (uint32_t w = 0; w < split->n_workers; w++) {
        const struct split_share *share = &split->shares[w];
        if (!(alive >> w & 1)) assert_int_equal(share->n_routes, 0);
        for (uint32_t i = 0; i < share->n_routes; i++) {
            struct split_route route = share->routes[i];
            assert_true(placement_has(placement, 1, route.expert, w));
            assert_true(worker_of[route.expert] < 0 || worker_of[route.expert] == (int)w);
            worker_of[route.expert] = (int)w;
            assert_true(route.row < share->n_rows);
            uint32_t row = share->rows[route.row];
            assert_true(row < n_rows);
            bool found = false;
            for (uint32_t k = 0; k < N_USED; k++)
                found |= expert[row * N_USED + k] == route.expert &&
                         weight[row * N_USED + k] == route.weight;
            assert_true(found);
            if (i > 0) {
                struct split_route last = share->routes[i - 1];
                assert_true(last.expert < route.expert ||
                            (last.expert == route.expert && last.row < route.row));
            }
            n_seen++;
        }
    }
    assert_int_equal(n_seen, n_rows * N_USED);
}

static void every_route_goes_to_one_holder(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    for (int round = 0; round < 200; round++) {
        uint32_t n_workers = 1 + (uint32_t)rng_below(&rng, 6);
        uint32_t n_rows = 1 + (uint32_t)rng_below(&rng, 20);
        struct placement placement;
        struct split split;
        assert_int_equal(placement_init(&placement, 2, N_EXPERT, NULL), 0);
        assert_int_equal(split_init(&split, n_workers, 20, N_USED, N_EXPERT, NULL), 0);
        for (uint32_t e = 0; e < N_EXPERT; e++)
            for (int copies = 0; copies < 2; copies++)
                placement_add(&placement, 1, e, (uint32_t)rng_below(&rng, n_workers));

        uint16_t expert[20 * N_USED];
        float weight[20 * N_USED];
        for (uint32_t r = 0; r < n_rows; r++)
            for (uint32_t k = 0; k < N_USED; k++) {
                expert[r * N_USED + k] = (uint16_t)(4 * k + rng_below(&rng, 4));
                weight[r * N_USED + k] = (float)rng_unit(&rng);
            }
        uint64_t alive = (UINT64_C(1) << n_workers) - 1;
        assert_int_equal(split_routes(&split, &placement, 1, alive, expert, weight, n_rows, N_USED,
                                 N_EXPERT, NULL),
                0);
        check_split(&split, &placement, alive, expert, weight, n_rows);
        split_fini(&split);
        placement_fini(&placement);
    }
}

static void replicas_are_used_to_balance(void **state) {
    (void)state;
    struct placement placement;
    struct split split;
    assert_int_equal(placement_init(&placement, 1, 4, NULL), 0);
    assert_int_equal(split_init(&split, 2, 1, 4, 4, NULL), 0);
    for (uint32_t e = 0; e < 4; e++) {
        placement_add(&placement, 0, e, 0);
        placement_add(&placement, 0, e, 1);
    }
    uint16_t expert[4] = {0, 1, 2, 3};
    float weight[4] = {1, 1, 1, 1};
    assert_int_equal(split_routes(&split, &placement, 0, 3, expert, weight, 1, 4, 4, NULL), 0);
    assert_int_equal(split.shares[0].n_routes, 2);
    assert_int_equal(split.shares[1].n_routes, 2);

    /* and a dead worker's share goes to the other */
    assert_int_equal(split_routes(&split, &placement, 0, 2, expert, weight, 1, 4, 4, NULL), 0);
    assert_int_equal(split.shares[1].n_routes, 4);
    split_fini(&split);
    placement_fini(&placement);
}

static void an_expert_without_holder_is_named(void **state) {
    (void)state;
    struct placement placement;
    struct split split;
    struct err err = ERR_INIT;
    assert_int_equal(placement_init(&placement, 1, 4, NULL), 0);
    assert_int_equal(split_init(&split, 1, 1, 1, 4, NULL), 0);
    uint16_t expert[1] = {2};
    float weight[1] = {1};
    assert_int_equal(
            split_routes(&split, &placement, 0, 1, expert, weight, 1, 1, 4, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.what, "expert 2 of layer 0"));
    split_fini(&split);
    placement_fini(&placement);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(softmax_router_takes_the_largest_and_renormalises),
            cmocka_unit_test(ties_go_to_the_lower_index_and_nan_is_never_preferred),
            cmocka_unit_test(bias_chooses_but_does_not_weigh_and_scale_multiplies),
            cmocka_unit_test(groups_limit_the_choice),
            cmocka_unit_test(every_route_goes_to_one_holder),
            cmocka_unit_test(replicas_are_used_to_balance),
            cmocka_unit_test(an_expert_without_holder_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
