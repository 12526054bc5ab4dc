/* store_test.c - experts taken in by pieces or whole: same bytes, limits kept, nonsense refused. */
#include "worker/store/store.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "tests/support/expert_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEED 7
#define ROOM (UINT64_C(64) << 20)

/* 48 rows of gate and up (three groups), 40 of down (two and a half). */
static const struct store_layer mixed = {2, 5, 40, 48, DT_F32, DT_BF16, DT_F32, KERN_GLU_SILU};
static const struct store_layer quantised = {
        9, 3, 256, 512, DT_Q4_K, DT_Q8_0, DT_Q6_K, KERN_GLU_SILU};

static struct store *new_store(uint64_t limit_bytes) {
    struct store *store = NULL;
    assert_int_equal(store_new(kern_at(0), limit_bytes, &store, NULL), 0);
    return store;
}

/* An expert's GGUF bytes: gate, up, down. The caller's. */
static unsigned char *expert_bytes(const struct store_layer *l, uint32_t expert) {
    unsigned char *all = malloc(store_expert_gguf_bytes(l)), *at = all;
    const enum dtype types[3] = {l->gate_type, l->up_type, l->down_type};
    for (uint32_t p = 0; p < 3; p++) {
        uint32_t n_in = p == 2 ? l->n_ff : l->n_embd, n_out = p == 2 ? l->n_embd : l->n_ff;
        void *part = example_matrix(SEED, l->layer, expert, p, types[p], n_in, n_out);
        size_t n = dtype_row_bytes(types[p], n_in) * n_out;
        memcpy(at, part, n);
        at += n;
        free(part);
    }
    return all;
}

/* Puts an expert in pieces of at most n_piece bytes. Returns the first error. */
static int put_pieces(struct store *store, const struct store_layer *l, uint32_t expert,
        uint64_t n_piece, struct err *err) {
    unsigned char *bytes = expert_bytes(l, expert);
    uint64_t total = store_expert_gguf_bytes(l);
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < total; at += n_piece)
        rc = store_put(store, l->layer, expert, at, bytes + at, min_u64(n_piece, total - at), err);
    free(bytes);
    return rc;
}

static void check_mat(const struct kern_mat *mat, enum dtype type, uint32_t n_in, uint32_t n_out,
        const void *gguf) {
    assert_int_equal(mat->type, type);
    assert_int_equal(mat->n_in, n_in);
    assert_int_equal(mat->n_out, n_out);
    assert_int_equal(mat->layout, kern_at(0)->layout_of(type));
    assert_int_equal((uintptr_t)mat->bytes % 64, 0);
    uint64_t n_bytes = kern_mat_bytes(type, mat->layout, n_in, n_out);
    void *want = aligned_new(n_bytes);
    memset(want, 0, n_bytes);
    kern_repack(type, mat->layout, n_in, n_out, 0, n_out, gguf, want);
    assert_memory_equal(want, mat->bytes, n_bytes);
    free(want);
}

/* The expert is there and holds what repacking the whole matrices gives. */
static void check_expert(const struct store *store, const struct store_layer *l, uint32_t expert) {
    const struct store_expert *found = store_find(store, l->layer, expert);
    assert_non_null(found);
    unsigned char *bytes = expert_bytes(l, expert);
    uint64_t gate = dtype_row_bytes(l->gate_type, l->n_embd) * l->n_ff;
    uint64_t up = dtype_row_bytes(l->up_type, l->n_embd) * l->n_ff;
    check_mat(&found->gate, l->gate_type, l->n_embd, l->n_ff, bytes);
    check_mat(&found->up, l->up_type, l->n_embd, l->n_ff, bytes + gate);
    check_mat(&found->down, l->down_type, l->n_ff, l->n_embd, bytes + gate + up);
    free(bytes);
}

/* ------------------------------------------------------------------ taking -- */

