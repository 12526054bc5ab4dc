/* host_test.c - a worker against a coordinator played by the test: handshake, weights, rows, nonsense,
 * loss and leaving. Each case runs in process and over a Unix socket. */
#include "worker/host/host.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "proto/base/log.h"
#include "proto/base/mono.h"
#include "proto/wire/wire.h"
#include "tests/support/expert_example.h"
#include "tests/support/tmpdir.h"
#include "worker/exec/exec.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Nothing here takes long; a case that waits this long has failed. */
#define PATIENCE_NS (20 * MONO_S)
#define SEED 11

/* Allocations of our own code by any thread, seen through the linker's --wrap. */
static atomic_ulong n_allocations;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);

void *__wrap_malloc(size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_realloc(p, n);
}
int __wrap_posix_memalign(void **out, size_t align, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_posix_memalign(out, align, n);
}

/* ---------------------------------------------------------- the coordinator -- */

/* The test's side, and the worker's thread. */
struct fake {
    struct net *net;
    struct net_end *hub;
    char address[512];
    struct tmpdir dir;
    uint32_t peer;      /* connection that said HELLO */
    uint32_t beat_peer; /* that said HELLO for beats */
    uint32_t n_beats;
    struct wire_hello hello;
    struct wire_out out;
    struct net_msg msg;
    struct wire_in in; /* the last message received */

    pthread_t thread;
    struct host_options options;
    atomic_bool stop;
    int rc;
    struct err err;
};

/* Also where a hub was closed just before: ZeroMQ gives its address free a little later. */
static void fake_listen(struct fake *f) {
    struct err err = ERR_INIT;
    uint64_t deadline_ns = mono_after(PATIENCE_NS);
    while (net_listen(f->net, f->address, &f->hub, &err) < 0) {
        if (mono_now() > deadline_ns) fail_msg("%s", err.what);
        err_reset(&err);
    }
}

static void *run_host(void *arg) {
    struct fake *f = arg;
    f->rc = host_run(f->net, &f->options, &f->err);
    return NULL;
}

static void fake_init(struct fake *f, const char *transport) {
    *f = (struct fake){.options = {.name = "tester",
                               .n_threads = 2,
                               .ram_bytes = 8 << 20,
                               .once = true,
                               .quiet = true}};
    assert_true(tmpdir_new(&f->dir));
    if (strcmp(transport, "ipc") == 0)
        snprintf(f->address, sizeof f->address, "ipc://%s/hub", f->dir.path);
    else
        snprintf(f->address, sizeof f->address, "inproc://hub");
    assert_int_equal(net_new(&f->net, NULL), 0);
    f->options.address = f->address;
    f->options.stop = &f->stop;
}

static void fake_start(struct fake *f) {
    assert_int_equal(pthread_create(&f->thread, NULL, run_host, f), 0);
}

/* Waits for the worker to end; it has been given a reason to. */
static int fake_join(struct fake *f) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += (time_t)(PATIENCE_NS / MONO_S);
    if (pthread_timedjoin_np(f->thread, NULL, &at) != 0) fail_msg("the worker does not end");
    return f->rc;
}

static void fake_fini(struct fake *f) {
    net_close(f->hub, 0);
    net_free(f->net);
    tmpdir_remove(&f->dir);
}

static void fake_send(struct fake *f) {
    struct err err = ERR_INIT;
    if (net_send(f->hub, f->peer, f->out.frames, f->out.n_frames, mono_after(PATIENCE_NS), &err) <
            0)
        fail_msg("%s", err.what);
}

static void fake_send_bare(struct fake *f, enum wire_type type, uint64_t request) {
    wire_encode_bare(&f->out, type, request);
    fake_send(f);
}

/* Sends one frame of bytes that mean nothing. */
static void fake_send_garbage(struct fake *f) {
    static const uint8_t garbage[] = {0xff, 0x00, 0xff, 0x13, 0x37};
    f->out.frames[0] = (struct net_frame){garbage, sizeof garbage};
    f->out.n_frames = 1;
    fake_send(f);
}

