/* wire_example.c - one message of each kind, and what has to come out when it is decoded.
 * Owns: constant contents. Runs on: a test's thread. */
#include "tests/support/wire_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void encode_hello(struct wire_out *out) {
    const struct wire_hello hello = {.name = "k\xc3\xbc"
                                             "che-pc",
            .isa = "avx512",
            .n_threads = 16,
            .ram_bytes = UINT64_C(137438953472)};
    wire_encode_hello(out, &hello);
}

static void check_hello(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_HELLO);
    assert_string_equal(in->hello.name, "k\xc3\xbc"
                                        "che-pc");
    assert_string_equal(in->hello.isa, "avx512");
    assert_int_equal(in->hello.n_threads, 16);
    assert_int_equal(in->hello.ram_bytes, UINT64_C(137438953472));
    assert_false(in->hello.beat);
}

static void encode_hello_beat(struct wire_out *out) {
    const struct wire_hello hello = {.name = "w1", .isa = "neon", .n_threads = 1, .beat = true};
    wire_encode_hello(out, &hello);
}

static void check_hello_beat(const struct wire_in *in) {
    assert_string_equal(in->hello.name, "w1");
    assert_int_equal(in->hello.ram_bytes, 0);
    assert_true(in->hello.beat);
}

static void encode_welcome(struct wire_out *out) {
    const struct wire_welcome welcome = {.member = 3, .epoch = 9, .coordinator = "attic"};
    wire_encode_welcome(out, &welcome);
}

static void check_welcome(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_WELCOME);
    assert_int_equal(in->welcome.member, 3);
    assert_int_equal(in->welcome.epoch, 9);
    assert_string_equal(in->welcome.coordinator, "attic");
}

static void encode_refuse(struct wire_out *out) {
    wire_encode_fail(out, WIRE_REFUSE, 0, ERR_PROTOCOL, "versions 1 and 2 do not mix");
}

static void check_refuse(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_REFUSE);
    assert_int_equal(in->fail.code, ERR_PROTOCOL);
    assert_string_equal(in->fail.text, "versions 1 and 2 do not mix");
}

static void encode_fail(struct wire_out *out) {
    wire_encode_fail(out, WIRE_FAIL, 77, ERR_NO_MEMORY, "no room for expert 5 of layer 2");
}

static void check_fail(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_FAIL);
    assert_int_equal(in->head.request, 77);
    assert_int_equal(in->fail.code, ERR_NO_MEMORY);
    assert_string_equal(in->fail.text, "no room for expert 5 of layer 2");
}

static void encode_layer(struct wire_out *out) {
    const struct wire_layer layer = {.layer = 60,
            .n_expert = 384,
            .n_embd = 7168,
            .n_ff = 2048,
            .gate_type = DT_Q4_K,
            .up_type = DT_Q5_K,
            .down_type = DT_Q8_0,
            .glu = 0};
    wire_encode_layer(out, &layer);
}

static void check_layer(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_LAYER);
    assert_int_equal(in->layer.layer, 60);
    assert_int_equal(in->layer.n_expert, 384);
    assert_int_equal(in->layer.n_embd, 7168);
    assert_int_equal(in->layer.n_ff, 2048);
    assert_int_equal(in->layer.gate_type, DT_Q4_K);
    assert_int_equal(in->layer.up_type, DT_Q5_K);
    assert_int_equal(in->layer.down_type, DT_Q8_0);
    assert_int_equal(in->layer.glu, 0);
}

/* The last piece of its expert. */
static void encode_expert(struct wire_out *out) {
    const struct wire_expert expert = {.layer = 2,
            .expert = 5,
            .offset = 1048576,
            .total_bytes = 1048588,
            .bytes = "twelve bytes",
            .n_bytes = 12};
    wire_encode_expert(out, &expert);
}

