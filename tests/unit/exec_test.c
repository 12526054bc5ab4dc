/* exec_test.c - batches through the executor, against one route after the other with the scalar
 * kernels: equal for every instruction set, thread count and batch. */
#include "worker/exec/exec.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "tests/support/expert_example.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAYER 3
#define SEED 20

/* One layer: raw weights, rows in every form, routes; what a test changes before it compares. */
struct fixture {
    struct store_layer shape;
    void *gguf[64][3];
    uint32_t n_rows;
    struct kern_act acts[ACT_KIND_COUNT];
    bool has_act[ACT_KIND_COUNT];
    int8_t *grid;
    struct exec_route *routes;
    uint32_t n_routes;
};

static const struct kern_ops *scalar(void) {
    unsigned i = 0;
    while (kern_at(i + 1))
        i++;
    return kern_at(i);
}

static void make_acts(struct fixture *f) {
    uint32_t n = f->n_rows, n_embd = f->shape.n_embd;
    float *x = aligned_new((size_t)n * n_embd * sizeof *x);
    example_rows(SEED, n, n_embd, x);
    for (int k = 0; k < ACT_KIND_COUNT; k++) {
        struct kern_act *act = &f->acts[k];
        *act = (struct kern_act){.kind = (enum act_kind)k, .n_in = n_embd, .n_rows = n, .f32 = x};
        f->has_act[k] = n_embd % act_block(act->kind) == 0;
        if (k == ACT_F32 || !f->has_act[k]) continue;
        int8_t *q = aligned_new((size_t)n * n_embd);
        float *d = aligned_new((size_t)n * (n_embd / act_block(act->kind)) * sizeof *d);
        int16_t *sum16 = aligned_new((size_t)n * (n_embd / 16) * sizeof *sum16);
        scalar()->quantise(act->kind, x, n_embd, n, n_embd, q, d, sum16);
        act->q = q;
        act->d = d;
        act->sum16 = sum16;
    }
}

/* Every row goes to each expert with probability part / 4. */
static void make_routes(struct fixture *f, uint64_t seed, uint32_t part) {
    struct rng rng;
    rng_init(&rng, seed);
    f->routes = calloc((size_t)f->n_rows * f->shape.n_expert, sizeof *f->routes);
    for (uint32_t e = 0; e < f->shape.n_expert; e++)
        for (uint32_t r = 0; r < f->n_rows; r++)
            if (rng_below(&rng, 4) < part)
                f->routes[f->n_routes++] = (struct exec_route){r, e, (float)rng_unit(&rng) + 0.01f};
}

static void setup(struct fixture *f, struct store_layer shape, uint32_t n_rows, uint32_t part) {
    *f = (struct fixture){.shape = shape, .n_rows = n_rows};
    f->shape.layer = LAYER;
    for (uint32_t e = 0; e < shape.n_expert; e++) {
        f->gguf[e][0] =
                example_matrix(SEED, LAYER, e, 0, shape.gate_type, shape.n_embd, shape.n_ff);
        f->gguf[e][1] = example_matrix(SEED, LAYER, e, 1, shape.up_type, shape.n_embd, shape.n_ff);
        f->gguf[e][2] =
                example_matrix(SEED, LAYER, e, 2, shape.down_type, shape.n_ff, shape.n_embd);
    }
    make_acts(f);
    make_routes(f, SEED + n_rows, part);
    f->grid = malloc(n_rows);
    for (uint32_t r = 0; r < n_rows; r++)
        f->grid[r] = (int8_t)(-30 + (int)(r % 7));
}

static void teardown(struct fixture *f) {
    for (uint32_t e = 0; e < f->shape.n_expert; e++)
        for (int p = 0; p < 3; p++)
            free(f->gguf[e][p]);
    free((void *)(uintptr_t)f->acts[ACT_F32].f32);
    for (int k = 1; k < ACT_KIND_COUNT; k++) {
        free((void *)(uintptr_t)f->acts[k].q);
        free((void *)(uintptr_t)f->acts[k].d);
        free((void *)(uintptr_t)f->acts[k].sum16);
    }
    free(f->grid);
    free(f->routes);
}

/* -------------------------------------------------------------- reference -- */

static void ref_matmul(enum dtype type, const void *gguf, uint32_t n_in, uint32_t n_out,
        const struct kern_act *act, uint32_t row, float *y) {
    const struct kern_ops *kern = scalar();
    struct kern_mat mat = {type, kern->layout_of(type), n_in, n_out, NULL};
    void *bytes = aligned_new(kern_mat_bytes(type, mat.layout, n_in, n_out));
    kern_repack(type, mat.layout, n_in, n_out, 0, n_out, gguf, bytes);
    mat.bytes = bytes;
    kern->matmul(&mat, 0, n_out, act, &row, 1, y, n_out);
    free(bytes);
}