/* Takes one message in; beats and pings are dealt with. False when the time is over. */
static bool fake_take(struct fake *f, uint64_t deadline_ns) {
    struct err err = ERR_INIT;
    int rc = net_recv(f->hub, deadline_ns, &f->msg, &err);
    if (rc == 0) return false;
    if (rc < 0) fail_msg("%s", err.what);
    if (wire_decode(&f->msg, &f->in, &err) < 0) fail_msg("the worker sent nonsense: %s", err.what);
    if (f->in.head.type == WIRE_HELLO && f->in.hello.beat) f->beat_peer = f->msg.peer;
    if (f->in.head.type == WIRE_BEAT) {
        assert_int_equal(f->msg.peer, f->beat_peer);
        f->n_beats++;
    }
    return true;
}

static bool is_aside(const struct wire_in *in) {
    return in->head.type == WIRE_BEAT || in->head.type == WIRE_PING ||
           (in->head.type == WIRE_HELLO && in->hello.beat);
}

/* The next message that is no beat and no ping; it has to be of this type. */
static void fake_expect(struct fake *f, enum wire_type type) {
    uint64_t deadline_ns = mono_after(PATIENCE_NS);
    do {
        if (!fake_take(f, deadline_ns)) fail_msg("no %s came", wire_type_name(type));
    } while (is_aside(&f->in));
    if (f->in.head.type != type)
        fail_msg("%s came instead of %s: %s", wire_type_name(f->in.head.type), wire_type_name(type),
                f->in.head.type == WIRE_FAIL ? f->in.fail.text : "");
}

static void expect_fail(struct fake *f, uint64_t request, int code, const char *word) {
    fake_expect(f, WIRE_FAIL);
    assert_int_equal(f->in.head.request, request);
    assert_int_equal(f->in.fail.code, code);
    if (!strstr(f->in.fail.text, word)) fail_msg("\"%s\" lacks \"%s\"", f->in.fail.text, word);
}

static void fake_take_hello(struct fake *f) {
    fake_expect(f, WIRE_HELLO);
    f->peer = f->msg.peer;
    f->hello = f->in.hello;
}

static void fake_welcome(struct fake *f) {
    struct wire_welcome welcome = {.member = 1, .epoch = 5, .coordinator = "test"};
    wire_encode_welcome(&f->out, &welcome);
    fake_send(f);
}

/* Listens, starts the worker and lets it join. */
static void fake_begin(struct fake *f, const char *transport) {
    fake_init(f, transport);
    fake_listen(f);
    fake_start(f);
    fake_take_hello(f);
    fake_welcome(f);
}

static void fake_end(struct fake *f) {
    fake_send_bare(f, WIRE_BYE, 0);
    if (fake_join(f) != 0) fail_msg("%s", f->err.what);
    fake_fini(f);
}

/* ------------------------------------------------------------ weights, rows -- */

/* Two forms of rows, since up takes f32. */
static const struct wire_layer shape = {7, 4, 96, 64, DT_Q8_0, DT_F32, DT_Q4_0, KERN_GLU_SILU};

static struct store_layer store_shape(const struct wire_layer *l) {
    return (struct store_layer){l->layer, l->n_expert, l->n_embd, l->n_ff, l->gate_type, l->up_type,
            l->down_type, (enum kern_glu)l->glu};
}

static unsigned char *expert_bytes(uint32_t expert, size_t *out_n) {
    struct store_layer l = store_shape(&shape);
    *out_n = store_expert_gguf_bytes(&l);
    unsigned char *all = malloc(*out_n), *at = all;
    const enum dtype types[3] = {shape.gate_type, shape.up_type, shape.down_type};
    for (uint32_t p = 0; p < 3; p++) {
        uint32_t n_in = p == 2 ? shape.n_ff : shape.n_embd,
                 n_out = p == 2 ? shape.n_embd : shape.n_ff;
        void *part = example_matrix(SEED, shape.layer, expert, p, types[p], n_in, n_out);
        size_t n = dtype_row_bytes(types[p], n_in) * n_out;
        memcpy(at, part, n);
        at += n;
        free(part);
    }
    return all;
}