static void check_expert(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_EXPERT);
    assert_int_equal(in->expert.layer, 2);
    assert_int_equal(in->expert.expert, 5);
    assert_int_equal(in->expert.offset, 1048576);
    assert_int_equal(in->expert.total_bytes, 1048588);
    assert_int_equal(in->expert.n_bytes, 12);
    assert_memory_equal(in->expert.bytes, "twelve bytes", 12);
}

static void encode_stored(struct wire_out *out) {
    const struct wire_stored stored = {.n_pieces = 300, .n_experts = 20, .n_bytes = 5000000000};
    wire_encode_stored(out, &stored);
}

static void check_stored(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_STORED);
    assert_int_equal(in->stored.n_pieces, 300);
    assert_int_equal(in->stored.n_experts, 20);
    assert_int_equal(in->stored.n_bytes, 5000000000);
}

/* Two rows of 256 in every form, three routes. */
static void encode_dispatch(struct wire_out *out) {
    static const int8_t grid[2] = {-20, 7};
    static uint8_t f32[2048], q32[544], q256[516], routes[3 * WIRE_ROUTE_BYTES];
    for (size_t i = 0; i < sizeof f32; i++)
        f32[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof q32; i++)
        q32[i] = (uint8_t)(i * 5);
    for (size_t i = 0; i < sizeof q256; i++)
        q256[i] = (uint8_t)(i * 3);
    wire_route_put(routes, 0, (struct wire_route){1, 0, 0.25f});
    wire_route_put(routes, 1, (struct wire_route){0, 4095, 0.5f});
    wire_route_put(routes, 2, (struct wire_route){1, 4095, -1.0f});
    const struct wire_dispatch dispatch = {.layer = 11,
            .n_rows = 2,
            .n_embd = 256,
            .act_mask = 7,
            .n_routes = 3,
            .deadline_us = 300000000,
            .grid = grid,
            .acts = {[ACT_F32] = f32, [ACT_Q8_32] = q32, [ACT_Q8_256] = q256},
            .routes = routes};
    wire_encode_dispatch(out, 1000001, 2, &dispatch);
}

static void check_dispatch(const struct wire_in *in) {
    const struct wire_dispatch *d = &in->dispatch;
    assert_int_equal(in->head.type, WIRE_DISPATCH);
    assert_int_equal(in->head.request, 1000001);
    assert_int_equal(in->head.epoch, 2);
    assert_int_equal(d->layer, 11);
    assert_int_equal(d->n_rows, 2);
    assert_int_equal(d->n_embd, 256);
    assert_int_equal(d->act_mask, 7);
    assert_int_equal(d->n_routes, 3);
    assert_int_equal(d->deadline_us, 300000000);
    assert_int_equal(d->grid[0], -20);
    assert_int_equal(d->grid[1], 7);
    assert_int_equal(((const uint8_t *)d->acts[ACT_F32])[2047], (uint8_t)(2047 * 7));
    assert_int_equal(((const uint8_t *)d->acts[ACT_Q8_32])[543], (uint8_t)(543 * 5));
    assert_int_equal(((const uint8_t *)d->acts[ACT_Q8_256])[515], (uint8_t)(515 * 3));
    struct wire_route route = wire_route_at(d, 1);
    assert_int_equal(route.row, 0);
    assert_int_equal(route.expert, 4095);
    assert_true(route.weight == 0.5f);
    route = wire_route_at(d, 2);
    assert_int_equal(route.row, 1);
    assert_true(route.weight == -1.0f);
}

/* As a decode step sends it: one row, one form. */
static void encode_dispatch_one(struct wire_out *out) {
    static const int8_t grid[1] = {0};
    static uint8_t q32[34], routes[WIRE_ROUTE_BYTES];
    memset(q32, 0x11, sizeof q32);
    wire_route_put(routes, 0, (struct wire_route){0, 1, 1.0f});
    const struct wire_dispatch dispatch = {.n_rows = 1,
            .n_embd = 32,
            .act_mask = 1u << ACT_Q8_32,
            .n_routes = 1,
            .grid = grid,
            .acts = {[ACT_Q8_32] = q32},
            .routes = routes};
    wire_encode_dispatch(out, 1, 1, &dispatch);
}

