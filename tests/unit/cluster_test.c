/* cluster_test.c - the coordinator against workers that misbehave: each gives an error that names the
 * worker and what it did, within a deadline; strangers change nothing. The workers here are scripts
 * over the in-process transport. */
#include "coordinator/cluster/cluster.h"
#include "coordinator/moe/rows.h"
#include "proto/base/mono.h"
#include "proto/wire/wire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HUB "inproc://hub"
#define N_ROWS 3
#define N_WORKERS_MAX 2

/* What a scripted worker does when rows come. */
enum script {
    ANSWER,       /* zeros, correctly */
    ANSWER_TWICE, /* the second answer is owed by nobody */
    WRONG_REQUEST,
    WRONG_SHAPE,
    SHORT_SUMS,
    GARBAGE,
    FAIL,
    LEAVE,
    VANISH,
    WRONG_ROLE, /* sends what only a coordinator may send */
    OVERSTATE,  /* while loading: claims to have stored more than it was sent */
};

struct worker {
    struct net *net;
    const char *name;
    enum script script;
    atomic_bool refused;
    atomic_bool stop;
    pthread_t thread;
};

struct fixture {
    struct gguf *gguf;
    struct model *model;
    const struct kern_ops *kern;
    struct pool *pool;
    struct net *net;
    struct cluster *cluster;
    struct moe_rows rows;
    struct model_work *work;
    struct worker workers[N_WORKERS_MAX];
    uint32_t n_workers;
};

/* ------------------------------------------------------- scripted worker -- */

static void send_out(struct net_end *end, const struct wire_out *out) {
    (void)net_send(end, 0, out->frames, out->n_frames, mono_after(MONO_S), NULL);
}

static void reply(struct net_end *end, const struct wire_in *in, uint64_t request, uint32_t n_rows,
        size_t n_cut) {
    struct wire_out out;
    size_t n = (size_t)n_rows * in->dispatch.n_embd;
    int64_t *sums = calloc(n, sizeof *sums);
    uint8_t *packed = calloc(1, wire_pack_bound(in->dispatch.n_embd) * n_rows);
    uint8_t *poisoned = calloc(n_rows, 1);
    size_t n_packed = 0;
    for (uint32_t r = 0; r < n_rows; r++)
        n_packed += wire_pack_sums(sums, in->dispatch.n_embd, packed + n_packed);
    struct wire_reply message = {.layer = in->dispatch.layer,
            .n_rows = n_rows,
            .n_embd = in->dispatch.n_embd,
            .packed = packed,
            .packed_bytes = n_packed - n_cut,
            .poisoned = poisoned};
    wire_encode_reply(&out, request, in->head.epoch, &message);
    send_out(end, &out);
    free(sums);
    free(packed);
    free(poisoned);
}