static void send_piece(struct fake *f, uint32_t expert, const unsigned char *bytes, size_t offset,
        size_t n, size_t total) {
    struct wire_expert piece = {.layer = shape.layer,
            .expert = expert,
            .offset = offset,
            .total_bytes = total,
            .bytes = bytes + offset,
            .n_bytes = (uint32_t)n};
    wire_encode_expert(&f->out, &piece);
    fake_send(f);
}

/* Announces the layer and sends experts 0 .. n_experts-1; each piece is acknowledged. */
static void push(struct fake *f, uint32_t n_experts) {
    wire_encode_layer(&f->out, &shape);
    fake_send(f);
    uint64_t n_pieces = 0;
    for (uint32_t e = 0; e < n_experts; e++) {
        size_t total, n_piece = 10007;
        unsigned char *bytes = expert_bytes(e, &total);
        for (size_t at = 0; at < total; at += n_piece) {
            send_piece(f, e, bytes, at, min_u64(n_piece, total - at), total);
            fake_expect(f, WIRE_STORED);
            assert_int_equal(f->in.stored.n_pieces, ++n_pieces);
        }
        assert_int_equal(f->in.stored.n_experts, e + 1);
        free(bytes);
    }
    struct store_layer l = store_shape(&shape);
    assert_int_equal(f->in.stored.n_bytes, n_experts * store_expert_held_bytes(kern_at(0), &l));
}

/* A dispatch in wire form, and what its reply has to be. */
struct task {
    struct wire_dispatch dispatch;
    uint8_t *frames; /* kept at odd addresses */
    int64_t *sums;
    uint8_t *poisoned;
};

static const struct kern_ops *scalar(void) {
    unsigned i = 0;
    while (kern_at(i + 1))
        i++;
    return kern_at(i);
}

/* The sums by an executor of the test's own, with the scalar kernels. */
static void want_sums(struct task *t, const struct kern_act *q8, const struct kern_act *f32,
        const struct exec_route *routes) {
    struct pool *pool;
    struct store *store;
    struct exec *exec;
    struct store_layer l = store_shape(&shape);
    assert_int_equal(pool_new(1, &pool, NULL), 0);
    assert_int_equal(store_new(scalar(), 8 << 20, &store, NULL), 0);
    assert_int_equal(store_add_layer(store, &l, NULL), 0);
    for (uint32_t e = 0; e < shape.n_expert; e++) {
        size_t n;
        unsigned char *bytes = expert_bytes(e, &n);
        assert_int_equal(store_put(store, shape.layer, e, 0, bytes, n, NULL), 0);
        free(bytes);
    }
    assert_int_equal(exec_new(scalar(), store, pool, &exec, NULL), 0);
    struct exec_batch batch = {.layer = shape.layer,
            .n_rows = t->dispatch.n_rows,
            .acts = {[ACT_F32] = f32, [ACT_Q8_32] = q8},
            .grid = t->dispatch.grid,
            .routes = routes,
            .n_routes = t->dispatch.n_routes};
    assert_int_equal(exec_run(exec, &batch, t->sums, t->poisoned, NULL), 0);
    exec_free(exec);
    store_free(store);
    pool_free(pool);
}