static void check_dispatch_one(const struct wire_in *in) {
    assert_int_equal(in->dispatch.layer, 0);
    assert_int_equal(in->dispatch.deadline_us, 0);
    assert_null(in->dispatch.acts[ACT_F32]);
    assert_null(in->dispatch.acts[ACT_Q8_256]);
    assert_int_equal(((const uint8_t *)in->dispatch.acts[ACT_Q8_32])[33], 0x11);
}

/* Two rows of 33 sums: a whole block and a short one each; the second row is poisoned. */
static void encode_reply(struct wire_out *out) {
    static uint8_t packed[2048];
    static const uint8_t poisoned[2] = {0, 1};
    int64_t sums[33];
    for (int i = 0; i < 33; i++)
        sums[i] = (i % 2 ? -1 : 1) * (INT64_C(1) << i);
    size_t n_packed = wire_pack_sums(sums, 33, packed);
    memset(sums, 0, sizeof sums);
    n_packed += wire_pack_sums(sums, 33, packed + n_packed);
    const struct wire_reply reply = {.layer = 11,
            .n_rows = 2,
            .n_embd = 33,
            .busy_ns = 123456789,
            .packed = packed,
            .packed_bytes = n_packed,
            .poisoned = poisoned};
    wire_encode_reply(out, 1000001, 2, &reply);
}

static void check_reply(const struct wire_in *in) {
    const struct wire_reply *reply = &in->reply;
    assert_int_equal(in->head.type, WIRE_REPLY);
    assert_int_equal(in->head.request, 1000001);
    assert_int_equal(in->head.epoch, 2);
    assert_int_equal(reply->layer, 11);
    assert_int_equal(reply->n_rows, 2);
    assert_int_equal(reply->n_embd, 33);
    assert_int_equal(reply->busy_ns, 123456789);
    assert_int_equal(reply->poisoned[0], 0);
    assert_int_equal(reply->poisoned[1], 1);
    int64_t sums[33] = {0};
    int64_t n = wire_unpack_add(reply->packed, reply->packed_bytes, sums, 33, NULL);
    for (int i = 0; i < 33; i++)
        assert_int_equal(sums[i], (i % 2 ? -1 : 1) * (INT64_C(1) << i));
    assert_int_equal(n + 2, reply->packed_bytes);
}

static void encode_beat(struct wire_out *out) {
    wire_encode_bare(out, WIRE_BEAT, 0);
}

static void check_beat(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_BEAT);
    assert_int_equal(in->head.request, 0);
}

static void encode_ping(struct wire_out *out) {
    wire_encode_bare(out, WIRE_PING, 300);
}

static void check_ping(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_PING);
}

static void encode_pong(struct wire_out *out) {
    wire_encode_bare(out, WIRE_PONG, 300);
}

static void check_pong(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_PONG);
}

static void encode_bye(struct wire_out *out) {
    wire_encode_bare(out, WIRE_BYE, 0);
}

static void check_bye(const struct wire_in *in) {
    assert_int_equal(in->head.type, WIRE_BYE);
}

const struct wire_example wire_examples[WIRE_EXAMPLES] = {
        {"hello", encode_hello, check_hello},
        {"hello_beat", encode_hello_beat, check_hello_beat},
        {"welcome", encode_welcome, check_welcome},
        {"refuse", encode_refuse, check_refuse},
        {"layer", encode_layer, check_layer},
        {"expert", encode_expert, check_expert},
        {"stored", encode_stored, check_stored},
        {"dispatch", encode_dispatch, check_dispatch},
        {"dispatch_one", encode_dispatch_one, check_dispatch_one},
        {"reply", encode_reply, check_reply},
        {"fail", encode_fail, check_fail},
        {"beat", encode_beat, check_beat},
        {"ping", encode_ping, check_ping},
        {"pong", encode_pong, check_pong},
        {"bye", encode_bye, check_bye},
};