/* One route: y = down(glu(gate x, up x)). */
static void ref_expert(const struct fixture *f, const struct exec_route *route, float *y) {
    const struct store_layer *l = &f->shape;
    const struct kern_ops *kern = scalar();
    float *gate = malloc(l->n_ff * sizeof *gate), *up = malloc(l->n_ff * sizeof *up);
    ref_matmul(l->gate_type, f->gguf[route->expert][0], l->n_embd, l->n_ff,
            &f->acts[dtype_find(l->gate_type)->act], route->row, gate);
    ref_matmul(l->up_type, f->gguf[route->expert][1], l->n_embd, l->n_ff,
            &f->acts[dtype_find(l->up_type)->act], route->row, up);
    kern->glu(l->glu, gate, gate, up, l->n_ff);

    enum act_kind kind = dtype_find(l->down_type)->act;
    int8_t *q = malloc(l->n_ff);
    float *d = malloc(l->n_ff * sizeof *d);
    int16_t *sum16 = malloc(l->n_ff * sizeof *sum16);
    struct kern_act hidden = {kind, l->n_ff, 1, gate, q, d, sum16};
    if (kind != ACT_F32) kern->quantise(kind, gate, l->n_ff, 1, l->n_ff, q, d, sum16);
    ref_matmul(l->down_type, f->gguf[route->expert][2], l->n_ff, l->n_embd, &hidden, 0, y);
    free(gate);
    free(up);
    free(q);
    free(d);
    free(sum16);
}

static void reference(const struct fixture *f, int64_t *sums, uint8_t *poisoned) {
    uint32_t n_embd = f->shape.n_embd;
    float *y = malloc(n_embd * sizeof *y);
    memset(sums, 0, (size_t)f->n_rows * n_embd * sizeof *sums);
    memset(poisoned, 0, f->n_rows);
    for (uint32_t i = 0; i < f->n_routes; i++) {
        const struct exec_route *route = &f->routes[i];
        ref_expert(f, route, y);
        if (!scalar()->merge_add(sums + (size_t)route->row * n_embd, y, route->weight,
                    f->grid[route->row], n_embd))
            poisoned[route->row] = 1;
    }
    for (uint32_t r = 0; r < f->n_rows; r++)
        if (poisoned[r]) memset(sums + (size_t)r * n_embd, 0, n_embd * sizeof *sums);
    free(y);
}

/* ----------------------------------------------------------------- running -- */

/* A worker in small: store, pool and executor with the fixture's experts in. */
struct worker {
    struct store *store;
    struct pool *pool;
    struct exec *exec;
};

static void start(struct worker *w, const struct fixture *f, const struct kern_ops *kern,
        uint32_t n_threads, uint32_t skip_expert) {
    struct err err = ERR_INIT;
    assert_int_equal(pool_new(n_threads, &w->pool, &err), 0);
    assert_int_equal(store_new(kern, 64 << 20, &w->store, &err), 0);
    assert_int_equal(store_add_layer(w->store, &f->shape, &err), 0);
    for (uint32_t e = 0; e < f->shape.n_expert; e++)
        if (e != skip_expert)
            assert_int_equal(store_put_expert(w->store, LAYER, e, f->gguf[e][0], f->gguf[e][1],
                                     f->gguf[e][2], w->pool, &err),
                    0);
    assert_int_equal(exec_new(kern, w->store, w->pool, &w->exec, &err), 0);
}

static void stop(struct worker *w) {
    exec_free(w->exec);
    store_free(w->store);
    pool_free(w->pool);
}

static struct exec_batch batch_of(const struct fixture *f) {
    struct exec_batch batch = {.layer = LAYER,
            .n_rows = f->n_rows,
            .grid = f->grid,
            .routes = f->routes,
            .n_routes = f->n_routes};
    for (int k = 0; k < ACT_KIND_COUNT; k++)
        batch.acts[k] = f->has_act[k] ? &f->acts[k] : NULL;
    return batch;
}

/* Runs the fixture with every instruction set and the given thread counts against the reference.
 * Returns the number of poisoned rows. */