static void pieces_of_any_size_give_the_same_matrices(void **state) {
    (void)state;
    const struct store_layer layers[] = {mixed, quantised};
    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        const struct store_layer *l = &layers[i];
        uint64_t total = store_expert_gguf_bytes(l);
        uint64_t gate = dtype_row_bytes(l->gate_type, l->n_embd) * l->n_ff;
        const uint64_t sizes[] = {
                total, total - 1, total / 2, gate, gate + 1, gate - 1, 4096, 999, 61};
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            struct store *store = new_store(ROOM);
            struct err err = ERR_INIT;
            assert_int_equal(store_add_layer(store, l, &err), 0);
            assert_int_equal(put_pieces(store, l, 1, sizes[s], &err), 0);
            check_expert(store, l, 1);
            store_free(store);
        }
    }
}

static void whole_experts_are_repacked_on_the_pool(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    struct pool *pool = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(pool_new(3, &pool, &err), 0);
    const struct store_layer layers[] = {mixed, quantised};
    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        const struct store_layer *l = &layers[i];
        assert_int_equal(store_add_layer(store, l, &err), 0);
        unsigned char *bytes = expert_bytes(l, 2);
        uint64_t gate = dtype_row_bytes(l->gate_type, l->n_embd) * l->n_ff;
        uint64_t up = dtype_row_bytes(l->up_type, l->n_embd) * l->n_ff;
        for (int again = 0; again < 2; again++)
            assert_int_equal(store_put_expert(store, l->layer, 2, bytes, bytes + gate,
                                     bytes + gate + up, pool, &err),
                    0);
        check_expert(store, l, 2);
        free(bytes);
    }
    assert_int_equal(store_n_experts(store), 2);
    store_free(store);
    pool_free(pool);
}

static void experts_may_be_interleaved(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    struct err err = ERR_INIT;
    assert_int_equal(store_add_layer(store, &mixed, &err), 0);
    unsigned char *bytes[5];
    for (uint32_t e = 0; e < 5; e++)
        bytes[e] = expert_bytes(&mixed, e);

    uint64_t total = store_expert_gguf_bytes(&mixed);
    for (uint64_t at = 0; at < total; at += 777) {
        assert_int_equal(store_n_experts(store), 0);
        assert_null(store_find(store, mixed.layer, 0));
        for (uint32_t e = 0; e < 5; e++)
            assert_int_equal(store_put(store, mixed.layer, e, at, bytes[e] + at,
                                     min_u64(777, total - at), &err),
                    0);
    }
    for (uint32_t e = 0; e < 5; e++) {
        check_expert(store, &mixed, e);
        free(bytes[e]);
    }
    assert_int_equal(store_n_experts(store), 5);
    store_free(store);
}

static void an_expert_that_is_held_is_taken_again_silently(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    struct err err = ERR_INIT;
    assert_int_equal(store_add_layer(store, &quantised, &err), 0);
    for (int again = 0; again < 3; again++)
        assert_int_equal(put_pieces(store, &quantised, 0, 5000, &err), 0);
    assert_int_equal(store_put(store, quantised.layer, 0, 12345, "x", 1, &err), 0);
    check_expert(store, &quantised, 0);
    assert_int_equal(store_n_experts(store), 1);
    assert_int_equal(store_held_bytes(store), store_expert_held_bytes(kern_at(0), &quantised));
    store_free(store);
}

static void a_piece_at_zero_starts_the_expert_anew(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    struct err err = ERR_INIT;
    assert_int_equal(store_add_layer(store, &mixed, &err), 0);
    unsigned char junk[10000];
    memset(junk, 0x77, sizeof junk);
    assert_int_equal(store_put(store, mixed.layer, 3, 0, junk, sizeof junk, &err), 0);
    assert_int_equal(put_pieces(store, &mixed, 3, 999, &err), 0);
    check_expert(store, &mixed, 3);
    store_free(store);
}

/* ---------------------------------------------------------------- refusing -- */