static void task_init(struct task *t, uint32_t n_rows, uint32_t n_experts) {
    size_t n = (size_t)n_rows * shape.n_embd, n_blocks = n / 32;
    float *x = aligned_new(n * sizeof *x), *d = aligned_new(n_blocks * sizeof *d);
    int8_t *q = aligned_new(n);
    int16_t *sum16 = aligned_new(n / 16 * sizeof *sum16);
    example_rows(SEED + n_rows, n_rows, shape.n_embd, x);
    scalar()->quantise(ACT_Q8_32, x, shape.n_embd, n_rows, shape.n_embd, q, d, sum16);

    size_t n_routes = (size_t)n_rows * n_experts,
           n_q8 = wire_act_bytes(ACT_Q8_32, n_rows, shape.n_embd);
    t->frames = malloc(16 + n_rows + 4 * n + n_q8 + n_routes * WIRE_ROUTE_BYTES);
    uint8_t *grid = t->frames + 1, *f32_at = grid + n_rows, *q8_at, *routes_at;
    f32_at += (uintptr_t)f32_at % 2 ? 0 : 1;
    q8_at = f32_at + 4 * n;
    routes_at = q8_at + n_q8;
    memset(grid, (uint8_t)-30, n_rows);
    memcpy(f32_at, x, 4 * n);
    memcpy(q8_at, q, n);
    for (size_t b = 0; b < n_blocks; b++) {
        uint32_t bits;
        memcpy(&bits, &d[b], 4);
        q8_at[n + 2 * b] = (uint8_t)(bits >> 16);
        q8_at[n + 2 * b + 1] = (uint8_t)(bits >> 24);
    }
    struct exec_route *routes = malloc(n_routes * sizeof *routes);
    for (uint32_t i = 0; i < n_routes; i++) {
        routes[i] = (struct exec_route){i % n_rows, i / n_rows, 0.25f + (float)i / 64};
        wire_route_put(routes_at, i,
                (struct wire_route){
                        (uint16_t)routes[i].row, (uint16_t)routes[i].expert, routes[i].weight});
    }
    t->dispatch = (struct wire_dispatch){.layer = shape.layer,
            .n_rows = n_rows,
            .n_embd = shape.n_embd,
            .act_mask = 1u << ACT_F32 | 1u << ACT_Q8_32,
            .n_routes = (uint32_t)n_routes,
            .grid = (const int8_t *)grid,
            .acts = {[ACT_F32] = f32_at, [ACT_Q8_32] = q8_at},
            .routes = routes_at};
    t->sums = calloc(n, sizeof *t->sums);
    t->poisoned = calloc(n_rows, 1);
    struct kern_act f32 = {ACT_F32, shape.n_embd, n_rows, x, NULL, NULL, NULL};
    struct kern_act q8 = {ACT_Q8_32, shape.n_embd, n_rows, NULL, q, d, sum16};
    want_sums(t, &q8, &f32, routes);
    free(routes);
    free(x);
    free(d);
    free(q);
    free(sum16);
}

static void task_fini(struct task *t) {
    free(t->frames);
    free(t->sums);
    free(t->poisoned);
}

static void send_task(struct fake *f, const struct task *t, uint64_t request) {
    wire_encode_dispatch(&f->out, request, 5, &t->dispatch);
    fake_send(f);
}

static void expect_reply(struct fake *f, const struct task *t, uint64_t request) {
    fake_expect(f, WIRE_REPLY);
    const struct wire_reply *reply = &f->in.reply;
    assert_int_equal(f->in.head.request, request);
    assert_int_equal(f->in.head.epoch, 5);
    assert_int_equal(reply->layer, shape.layer);
    assert_int_equal(reply->n_rows, t->dispatch.n_rows);
    assert_int_equal(reply->n_embd, shape.n_embd);
    assert_true(reply->busy_ns > 0);
    assert_memory_equal(reply->poisoned, t->poisoned, reply->n_rows);
    const uint8_t *at = reply->packed, *end = at + reply->packed_bytes;
    for (uint32_t r = 0; r < reply->n_rows; r++) {
        int64_t got[96] = {0};
        int64_t n = wire_unpack_add(at, (size_t)(end - at), got, shape.n_embd, NULL);
        assert_true(n > 0);
        assert_memory_equal(got, t->sums + (size_t)r * shape.n_embd, sizeof got);
        at += n;
    }
    assert_true(at == end);
}

/* -------------------------------------------------------------------- cases -- */

