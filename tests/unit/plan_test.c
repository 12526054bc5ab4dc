/* plan_test.c - placement policies: every expert has an owner, room is respected, seeds repeat. */
#include "coordinator/plan/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N_LAYER 3
#define N_EXPERT 8

static const struct plan_layer layers[] = {{1, N_EXPERT, 100}, {2, N_EXPERT, 100}};
static struct plan_worker workers[] = {
        {"local", 100000, true}, {"attic", 100000, true}, {"cellar", 100000, true}};

static struct plan_request request_of(enum plan_policy policy) {
    return (struct plan_request){.policy = policy,
            .workers = workers,
            .n_workers = 3,
            .layers = layers,
            .n_layers = 2,
            .n_replicas = 1};
}

static int place(const struct plan_request *request, struct placement *placement, struct err *err) {
    assert_int_equal(placement_init(placement, N_LAYER, N_EXPERT, NULL), 0);
    return plan_place(request, placement, err);
}

static uint32_t count(const struct placement *placement, uint32_t worker) {
    uint32_t n = 0;
    for (uint32_t l = 0; l < N_LAYER; l++)
        for (uint32_t e = 0; e < N_EXPERT; e++)
            n += placement_has(placement, l, e, worker);
    return n;
}

static void assert_owned(const struct placement *placement) {
    for (uint32_t l = 1; l < N_LAYER; l++)
        for (uint32_t e = 0; e < N_EXPERT; e++)
            assert_true(placement_holders(placement, l, e) != 0);
}

static void spread_deals_round_robin(void **state) {
    (void)state;
    struct placement placement;
    struct plan_request request = request_of(PLAN_SPREAD);
    assert_int_equal(place(&request, &placement, NULL), 0);
    assert_owned(&placement);
    assert_int_equal(count(&placement, 0), 6);
    assert_int_equal(count(&placement, 1), 5);
    assert_int_equal(count(&placement, 2), 5);
    placement_fini(&placement);
}

static void local_keeps_everything_home(void **state) {
    (void)state;
    struct placement placement;
    struct plan_request request = request_of(PLAN_LOCAL);
    assert_int_equal(place(&request, &placement, NULL), 0);
    assert_int_equal(count(&placement, 0), 2 * N_EXPERT);
    assert_int_equal(count(&placement, 1), 0);
    placement_fini(&placement);
}

static void the_same_seed_gives_the_same_placement_and_another_does_not(void **state) {
    (void)state;
    struct placement a, b, c;
    struct plan_request request = request_of(PLAN_SEED);
    request.seed = 5;
    assert_int_equal(place(&request, &a, NULL), 0);
    assert_int_equal(place(&request, &b, NULL), 0);
    request.seed = 6;
    assert_int_equal(place(&request, &c, NULL), 0);
    size_t n_bytes = N_LAYER * N_EXPERT * sizeof *a.holders;
    assert_memory_equal(a.holders, b.holders, n_bytes);
    assert_true(memcmp(a.holders, c.holders, n_bytes) != 0);
    assert_owned(&a);
    placement_fini(&a);
    placement_fini(&b);
    placement_fini(&c);
}

static void replicas_sit_on_different_workers_as_room_allows(void **state) {
    (void)state;
    struct placement placement;
    struct plan_request request = request_of(PLAN_SPREAD);
    request.n_replicas = 2;
    assert_int_equal(place(&request, &placement, NULL), 0);
    for (uint32_t l = 1; l < N_LAYER; l++)
        for (uint32_t e = 0; e < N_EXPERT; e++)
            assert_int_equal(__builtin_popcountll(placement_holders(&placement, l, e)), 2);
    placement_fini(&placement);

    request.n_replicas = 9; /* more than there are workers: each worker has one copy */
    assert_int_equal(place(&request, &placement, NULL), 0);
    assert_int_equal(count(&placement, 2), 2 * N_EXPERT);
    placement_fini(&placement);
}