static void pieces_out_of_order_or_out_of_range_are_refused(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    uint64_t total = store_expert_gguf_bytes(&mixed);
    unsigned char *bytes = expert_bytes(&mixed, 0);
    struct err err = ERR_INIT;
    assert_int_equal(store_put(store, mixed.layer, 0, 0, bytes, 10, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.what, "not announced"));
    assert_int_equal(store_put(store, UINT32_MAX, 0, 0, bytes, 10, NULL), ERR_NOT_FOUND);
    assert_int_equal(store_add_layer(store, &mixed, NULL), 0);

    const struct {
        uint32_t expert;
        uint64_t offset, n_bytes;
    } bad[] = {
            {5, 0, 10},
            {UINT32_MAX, 0, 10},
            {0, 10, 10},
            {0, 0, 0},
            {0, 0, total + 1},
            {0, UINT64_MAX, 2},
            {0, 2, UINT64_MAX},
            {0, total, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(store_put(store, mixed.layer, bad[i].expert, bad[i].offset, bytes,
                                 bad[i].n_bytes, NULL),
                ERR_BAD_INPUT);

    assert_int_equal(store_put(store, mixed.layer, 0, 0, bytes, 100, NULL), 0);
    assert_int_equal(store_put(store, mixed.layer, 0, 99, bytes + 99, 50, NULL), ERR_BAD_INPUT);
    assert_int_equal(store_put(store, mixed.layer, 0, 101, bytes + 101, 50, NULL), ERR_BAD_INPUT);
    assert_int_equal(store_put(store, mixed.layer, 0, 100, bytes + 100, total - 100, NULL), 0);
    check_expert(store, &mixed, 0);
    free(bytes);
    store_free(store);
}

static void layers_that_cannot_be_multiplied_are_refused(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    const struct {
        struct store_layer layer;
        int code;
    } bad[] = {
            {{STORE_LAYERS_MAX, 4, 32, 32, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 0, 32, 32, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, STORE_EXPERTS_MAX + 1, 32, 32, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 0, 32, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 32, 0, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, STORE_WIDTH_MAX + 1, 32, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 32, UINT32_MAX, DT_F32, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 48, 32, DT_Q8_0, DT_F32, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 48, 32, DT_F32, DT_Q8_0, DT_F32, 0}, ERR_BAD_INPUT},
            {{0, 4, 32, 48, DT_F32, DT_F32, DT_Q8_0, 0}, ERR_BAD_INPUT},
            {{0, 4, 256, 128, DT_Q4_K, DT_Q4_K, DT_Q4_K, 0}, ERR_BAD_INPUT},
            {{0, 4, 256, 256, DT_IQ2_XS, DT_Q4_K, DT_Q4_K, 0}, ERR_UNSUPPORTED},
            {{0, 4, 256, 256, DT_Q4_K, DT_Q4_K, DT_Q8_1, 0}, ERR_UNSUPPORTED},
            {{0, 4, 32, 32, (enum dtype)4, DT_F32, DT_F32, 0}, ERR_UNSUPPORTED},
            {{0, 4, 32, 32, DT_F32, (enum dtype)9999, DT_F32, 0}, ERR_UNSUPPORTED},
            {{0, 4, 32, 32, DT_F32, DT_F32, DT_F32, (enum kern_glu)77}, ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        if (store_add_layer(store, &bad[i].layer, &err) != bad[i].code)
            fail_msg("bad layer %zu: %d, expected %d", i, err.code, bad[i].code);
        assert_true(err.what[0] != 0);
    }
    assert_null(store_find_layer(store, 0));
    store_free(store);
}

static void a_layer_announced_twice_must_stay_the_same(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    assert_int_equal(store_add_layer(store, &mixed, NULL), 0);
    assert_int_equal(store_add_layer(store, &mixed, NULL), 0);
    struct store_layer other = mixed;
    other.n_ff += 16;
    assert_int_equal(store_add_layer(store, &other, NULL), ERR_BAD_INPUT);
    assert_int_equal(store_find_layer(store, mixed.layer)->n_ff, mixed.n_ff);
    store_free(store);
}

static void the_memory_limit_is_kept_to_the_byte(void **state) {
    (void)state;
    uint64_t held = store_expert_held_bytes(kern_at(0), &mixed);
    struct store *store = new_store(2 * held + held - 1);
    struct err err = ERR_INIT;
    assert_int_equal(store_add_layer(store, &mixed, &err), 0);
    assert_int_equal(put_pieces(store, &mixed, 0, 4096, &err), 0);
    unsigned char *bytes = expert_bytes(&mixed, 1);
    assert_int_equal(store_put(store, mixed.layer, 1, 0, bytes, 10, &err), 0); /* takes its room */
    assert_int_equal(put_pieces(store, &mixed, 2, 4096, &err), ERR_LIMIT);
    assert_non_null(strstr(err.hint, "--ram"));
    assert_int_equal(store_held_bytes(store), held);
    assert_int_equal(put_pieces(store, &mixed, 1, 4096, NULL), 0);
    check_expert(store, &mixed, 1);
    check_expert(store, &mixed, 0);
    assert_null(store_find(store, mixed.layer, 2));
    free(bytes);
    store_free(store);

    store = new_store(0);
    assert_int_equal(store_add_layer(store, &mixed, NULL), 0);
    assert_int_equal(put_pieces(store, &mixed, 0, 4096, NULL), ERR_LIMIT);
    store_free(store);
}

static void experts_under_way_are_bounded(void **state) {
    (void)state;
    struct store_layer many = mixed;
    many.n_expert = STORE_STAGING_MAX + 2;
    struct store *store = new_store(ROOM);
    assert_int_equal(store_add_layer(store, &many, NULL), 0);
    for (uint32_t e = 0; e < STORE_STAGING_MAX; e++)
        assert_int_equal(store_put(store, many.layer, e, 0, "abcd", 4, NULL), 0);
    assert_int_equal(
            store_put(store, many.layer, STORE_STAGING_MAX, 0, "abcd", 4, NULL), ERR_LIMIT);
    assert_int_equal(put_pieces(store, &many, 3, 4096, NULL), 0); /* finishing one makes room */
    assert_int_equal(store_put(store, many.layer, STORE_STAGING_MAX, 0, "abcd", 4, NULL), 0);
    store_free(store);
}

static void looking_for_what_is_not_there_finds_nothing(void **state) {
    (void)state;
    struct store *store = new_store(ROOM);
    assert_int_equal(store_add_layer(store, &mixed, NULL), 0);
    assert_null(store_find(store, mixed.layer, 0));
    assert_null(store_find(store, mixed.layer, mixed.n_expert));
    assert_null(store_find(store, mixed.layer + 1, 0));
    assert_null(store_find(store, UINT32_MAX, UINT32_MAX));
    assert_null(store_find_layer(store, UINT32_MAX));
    store_free(store);
    store_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(pieces_of_any_size_give_the_same_matrices),
            cmocka_unit_test(whole_experts_are_repacked_on_the_pool),
            cmocka_unit_test(experts_may_be_interleaved),
            cmocka_unit_test(an_expert_that_is_held_is_taken_again_silently),
            cmocka_unit_test(a_piece_at_zero_starts_the_expert_anew),
            cmocka_unit_test(pieces_out_of_order_or_out_of_range_are_refused),
            cmocka_unit_test(layers_that_cannot_be_multiplied_are_refused),
            cmocka_unit_test(a_layer_announced_twice_must_stay_the_same),
            cmocka_unit_test(the_memory_limit_is_kept_to_the_byte),
            cmocka_unit_test(experts_under_way_are_bounded),
            cmocka_unit_test(looking_for_what_is_not_there_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