static void a_worker_joins_takes_experts_and_answers(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    assert_string_equal(f.hello.name, "tester");
    assert_string_equal(f.hello.isa, kern_at(0)->name);
    assert_int_equal(f.hello.n_threads, 2);
    assert_int_equal(f.hello.ram_bytes, 8 << 20);
    assert_false(f.hello.beat);
    push(&f, shape.n_expert);

    static const uint32_t sizes[] = {1, 3, 70, 2};
    for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct task task;
        task_init(&task, sizes[i], shape.n_expert);
        for (int again = 0; again < 2; again++) { /* a repeated request is answered the same way */
            send_task(&f, &task, 100 + i);
            expect_reply(&f, &task, 100 + i);
        }
        task_fini(&task);
    }
    fake_end(&f);
}

static void a_poisoned_row_is_marked_in_the_reply(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    push(&f, shape.n_expert);
    struct task task;
    task_init(&task, 5, shape.n_expert);
    uint8_t *routes = (uint8_t *)(uintptr_t)task.dispatch.routes;
    wire_route_put(routes, 2, (struct wire_route){2, 0, 1e38f});
    task.poisoned[2] = 1;
    memset(task.sums + 2 * shape.n_embd, 0, shape.n_embd * sizeof *task.sums);
    send_task(&f, &task, 9);
    expect_reply(&f, &task, 9);
    task_fini(&task);
    fake_end(&f);
}

static void dispatches_of_a_known_size_allocate_nothing(void **state) {
    if (strcmp(*state, "inproc") != 0) return; /* where no library allocates on the way */
    struct fake f;
    fake_begin(&f, *state);
    push(&f, shape.n_expert);
    struct task task;
    task_init(&task, 8, shape.n_expert);
    for (uint64_t i = 1; i <= 3; i++) {
        send_task(&f, &task, i);
        expect_reply(&f, &task, i);
    }
    unsigned long before = atomic_load(&n_allocations);
    assert_true(before > 0);
    for (uint64_t i = 4; i < 50; i++) {
        send_task(&f, &task, i);
        expect_reply(&f, &task, i);
    }
    assert_int_equal(atomic_load(&n_allocations), before);
    task_fini(&task);
    fake_end(&f);
}

static void pings_are_answered_and_beats_come_from_a_second_connection(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    uint64_t deadline_ns = mono_after(PATIENCE_NS);
    while (f.beat_peer == 0)
        assert_true(fake_take(&f, deadline_ns));
    assert_int_not_equal(f.beat_peer, f.peer);
    assert_string_equal(f.in.hello.name, "tester");

    fake_send_bare(&f, WIRE_PING, 77);
    fake_expect(&f, WIRE_PONG);
    assert_int_equal(f.in.head.request, 77);
    if (strcmp(*state, "inproc") != 0) /* there only a busy worker beats */
        while (f.n_beats < 3)
            assert_true(fake_take(&f, deadline_ns));
    fake_end(&f);
}

static void requests_that_cannot_be_done_fail_with_their_number(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    struct task task;
    task_init(&task, 2, shape.n_expert);
    send_task(&f, &task, 1);
    expect_fail(&f, 1, ERR_NOT_FOUND, "layer 7 was not announced");
    push(&f, 2);
    send_task(&f, &task, 2);
    expect_fail(&f, 2, ERR_NOT_FOUND, "expert 2 of layer 7");

    struct wire_dispatch good = task.dispatch;
    task.dispatch.n_embd = 64;
    task.dispatch.n_rows = 2;
    send_task(&f, &task, 3);
    expect_fail(&f, 3, ERR_BAD_INPUT, "rows of 64 elements");
    task.dispatch = good;
    task.dispatch.act_mask = 1u << ACT_F32;
    task.dispatch.acts[ACT_Q8_32] = NULL;
    send_task(&f, &task, 4);
    expect_fail(&f, 4, ERR_BAD_INPUT, "missing");
    task.dispatch = good;
    *(int8_t *)(uintptr_t)task.dispatch.grid = -128;
    send_task(&f, &task, 5);
    expect_fail(&f, 5, ERR_BAD_INPUT, "grid");
    *(int8_t *)(uintptr_t)task.dispatch.grid = -30;

    task.dispatch.n_routes = 2 * task.dispatch.n_rows; /* experts 0 and 1 */
    send_task(&f, &task, 6);
    fake_expect(&f, WIRE_REPLY);
    task_fini(&task);
    fake_end(&f);
}