static uint32_t compare(const struct fixture *f, uint32_t threads_from, uint32_t threads_to) {
    size_t n = (size_t)f->n_rows * f->shape.n_embd;
    int64_t *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    uint8_t *want_poisoned = malloc(f->n_rows), *got_poisoned = malloc(f->n_rows);
    reference(f, want, want_poisoned);
    size_t n_filled = 0;
    for (size_t i = 0; i < n; i++)
        n_filled += want[i] != 0;
    assert_true(f->n_routes == 0 || n_filled > 0);

    for (unsigned isa = 0; kern_at(isa); isa++)
        for (uint32_t threads = threads_from; threads <= threads_to; threads++) {
            struct worker w;
            struct err err = ERR_INIT;
            start(&w, f, kern_at(isa), threads, UINT32_MAX);
            memset(got, 0x5a, n * sizeof *got);
            memset(got_poisoned, 0x5a, f->n_rows);
            struct exec_batch batch = batch_of(f);
            assert_int_equal(exec_run(w.exec, &batch, got, got_poisoned, &err), 0);
            if (memcmp(want, got, n * sizeof *got) != 0)
                fail_msg("sums differ: %s, %u threads, %u rows, %s/%s/%s", kern_at(isa)->name,
                        threads, f->n_rows, dtype_name(f->shape.gate_type),
                        dtype_name(f->shape.up_type), dtype_name(f->shape.down_type));
            assert_memory_equal(want_poisoned, got_poisoned, f->n_rows);
            stop(&w);
        }

    uint32_t n_poisoned = 0;
    for (uint32_t r = 0; r < f->n_rows; r++)
        n_poisoned += want_poisoned[r];
    free(want);
    free(got);
    free(want_poisoned);
    free(got_poisoned);
    return n_poisoned;
}

/* ------------------------------------------------------------------- cases -- */

static void every_type_gives_the_sums_of_one_route_after_the_other(void **state) {
    (void)state;
    static const struct store_layer shapes[] = {
            {0, 4, 256, 512, DT_Q4_K, DT_Q4_K, DT_Q6_K, KERN_GLU_SILU},
            {0, 4, 512, 256, DT_Q5_K, DT_Q3_K, DT_Q2_K, KERN_GLU_SILU},
            {0, 4, 160, 96, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU},
            {0, 4, 96, 160, DT_Q4_0, DT_Q4_1, DT_Q5_0, KERN_GLU_SILU},
            {0, 4, 64, 32, DT_Q5_1, DT_IQ4_NL, DT_MXFP4, KERN_GLU_SILU},
            {0, 4, 256, 256, DT_IQ4_XS, DT_Q8_0, DT_IQ4_XS, KERN_GLU_SILU}, /* two forms of rows */
            {0, 4, 24, 40, DT_F32, DT_F16, DT_BF16, KERN_GLU_SILU},         /* no multiple of 16 */
            {0, 4, 32, 288, DT_F32, DT_Q8_0, DT_Q4_0, KERN_GLU_SILU},
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct fixture f;
        setup(&f, shapes[i], 5, 2);
        assert_int_equal(compare(&f, 1, 3), 0);
        teardown(&f);
    }
}

static void every_batch_size_gives_the_same_sums(void **state) {
    (void)state;
    const struct store_layer shape = {0, 6, 96, 64, DT_Q8_0, DT_Q4_0, DT_Q8_0, KERN_GLU_SILU};
    for (uint32_t n_rows = 1; n_rows <= 70; n_rows += n_rows < 10 ? 1 : 10) {
        struct fixture f;
        setup(&f, shape, n_rows, 2);
        assert_int_equal(compare(&f, 1, 3), 0);
        teardown(&f);
    }
}

static void more_rows_than_fit_one_call_of_an_expert_are_all_computed(void **state) {
    (void)state;
    const struct store_layer shape = {0, 2, 32, 32, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 150, 4); /* every row to every expert */
    assert_int_equal(compare(&f, 1, 2), 0);
    teardown(&f);
}

static void long_batches_are_cut_into_slices_without_a_trace(void **state) {
    (void)state;
    /* A route takes 5.25 x 32768 bytes of hidden rows: 48 fit a slice of 8 MiB. */
    const struct store_layer shape = {0, 2, 32, 32768, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 60, 4);
    assert_true(f.n_routes > 2 * 48);
    f.routes[10].weight = NAN; /* row 10 in the first slice, and again in a later one */
    assert_int_equal(compare(&f, 2, 2), 1);
    teardown(&f);
}

static void a_row_that_overflows_or_is_nan_is_poisoned_alone(void **state) {
    (void)state;
    const struct store_layer shape = {0, 4, 256, 256, DT_Q4_K, DT_Q4_K, DT_Q4_K, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 9, 4);
    f.routes[1].weight = NAN;       /* row 1 */
    f.routes[9 + 3].weight = 1e30f; /* row 3, its second expert */
    f.routes[18 + 5].weight = INFINITY;
    float *d = (float *)(uintptr_t)f.acts[ACT_Q8_256].d;
    d[7] = NAN; /* row 7: its one block */
    assert_int_equal(compare(&f, 1, 3), 4);
    teardown(&f);
}