/* False: the worker is gone. */
static bool act(struct worker *w, struct net_end *end, const struct wire_in *in) {
    struct wire_out out;
    uint64_t request = in->head.request;
    uint32_t n_rows = in->dispatch.n_rows;
    switch (w->script) {
    case ANSWER_TWICE:
        reply(end, in, request, n_rows, 0);
        reply(end, in, request, n_rows, 0);
        return true;
    case WRONG_REQUEST:
        reply(end, in, request + 1000, n_rows, 0);
        return true;
    case WRONG_SHAPE:
        reply(end, in, request, n_rows + 1, 0);
        return true;
    case SHORT_SUMS:
        reply(end, in, request, n_rows, 1);
        return true;
    case GARBAGE: {
        const struct net_frame frame = {"\xff\xfe garbage", 10};
        (void)net_send(end, 0, &frame, 1, mono_after(MONO_S), NULL);
        return true;
    }
    case FAIL:
        wire_encode_fail(&out, WIRE_FAIL, request, ERR_NO_MEMORY, "the cat sat on it");
        send_out(end, &out);
        return true;
    case LEAVE:
        wire_encode_bare(&out, WIRE_BYE, 0);
        send_out(end, &out);
        return true;
    case WRONG_ROLE: {
        struct wire_welcome welcome = {.member = 1, .epoch = 1, .coordinator = "me"};
        wire_encode_welcome(&out, &welcome);
        send_out(end, &out);
        return true;
    }
    case VANISH:
        return false;
    case ANSWER:
    case OVERSTATE:
    default:
        reply(end, in, request, n_rows, 0);
        return true;
    }
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct net_end *end = NULL;
    struct wire_out out;
    struct wire_stored stored = {0};
    struct wire_hello hello = {.isa = "script", .n_threads = 1, .ram_bytes = UINT64_C(1) << 30};
    snprintf(hello.name, sizeof hello.name, "%s", w->name);
    if (net_dial(w->net, HUB, &end, NULL) < 0) return NULL;
    wire_encode_hello(&out, &hello);
    (void)net_send(end, 0, out.frames, out.n_frames, mono_after(10 * MONO_S), NULL);

    for (bool there = true; there;) {
        struct net_msg msg;
        struct wire_in in;
        int rc = net_recv(end, mono_after(50 * MONO_MS), &msg, NULL);
        if (rc < 0 || atomic_load(&w->stop)) break;
        if (rc == 0) continue;
        if (wire_decode(&msg, &in, NULL) < 0) break;
        switch (in.head.type) {
        case WIRE_EXPERT:
            stored.n_pieces += w->script == OVERSTATE ? 1000 : 1;
            stored.n_experts += in.expert.offset + in.expert.n_bytes == in.expert.total_bytes;
            stored.n_bytes += in.expert.n_bytes;
            wire_encode_stored(&out, &stored);
            send_out(end, &out);
            break;
        case WIRE_DISPATCH:
            there = act(w, end, &in);
            break;
        case WIRE_PING:
            wire_encode_bare(&out, WIRE_PONG, in.head.request);
            send_out(end, &out);
            break;
        case WIRE_REFUSE:
            atomic_store(&w->refused, true);
            there = false;
            break;
        case WIRE_BYE:
            there = false;
            break;
        default:
            break;
        }
    }
    net_close(end, 0);
    return NULL;
}

/* ----------------------------------------------------------------- fixture -- */

static void start_worker(struct fixture *fx, const char *name, enum script script) {
    struct worker *w = &fx->workers[fx->n_workers++];
    w->net = fx->net;
    w->name = name;
    w->script = script;
    atomic_store(&w->refused, false);
    assert_int_equal(pthread_create(&w->thread, NULL, worker_main, w), 0);
}

static int setup(void **state) {
    struct fixture *fx = calloc(1, sizeof *fx);
    struct err err = ERR_INIT;
    int rc = gguf_open("deploy/demo/potluck-demo.gguf", &fx->gguf, &err);
    if (rc == 0) rc = kern_select("auto", &fx->kern, &err);
    if (rc == 0) rc = pool_new(1, &fx->pool, &err);
    struct model_options options = {.kern = fx->kern, .pool = fx->pool};
    if (rc == 0) rc = model_load(fx->gguf, &options, &fx->model, &err);
    if (rc == 0) rc = model_work_new(fx->model, N_ROWS, &fx->work, &err);
    const struct model_shape *s = rc == 0 ? model_shape(fx->model) : NULL;
    if (rc == 0)
        rc = moe_rows_init(&fx->rows, fx->kern, fx->pool, N_ROWS, s->n_embd, s->n_expert,
                s->n_expert_used, &err);
    if (rc == 0) rc = net_new(&fx->net, &err);
    struct cluster_options cluster = {.net = fx->net,
            .kern = fx->kern,
            .pool = fx->pool,
            .name = "kitchen",
            .listen = {HUB},
            .own_worker = false};
    if (rc == 0) rc = cluster_new(&cluster, &fx->cluster, &err);
    if (rc < 0) fail_msg("%s", err.what);
    *state = fx;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fx = *state;
    cluster_free(fx->cluster);
    for (uint32_t i = 0; i < fx->n_workers; i++) {
        atomic_store(&fx->workers[i].stop, true);
        pthread_join(fx->workers[i].thread, NULL);
    }
    net_free(fx->net);
    moe_rows_fini(&fx->rows);
    model_work_free(fx->work);
    model_free(fx->model);
    pool_free(fx->pool);
    gguf_free(fx->gguf);
    free(fx);
    return 0;
}