static void bad_weights_fail_once_and_are_still_counted(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    struct wire_layer bad = shape;
    bad.glu = 7;
    wire_encode_layer(&f.out, &bad);
    fake_send(&f);
    expect_fail(&f, 0, ERR_UNSUPPORTED, "activation function 7");

    wire_encode_layer(&f.out, &shape);
    fake_send(&f);
    bad = shape;
    bad.n_ff = 128;
    wire_encode_layer(&f.out, &bad);
    fake_send(&f);
    expect_fail(&f, 0, ERR_BAD_INPUT, "again with other shapes");
    size_t total;
    unsigned char *bytes = expert_bytes(0, &total);
    send_piece(&f, 0, bytes, 100, 100, total); /* starts in the middle */
    expect_fail(&f, 0, ERR_BAD_INPUT, "comes next");
    fake_expect(&f, WIRE_STORED);
    assert_int_equal(f.in.stored.n_pieces, 1);
    send_piece(&f, 0, bytes, 200, 100, total); /* the same expert: not told again */
    fake_expect(&f, WIRE_STORED);
    assert_int_equal(f.in.stored.n_pieces, 2);
    send_piece(&f, 1, bytes, 0, 100, total + 1);
    expect_fail(&f, 0, ERR_BAD_INPUT, "by the layer's shapes");
    fake_expect(&f, WIRE_STORED);
    assert_int_equal(f.in.stored.n_experts, 0);

    send_piece(&f, 0, bytes, 0, total, total);
    fake_expect(&f, WIRE_STORED);
    assert_int_equal(f.in.stored.n_experts, 1);
    free(bytes);
    fake_end(&f);
}

static void room_for_experts_is_kept(void **state) {
    struct fake f;
    fake_init(&f, *state);
    struct store_layer l = store_shape(&shape);
    f.options.ram_bytes = store_expert_held_bytes(kern_at(0), &l) * 3 / 2;
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    fake_welcome(&f);
    push(&f, 1);
    size_t total;
    unsigned char *bytes = expert_bytes(1, &total);
    send_piece(&f, 1, bytes, 0, total, total);
    expect_fail(&f, 0, ERR_LIMIT, "expert 1 of layer 7 needs");
    fake_expect(&f, WIRE_STORED);
    assert_int_equal(f.in.stored.n_experts, 1);
    free(bytes);
    fake_end(&f);
}

static void garbage_is_answered_with_fail_until_there_is_too_much_of_it(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    fake_send_garbage(&f);
    expect_fail(&f, 0, ERR_PROTOCOL, "malformed header");
    fake_send_bare(&f, WIRE_BEAT, 3); /* which only a worker sends */
    expect_fail(&f, 3, ERR_PROTOCOL, "BEAT");
    fake_send_bare(&f, WIRE_PING, 4);
    fake_expect(&f, WIRE_PONG);
    for (int i = 2; i < 16; i++) {
        fake_send_garbage(&f);
        expect_fail(&f, 0, ERR_PROTOCOL, "malformed");
    }
    fake_send_garbage(&f);
    assert_int_equal(fake_join(&f), ERR_PEER_LOST);
    assert_non_null(strstr(f.err.what, "cannot be used"));
    fake_fini(&f);
}

static void another_version_of_the_protocol_is_named(void **state) {
    struct fake f;
    fake_init(&f, *state);
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    struct wire_welcome welcome = {.coordinator = "future"};
    wire_encode_welcome(&f.out, &welcome);
    assert_int_equal(f.out.header[1], WIRE_VERSION); /* field 1, a varint */
    f.out.header[1] = WIRE_VERSION + 41;
    fake_send(&f);
    assert_int_equal(fake_join(&f), ERR_PROTOCOL);
    assert_non_null(strstr(f.err.what, "version 42"));
    assert_non_null(strstr(f.err.hint, "same release"));
    fake_fini(&f);
}