static void a_full_worker_is_passed_over_and_too_little_room_is_an_error(void **state) {
    (void)state;
    struct placement placement;
    struct err err = ERR_INIT;
    struct plan_worker small[] = {{"local", 250, true}, {"attic", 100000, true}};
    struct plan_request request = request_of(PLAN_SPREAD);
    request.workers = small;
    request.n_workers = 2;
    assert_int_equal(place(&request, &placement, NULL), 0);
    assert_owned(&placement);
    assert_int_equal(count(&placement, 0), 2);
    placement_fini(&placement);

    small[1].room_bytes = 300;
    assert_int_equal(place(&request, &placement, &err), ERR_NO_MEMORY);
    assert_non_null(strstr(err.what, "room for"));
    placement_fini(&placement);
}

static void nobody_to_use_is_an_error(void **state) {
    (void)state;
    struct placement placement;
    struct err err = ERR_INIT;
    struct plan_worker none[] = {{"local", 1000, false}};
    struct plan_request request = request_of(PLAN_AUTO);
    request.workers = none;
    request.n_workers = 1;
    assert_int_equal(place(&request, &placement, &err), ERR_USAGE);
    placement_fini(&placement);
}

static void plan_files_place_by_name(void **state) {
    (void)state;
    struct placement placement;
    struct plan_request request = request_of(PLAN_FILE);
    request.file_text =
            "{\"experts\":[{\"layer\":1,\"expert\":3,\"workers\":[\"local\",\"attic\"]},"
            "{\"layer\":\"*\",\"expert\":\"*\",\"workers\":[\"cellar\"]}]}";
    assert_int_equal(place(&request, &placement, NULL), 0);
    assert_int_equal(placement_holders(&placement, 1, 3), 3);
    assert_int_equal(placement_holders(&placement, 2, 3), 4);
    assert_owned(&placement);
    placement_fini(&placement);
}

static void wrong_plan_files_say_what_is_wrong(void **state) {
    (void)state;
    static const char *const texts[][2] = {
            {"{", "not JSON"},
            {"{}", "no list"},
            {"{\"experts\":[{\"layer\":1}]}", "\"expert\""},
            {"{\"experts\":[{\"layer\":-1,\"expert\":0,\"workers\":[\"attic\"]}]}", "\"layer\""},
            {"{\"experts\":[{\"layer\":1,\"expert\":0,\"workers\":[\"roof\"]}]}", "roof"},
            {"{\"experts\":[{\"layer\":1,\"expert\":0,\"workers\":[7]}]}", "not a string"},
            {"{\"experts\":[{\"layer\":9,\"expert\":0,\"workers\":[\"attic\"]}]}", "no expert"},
            {"{\"experts\":[{\"layer\":1,\"expert\":0,\"workers\":[\"attic\"]}]}", "says nothing"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct placement placement;
        struct err err = ERR_INIT;
        struct plan_request request = request_of(PLAN_FILE);
        request.file_text = texts[i][0];
        assert_int_equal(place(&request, &placement, &err), ERR_BAD_INPUT);
        if (!strstr(err.what, texts[i][1])) fail_msg("%s: %s", texts[i][0], err.what);
        placement_fini(&placement);
    }
}

static void place_options_are_parsed_strictly(void **state) {
    (void)state;
    enum plan_policy policy = PLAN_LOCAL;
    uint64_t seed = 0;
    const char *path = NULL;
    assert_int_equal(plan_parse("seed:12", &policy, &seed, &path, NULL), 0);
    assert_int_equal(policy, PLAN_SEED);
    assert_int_equal(seed, 12);
    assert_int_equal(plan_parse("file:a.json", &policy, &seed, &path, NULL), 0);
    assert_string_equal(path, "a.json");
    static const char *const wrong[] = {"", "seed:", "seed:x", "seed:-1", "file:", "everywhere"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(plan_parse(wrong[i], &policy, &seed, &path, NULL), ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(spread_deals_round_robin),
            cmocka_unit_test(local_keeps_everything_home),
            cmocka_unit_test(the_same_seed_gives_the_same_placement_and_another_does_not),
            cmocka_unit_test(replicas_sit_on_different_workers_as_room_allows),
            cmocka_unit_test(a_full_worker_is_passed_over_and_too_little_room_is_an_error),
            cmocka_unit_test(nobody_to_use_is_an_error),
            cmocka_unit_test(plan_files_place_by_name),
            cmocka_unit_test(wrong_plan_files_say_what_is_wrong),
            cmocka_unit_test(place_options_are_parsed_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