static void join_all(struct fixture *fx, uint32_t n) {
    struct err err = ERR_INIT;
    if (cluster_wait_joined(fx->cluster, n, mono_after(10 * MONO_S), NULL, NULL, &err) < 0)
        fail_msg("%s", err.what);
}

static int load(struct fixture *fx, struct err *err) {
    struct cluster_load_options options = {.policy = PLAN_SPREAD, .n_replicas = 1};
    int rc = cluster_load(fx->cluster, fx->model, fx->gguf, &options, err);
    return rc < 0 ? rc : cluster_reserve(fx->cluster, N_ROWS, err);
}

/* Sends random rows to the experts of block 1 and waits for the sums. */
static int step(struct fixture *fx, struct err *err) {
    const struct model_experts *experts = model_experts(fx->model, 1);
    size_t n_embd = experts->n_embd;
    float *x = calloc(N_ROWS * n_embd, sizeof *x);
    float logits[N_ROWS * 64] = {0};
    int64_t *sums = calloc(N_ROWS * n_embd, sizeof *sums);
    uint8_t poisoned[N_ROWS];
    for (size_t i = 0; i < N_ROWS * n_embd; i++)
        x[i] = (float)(i % 17) - 8;
    for (uint32_t r = 0; r < N_ROWS; r++)
        for (uint32_t e = 0; e < experts->n_expert; e++)
            logits[r * experts->n_expert + e] = (float)((e * 7 + r) % 5);
    struct model_routed routed = {.experts = experts, .x = x, .logits = logits, .residual = x};
    moe_rows_prepare(&fx->rows, &routed, N_ROWS);
    int rc = cluster_dispatch(fx->cluster, &fx->rows, err);
    if (rc == 0) rc = cluster_collect(fx->cluster, sums, poisoned, err);
    free(x);
    free(sums);
    return rc;
}

static void expect_step_error(void **state, enum script script, int code, const char *says) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    start_worker(fx, "attic", script);
    join_all(fx, 1);
    if (load(fx, &err) < 0) fail_msg("%s", err.what);
    uint64_t start = mono_now();
    int rc = step(fx, &err);
    if (rc == 0) rc = step(fx, &err); /* a surplus answer is met one step later */
    if (rc != code || !strstr(err.what, says) || !strstr(err.what, "attic"))
        fail_msg("got %d: %s", rc, err.what);
    assert_true(mono_now() - start < 2 * MONO_S);
}

/* ------------------------------------------------------------------- tests -- */

static void an_honest_worker_is_used(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    start_worker(fx, "attic", ANSWER);
    start_worker(fx, "cellar", ANSWER);
    join_all(fx, 2);
    if (load(fx, &err) < 0 || step(fx, &err) < 0 || step(fx, &err) < 0) fail_msg("%s", err.what);
    struct cluster_worker w;
    assert_int_equal(cluster_n_workers(fx->cluster), 2);
    cluster_worker_at(fx->cluster, 0, &w);
    assert_string_equal(w.name, "attic"); /* by name, whoever came first */
    assert_int_equal(w.n_experts, 40);
    assert_false(w.lost);
}

static void an_answer_that_nobody_owes_is_an_error(void **state) {
    expect_step_error(state, ANSWER_TWICE, ERR_PROTOCOL, "does not owe");
}

static void an_answer_to_another_request_is_an_error(void **state) {
    expect_step_error(state, WRONG_REQUEST, ERR_PROTOCOL, "does not owe");
}

static void an_answer_of_another_shape_is_an_error(void **state) {
    expect_step_error(state, WRONG_SHAPE, ERR_PROTOCOL, "asked were");
}

static void sums_that_end_early_are_an_error(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    start_worker(fx, "attic", SHORT_SUMS);
    join_all(fx, 1);
    if (load(fx, &err) < 0) fail_msg("%s", err.what);
    assert_int_equal(step(fx, &err), ERR_PROTOCOL);
    assert_true(strstr(err.what, "attic") || strstr(err.where, "attic"));
}