static void garbage_instead_of_a_welcome_ends_the_worker(void **state) {
    struct fake f;
    fake_init(&f, *state);
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    fake_send_garbage(&f);
    assert_int_equal(fake_join(&f), ERR_PROTOCOL);
    fake_fini(&f);
}

static void work_before_the_welcome_ends_the_worker(void **state) {
    struct fake f;
    fake_init(&f, *state);
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    wire_encode_layer(&f.out, &shape);
    fake_send(&f);
    assert_int_equal(fake_join(&f), ERR_PROTOCOL);
    assert_non_null(strstr(f.err.what, "LAYER before any WELCOME"));
    fake_fini(&f);
}

static void a_refusal_is_passed_on(void **state) {
    struct fake f;
    fake_init(&f, *state);
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    wire_encode_fail(&f.out, WIRE_REFUSE, 0, ERR_LIMIT, "the house is full");
    fake_send(&f);
    assert_int_equal(fake_join(&f), ERR_PROTOCOL);
    assert_non_null(strstr(f.err.what, "the house is full"));
    fake_fini(&f);
}

static void a_worker_that_may_come_later_waits_and_can_be_stopped(void **state) {
    struct fake f;
    fake_init(&f, *state);
    f.options.once = false;
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    wire_encode_fail(&f.out, WIRE_REFUSE, 0, ERR_LIMIT, "the house is full");
    fake_send(&f);
    atomic_store(&f.stop, true);
    assert_int_equal(fake_join(&f), 0);
    fake_fini(&f);
}

static void the_wish_to_stop_is_followed_with_a_goodbye(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    push(&f, 1);
    atomic_store(&f.stop, true);
    fake_expect(&f, WIRE_BYE);
    assert_int_equal(f.msg.peer, f.peer);
    assert_int_equal(fake_join(&f), 0);
    fake_fini(&f);
}

static void requests_that_have_arrived_are_answered_before_leaving(void **state) {
    if (strcmp(*state, "inproc") != 0) return; /* a sent message has arrived only there */
    struct fake f;
    fake_begin(&f, *state);
    push(&f, shape.n_expert);
    struct task task;
    task_init(&task, 30, shape.n_expert);
    for (uint64_t i = 1; i <= 5; i++)
        send_task(&f, &task, i);
    atomic_store(&f.stop, true);
    for (uint64_t i = 1; i <= 5; i++)
        expect_reply(&f, &task, i);
    fake_expect(&f, WIRE_BYE);
    assert_int_equal(fake_join(&f), 0);
    task_fini(&task);
    fake_fini(&f);
}

static void nobody_to_dial_does_not_keep_a_worker_from_stopping(void **state) {
    struct fake f;
    fake_init(&f, *state);
    atomic_store(&f.stop, true);
    fake_start(&f);
    assert_int_equal(fake_join(&f), 0);
    fake_fini(&f);
}

static void a_parent_that_is_gone_ends_the_worker(void **state) {
    struct fake f;
    fake_init(&f, *state);
    f.options.parent_pid = 1L << 30; /* not ours */
    f.options.once = false;
    fake_listen(&f);
    fake_start(&f);
    assert_int_equal(fake_join(&f), 0);
    fake_fini(&f);
}

static void a_coordinator_that_vanishes_is_noticed(void **state) {
    struct fake f;
    fake_begin(&f, *state);
    fake_send_bare(&f, WIRE_PING, 1);
    fake_expect(&f, WIRE_PONG);
    net_close(f.hub, 0);
    f.hub = NULL;
    uint64_t start_ns = mono_now();
    assert_int_equal(fake_join(&f), ERR_PEER_LOST);
    assert_true(mono_now() - start_ns < 10 * MONO_S);
    assert_non_null(strstr(f.err.what, "connection is closed"));
    fake_fini(&f);
}