static void rows_without_routes_and_batches_without_routes_are_zero(void **state) {
    (void)state;
    const struct store_layer shape = {0, 2, 32, 32, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 4, 4);
    f.n_routes = 1; /* only row 0 */
    assert_int_equal(compare(&f, 1, 2), 0);
    f.n_routes = 0;
    assert_int_equal(compare(&f, 1, 2), 0);
    teardown(&f);
}

static void a_reserved_executor_may_meet_a_larger_batch(void **state) {
    (void)state;
    const struct store_layer shape = {0, 3, 64, 96, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 20, 3);
    struct worker w;
    struct err err = ERR_INIT;
    start(&w, &f, kern_at(0), 2, UINT32_MAX);
    assert_int_equal(exec_reserve(w.exec, 2, 4, &err), 0);

    size_t n = (size_t)f.n_rows * shape.n_embd;
    int64_t *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    uint8_t poisoned[20], want_poisoned[20];
    reference(&f, want, want_poisoned);
    struct exec_batch batch = batch_of(&f);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(exec_run(w.exec, &batch, got, poisoned, &err), 0);
        assert_memory_equal(want, got, n * sizeof *got);
    }
    free(want);
    free(got);
    stop(&w);
    teardown(&f);
}

/* Runs a batch that must be refused with the given code, and that names `word`. */
static void refused(const struct fixture *f, struct worker *w, const struct exec_batch *batch,
        int code, const char *word) {
    int64_t *sums = malloc((size_t)f->n_rows * f->shape.n_embd * sizeof *sums);
    uint8_t *poisoned = malloc(f->n_rows);
    struct err err = ERR_INIT;
    assert_int_equal(exec_run(w->exec, batch, sums, poisoned, &err), code);
    if (!strstr(err.what, word)) fail_msg("\"%s\" does not say \"%s\"", err.what, word);
    free(sums);
    free(poisoned);
}

static void a_missing_expert_is_named(void **state) {
    (void)state;
    const struct store_layer shape = {0, 3, 32, 32, DT_Q8_0, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 3, 4);
    struct worker w;
    start(&w, &f, kern_at(0), 2, 1);
    struct exec_batch batch = batch_of(&f);
    refused(&f, &w, &batch, ERR_NOT_FOUND, "expert 1 of layer 3");
    batch.layer = 4;
    refused(&f, &w, &batch, ERR_NOT_FOUND, "layer 4");
    stop(&w);
    teardown(&f);
}

static void bad_batches_are_refused(void **state) {
    (void)state;
    const struct store_layer shape = {0, 3, 256, 32, DT_Q4_K, DT_Q8_0, DT_Q8_0, KERN_GLU_SILU};
    struct fixture f;
    setup(&f, shape, 3, 4);
    struct worker w;
    start(&w, &f, kern_at(0), 1, UINT32_MAX);
    struct exec_batch batch = batch_of(&f);
    struct exec_route good = f.routes[4];

    f.routes[4].row = 3;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "row 3 of 3");
    f.routes[4] = (struct exec_route){1, 3, 1};
    refused(&f, &w, &batch, ERR_BAD_INPUT, "expert 3 of 3");
    f.routes[4] = f.routes[3];
    refused(&f, &w, &batch, ERR_BAD_INPUT, "comes after");
    f.routes[4] = (struct exec_route){1, 0, 1};
    refused(&f, &w, &batch, ERR_BAD_INPUT, "comes after");
    f.routes[4] = good;

    f.grid[1] = -119;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "grid exponent");
    f.grid[1] = 101;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "grid exponent");
    f.grid[1] = 0;

    batch.acts[ACT_Q8_32] = NULL;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "missing");
    struct kern_act narrow = f.acts[ACT_Q8_32];
    batch.acts[ACT_Q8_32] = &narrow;
    narrow.n_in = 128;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "128");
    narrow.n_in = 256;
    narrow.n_rows = 2;
    refused(&f, &w, &batch, ERR_BAD_INPUT, "got 2");
    stop(&w);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_type_gives_the_sums_of_one_route_after_the_other),
            cmocka_unit_test(every_batch_size_gives_the_same_sums),
            cmocka_unit_test(more_rows_than_fit_one_call_of_an_expert_are_all_computed),
            cmocka_unit_test(long_batches_are_cut_into_slices_without_a_trace),
            cmocka_unit_test(a_row_that_overflows_or_is_nan_is_poisoned_alone),
            cmocka_unit_test(rows_without_routes_and_batches_without_routes_are_zero),
            cmocka_unit_test(a_reserved_executor_may_meet_a_larger_batch),
            cmocka_unit_test(a_missing_expert_is_named),
            cmocka_unit_test(bad_batches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