static void garbage_from_a_worker_is_an_error(void **state) {
    expect_step_error(state, GARBAGE, ERR_PROTOCOL, "cannot be read");
}

static void a_failure_is_passed_on_in_the_workers_words(void **state) {
    expect_step_error(state, FAIL, ERR_NO_MEMORY, "the cat sat on it");
}

static void a_worker_that_leaves_in_mid_step_takes_its_experts_along(void **state) {
    expect_step_error(state, LEAVE, ERR_PEER_LOST, "80 experts (layer 1: 0 1 2");
}

static void a_worker_that_vanishes_is_named_with_its_experts(void **state) {
    expect_step_error(state, VANISH, ERR_PEER_LOST, "80 experts (layer 1: 0 1 2");
}

static void a_worker_that_plays_coordinator_is_an_error(void **state) {
    expect_step_error(state, WRONG_ROLE, ERR_PROTOCOL, "only a coordinator sends");
}

static void a_worker_that_claims_too_much_is_an_error(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    start_worker(fx, "attic", OVERSTATE);
    join_all(fx, 1);
    assert_int_equal(load(fx, &err), ERR_PROTOCOL);
    assert_non_null(strstr(err.what, "attic says it stored"));
}

static void a_second_worker_of_the_same_name_is_refused(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    start_worker(fx, "attic", ANSWER);
    join_all(fx, 1);
    start_worker(fx, "attic", ANSWER);
    /* two can never be reached: the wait only gives the refusal time to happen */
    assert_int_equal(
            cluster_wait_joined(fx->cluster, 2, mono_after(MONO_S), NULL, NULL, &err), ERR_TIMEOUT);
    assert_non_null(strstr(err.what, "1 of 2"));
    assert_true(atomic_load(&fx->workers[1].refused));
}

static void strangers_that_send_garbage_change_nothing(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    struct net_end *stranger = NULL;
    start_worker(fx, "attic", ANSWER);
    join_all(fx, 1);
    assert_int_equal(net_dial(fx->net, HUB, &stranger, NULL), 0);
    const struct net_frame frame = {"GET / HTTP/1.1", 14};
    for (int i = 0; i < 5; i++)
        assert_int_equal(net_send(stranger, 0, &frame, 1, mono_after(MONO_S), NULL), 0);
    if (load(fx, &err) < 0 || step(fx, &err) < 0) fail_msg("%s", err.what);

    struct net_msg msg;
    struct wire_in in;
    assert_int_equal(net_recv(stranger, mono_after(MONO_S), &msg, NULL), 1);
    assert_int_equal(wire_decode(&msg, &in, NULL), 0);
    assert_int_equal(in.head.type, WIRE_REFUSE); /* told why */
    net_close(stranger, 0);
}

static void nobody_joining_is_said_in_time(void **state) {
    struct fixture *fx = *state;
    struct err err = ERR_INIT;
    assert_int_equal(
            cluster_wait_joined(fx->cluster, 1, mono_after(200 * MONO_MS), NULL, NULL, &err),
            ERR_TIMEOUT);
    assert_non_null(strstr(err.hint, "potluck join"));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
            T(an_honest_worker_is_used),
            T(an_answer_that_nobody_owes_is_an_error),
            T(an_answer_to_another_request_is_an_error),
            T(an_answer_of_another_shape_is_an_error),
            T(sums_that_end_early_are_an_error),
            T(garbage_from_a_worker_is_an_error),
            T(a_failure_is_passed_on_in_the_workers_words),
            T(a_worker_that_leaves_in_mid_step_takes_its_experts_along),
            T(a_worker_that_vanishes_is_named_with_its_experts),
            T(a_worker_that_plays_coordinator_is_an_error),
            T(a_worker_that_claims_too_much_is_an_error),
            T(a_second_worker_of_the_same_name_is_refused),
            T(strangers_that_send_garbage_change_nothing),
            T(nobody_joining_is_said_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