static void a_coordinator_that_comes_back_starts_from_nothing(void **state) {
    struct fake f;
    fake_init(&f, *state);
    f.options.once = false;
    fake_listen(&f);
    fake_start(&f);
    fake_take_hello(&f);
    fake_welcome(&f);
    push(&f, shape.n_expert);
    net_close(f.hub, 0);
    f.beat_peer = 0;
    fake_listen(&f);

    /* What comes from the old life is turned away, until the worker introduces itself. */
    uint64_t deadline_ns = mono_after(PATIENCE_NS);
    for (;;) {
        struct net_msg *msg = &f.msg;
        assert_int_equal(net_recv(f.hub, deadline_ns, msg, NULL), 1);
        assert_int_equal(wire_decode(msg, &f.in, NULL), 0);
        if (f.in.head.type == WIRE_HELLO && !f.in.hello.beat) break;
        wire_encode_fail(&f.out, WIRE_REFUSE, 0, ERR_PROTOCOL, "say hello first");
        (void)net_send(f.hub, msg->peer, f.out.frames, f.out.n_frames, mono_now(), NULL);
    }
    f.peer = f.msg.peer;
    fake_welcome(&f);
    struct task task;
    task_init(&task, 2, shape.n_expert);
    send_task(&f, &task, 1);
    expect_fail(&f, 1, ERR_NOT_FOUND, "not announced");
    push(&f, shape.n_expert);
    send_task(&f, &task, 2);
    expect_reply(&f, &task, 2);
    task_fini(&task);
    atomic_store(&f.stop, true);
    assert_int_equal(fake_join(&f), 0);
    fake_fini(&f);
}

static void wrong_options_are_refused_before_dialling(void **state) {
    struct fake f;
    fake_init(&f, *state);
    f.options.isa = "abacus";
    fake_start(&f);
    assert_int_equal(fake_join(&f), ERR_USAGE);
    f.options.isa = "scalar";
    f.options.address = "carrier-pigeon://roof";
    f.err = (struct err)ERR_INIT;
    fake_start(&f);
    assert_int_equal(fake_join(&f), ERR_USAGE);
    assert_non_null(strstr(f.err.what, "carrier-pigeon"));
    fake_fini(&f);
}

/* Each case once per transport. */
#define BOTH(test)                                                                                 \
    {#test " (inproc)", test, NULL, NULL, (void *)(uintptr_t) "inproc"}, {                         \
#test " (ipc)", test, NULL, NULL, (void *)(uintptr_t) "ipc"                                \
    }

int main(void) {
    log_set_level(LOG_LEVEL_NONE); /* failures are provoked here by the dozen */
    const struct CMUnitTest tests[] = {
            BOTH(a_worker_joins_takes_experts_and_answers),
            BOTH(a_poisoned_row_is_marked_in_the_reply),
            BOTH(dispatches_of_a_known_size_allocate_nothing),
            BOTH(pings_are_answered_and_beats_come_from_a_second_connection),
            BOTH(requests_that_cannot_be_done_fail_with_their_number),
            BOTH(bad_weights_fail_once_and_are_still_counted),
            BOTH(room_for_experts_is_kept),
            BOTH(garbage_is_answered_with_fail_until_there_is_too_much_of_it),
            BOTH(another_version_of_the_protocol_is_named),
            BOTH(garbage_instead_of_a_welcome_ends_the_worker),
            BOTH(work_before_the_welcome_ends_the_worker),
            BOTH(a_refusal_is_passed_on),
            BOTH(a_worker_that_may_come_later_waits_and_can_be_stopped),
            BOTH(the_wish_to_stop_is_followed_with_a_goodbye),
            BOTH(requests_that_have_arrived_are_answered_before_leaving),
            BOTH(nobody_to_dial_does_not_keep_a_worker_from_stopping),
            BOTH(a_parent_that_is_gone_ends_the_worker),
            BOTH(a_coordinator_that_vanishes_is_noticed),
            BOTH(a_coordinator_that_comes_back_starts_from_nothing),
            BOTH(wrong_options_are_refused_before_dialling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
