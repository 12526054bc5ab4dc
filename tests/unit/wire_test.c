/* wire_test.c - every message: golden bytes, round trip, and everything that can be wrong with it.
 * POTLUCK_UPDATE_GOLDEN=1 writes tests/golden/wire/NAME.hex anew; a changed file is a changed
 * protocol. */
#include "proto/wire/wire.h"

#include "proto/base/buf.h"
#include "proto/base/rng.h"
#include "proto/schema/potluck.pb-c.h"
#include "tests/support/wire_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A message whose frames lie in memory of exactly their size, so that a sanitizer sees any byte
 * read beyond. */
struct owned {
    struct net_msg msg;
    void *bytes[NET_FRAMES_MAX];
};

static void owned_set(struct owned *owned, uint32_t frame, const void *bytes, size_t n_bytes) {
    void *copy = malloc(n_bytes);
    assert_true(copy || n_bytes == 0);
    if (n_bytes) memcpy(copy, bytes, n_bytes);
    free(owned->bytes[frame]);
    owned->bytes[frame] = copy;
    owned->msg.frames[frame] = (struct net_frame){copy, n_bytes};
}

static void owned_init(struct owned *owned, const struct wire_out *out) {
    memset(owned, 0, sizeof *owned);
    owned->msg.n_frames = out->n_frames;
    for (uint32_t i = 0; i < out->n_frames; i++)
        owned_set(owned, i, out->frames[i].bytes, out->frames[i].n_bytes);
}

static void owned_fini(struct owned *owned) {
    for (int i = 0; i < NET_FRAMES_MAX; i++)
        free(owned->bytes[i]);
}

static void example(const struct wire_example *ex, struct owned *owned) {
    struct wire_out out;
    ex->encode(&out);
    owned_init(owned, &out);
}

static int decode(const struct owned *owned, struct wire_in *in) {
    struct err err = ERR_INIT;
    int rc = wire_decode(&owned->msg, in, &err);
    assert_int_equal(rc < 0, err.code < 0);
    assert_true(rc == 0 || (rc == ERR_PROTOCOL && err.what[0]));
    return rc;
}

/* Frames as text: "frame 0: 5 bytes", then lines of 32 bytes in hexadecimal. */
static void put_hex(struct buf *text, const struct wire_out *out) {
    for (uint32_t i = 0; i < out->n_frames; i++) {
        const unsigned char *bytes = out->frames[i].bytes;
        buf_printf(text, NULL, "frame %u: %zu bytes", i, out->frames[i].n_bytes);
        for (size_t b = 0; b < out->frames[i].n_bytes; b++)
            buf_printf(text, NULL, "%s%02x", b % 32 ? " " : "\n", bytes[b]);
        buf_append_str(text, "\n", NULL);
    }
}

static void bytes_are_those_of_the_golden_files(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct wire_out out;
        struct buf text = {0}, golden = {0};
        struct err err = ERR_INIT;
        char path[128];
        wire_examples[i].encode(&out);
        put_hex(&text, &out);
        snprintf(path, sizeof path, "tests/golden/wire/%s.hex", wire_examples[i].name);
        if (getenv("POTLUCK_UPDATE_GOLDEN")) {
            FILE *file = fopen(path, "w");
            assert_non_null(file);
            fwrite(text.bytes, 1, text.n_bytes, file);
            assert_int_equal(fclose(file), 0);
        }
        if (buf_read_file(&golden, path, 1 << 20, &err) < 0) fail_msg("%s", err.what);
        if (strcmp(golden.bytes, text.bytes) != 0)
            fail_msg("%s differs; expected:\n%s\ngot:\n%s", path, golden.bytes, text.bytes);
        buf_fini(&golden);
        buf_fini(&text);
    }
}

static void every_message_decodes_to_what_was_encoded(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct owned owned;
        struct wire_in in;
        struct err err = ERR_INIT;
        example(&wire_examples[i], &owned);
        if (wire_decode(&owned.msg, &in, &err) < 0)
            fail_msg("%s: %s", wire_examples[i].name, err.what);
        wire_examples[i].check(&in);
        owned_fini(&owned);
    }
}

static bool is_bare(int i) {
    struct owned owned;
    struct wire_in in;
    example(&wire_examples[i], &owned);
    assert_int_equal(decode(&owned, &in), 0);
    owned_fini(&owned);
    return in.head.type >= WIRE_BEAT;
}

static void a_header_cut_anywhere_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct wire_out out;
        wire_examples[i].encode(&out);
        for (size_t n = 0; n < out.frames[0].n_bytes; n++) {
            struct owned owned;
            struct wire_in in;
            owned_init(&owned, &out);
            owned_set(&owned, 0, out.header, n);
            int rc = decode(&owned, &in);
            /* Without a body, a header less its last field is a header too: request 0. */
            if (rc == 0 && !(is_bare(i) && in.head.request == 0))
                fail_msg("%s cut at %zu was taken", wire_examples[i].name, n);
            owned_fini(&owned);
        }
    }
}

static void a_frame_of_another_size_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct wire_out out;
        wire_examples[i].encode(&out);
        for (uint32_t f = 1; f < out.n_frames; f++)
            for (size_t n = 0; n <= out.frames[f].n_bytes + 9; n++) {
                /* A shorter piece of an expert is a piece. */
                bool shorter = n > 0 && n < out.frames[f].n_bytes;
                if (n == out.frames[f].n_bytes) continue;
                if (shorter && strcmp(wire_examples[i].name, "expert") == 0) continue;
                struct owned owned;
                struct wire_in in;
                char padded[4096] = {0};
                owned_init(&owned, &out);
                memcpy(padded, out.frames[f].bytes, shorter ? n : out.frames[f].n_bytes);
                owned_set(&owned, f, padded, n);
                if (decode(&owned, &in) == 0)
                    fail_msg(
                            "%s with frame %u of %zu bytes was taken", wire_examples[i].name, f, n);
                owned_fini(&owned);
            }
    }
}

static void a_missing_or_additional_frame_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct owned owned;
        struct wire_in in;
        example(&wire_examples[i], &owned);
        for (uint32_t f = 0; f < owned.msg.n_frames; f++) {
            struct owned less = {.msg = owned.msg};
            less.msg.n_frames--;
            for (uint32_t g = f; g < less.msg.n_frames; g++)
                less.msg.frames[g] = owned.msg.frames[g + 1];
            if (decode(&less, &in) == 0)
                fail_msg("%s without frame %u was taken", wire_examples[i].name, f);
        }
        for (int empty = 0; empty < 2; empty++) {
            struct owned more = {.msg = owned.msg};
            more.msg.frames[more.msg.n_frames++] = (struct net_frame){"x", empty ? 0 : 1};
            if (decode(&more, &in) == 0)
                fail_msg("%s with one frame more was taken", wire_examples[i].name);
        }
        owned_fini(&owned);
    }
}

/* Packs a header and puts it in the place of owned's. */
static int decode_header(struct owned *owned, const Potluck__Header *header, struct wire_in *in) {
    uint8_t *bytes = malloc(potluck__header__get_packed_size(header) + 1);
    assert_non_null(bytes);
    owned_set(owned, 0, bytes, potluck__header__pack(header, bytes));
    free(bytes);
    return decode(owned, in);
}

static Potluck__Header *unpack(const struct owned *owned) {
    Potluck__Header *header =
            potluck__header__unpack(NULL, owned->msg.frames[0].n_bytes, owned->msg.frames[0].bytes);
    assert_non_null(header);
    return header;
}

static const struct wire_example *find_example(const char *name) {
    for (int i = 0; i < WIRE_EXAMPLES; i++)
        if (strcmp(wire_examples[i].name, name) == 0) return &wire_examples[i];
    fail_msg("no example %s", name);
    return NULL;
}

static void another_version_is_named_in_the_error(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct owned owned;
        struct wire_in in;
        struct err err = ERR_INIT;
        example(&wire_examples[i], &owned);
        Potluck__Header *header = unpack(&owned);
        header->version = 4711;
        header->type = (Potluck__Type)99; /* whatever else that version changed */
        assert_int_equal(decode_header(&owned, header, &in), ERR_PROTOCOL);
        assert_int_equal(wire_decode(&owned.msg, &in, &err), ERR_PROTOCOL);
        assert_non_null(strstr(err.what, "version 4711"));
        assert_non_null(strstr(err.what, "this one 1"));
        assert_int_not_equal(err.hint[0], 0);
        potluck__header__free_unpacked(header, NULL);
        owned_fini(&owned);
    }
}

static void a_type_that_does_not_fit_the_body_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_EXAMPLES; i++) {
        struct owned owned;
        struct wire_in in;
        example(&wire_examples[i], &owned);
        Potluck__Header *header = unpack(&owned);
        int right = (int)header->type;
        bool fail = right == WIRE_FAIL || right == WIRE_REFUSE;
        for (int type = -1; type < 30; type++) {
            header->type = (Potluck__Type)type;
            bool same_body = type == right ||
                             (fail && (type == WIRE_FAIL || type == WIRE_REFUSE)) ||
                             (right >= WIRE_BEAT && type >= WIRE_BEAT && type < WIRE_TYPE_COUNT);
            assert_int_equal(decode_header(&owned, header, &in) == 0, same_body);
        }
        potluck__header__free_unpacked(header, NULL);
        owned_fini(&owned);
    }
}

/* Sets each field of a body to a number that it must not have, and expects a refusal. */
#define REFUSES(example_name, field, ...)                                                          \
    do {                                                                                           \
        const uint64_t bad[] = {__VA_ARGS__};                                                      \
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {                                  \
            struct owned owned;                                                                    \
            struct wire_in in;                                                                     \
            example(find_example(example_name), &owned);                                           \
            Potluck__Header *header = unpack(&owned);                                              \
            header->field = bad[k];                                                                \
            if (decode_header(&owned, header, &in) == 0)                                           \
                fail_msg("%s with %s = %llu was taken", example_name, #field,                      \
                        (unsigned long long)bad[k]);                                               \
            potluck__header__free_unpacked(header, NULL);                                          \
            owned_fini(&owned);                                                                    \
        }                                                                                          \
    } while (0)

static void numbers_outside_the_limits_are_refused(void **state) {
    (void)state;
    REFUSES("hello", hello->n_threads, 0, 65537, UINT32_MAX);
    REFUSES("welcome", welcome->member, 65536, UINT32_MAX);
    REFUSES("layer", layer->layer, WIRE_LAYERS_MAX, UINT32_MAX);
    REFUSES("layer", layer->n_expert, 0, WIRE_EXPERTS_MAX + 1, UINT32_MAX);
    REFUSES("layer", layer->n_embd, 0, 1, 255, 7168 + 32, WIRE_WIDTH_MAX + 256, UINT32_MAX);
    REFUSES("layer", layer->n_ff, 0, 1, 31, WIRE_WIDTH_MAX + 32, UINT32_MAX);
    REFUSES("layer", layer->gate_type, 4, 5, DT_I32, DT_F64, DT_COUNT, 1000, UINT32_MAX);
    REFUSES("layer", layer->up_type, 4, DT_I8, DT_COUNT, UINT32_MAX);
    REFUSES("layer", layer->down_type, 31, DT_I16, DT_COUNT, UINT32_MAX);
    REFUSES("layer", layer->glu, 256, UINT32_MAX);
    REFUSES("expert", expert->layer, WIRE_LAYERS_MAX, UINT32_MAX);
    REFUSES("expert", expert->expert, WIRE_EXPERTS_MAX, UINT32_MAX);
    REFUSES("expert", expert->offset, 1048577, UINT64_MAX, UINT64_MAX - 11);
    REFUSES("expert", expert->total_bytes, 0, 11, 1048587, UINT64_MAX);
    REFUSES("dispatch", dispatch->layer, WIRE_LAYERS_MAX, UINT32_MAX);
    REFUSES("dispatch", dispatch->n_rows, 0, 1, 3, WIRE_ROWS_MAX + 1, UINT32_MAX);
    REFUSES("dispatch", dispatch->n_embd, 0, 128, 512, WIRE_WIDTH_MAX + 256, UINT32_MAX, 1u << 31);
    REFUSES("dispatch", dispatch->act_mask, 0, 1, 2, 3, 6, 8, 15, UINT32_MAX);
    REFUSES("dispatch", dispatch->n_routes, 0, 2, 4, WIRE_ROUTES_MAX + 1, UINT32_MAX, 1u << 29);
    REFUSES("reply", reply->layer, WIRE_LAYERS_MAX, UINT32_MAX);
    REFUSES("reply", reply->n_rows, 0, 1, 3, WIRE_ROWS_MAX + 1, UINT32_MAX);
    REFUSES("reply", reply->n_embd, 0, 32, 65, WIRE_WIDTH_MAX + 1, UINT32_MAX);
    REFUSES("fail", fail->code, 0, 1, INT32_MAX);
}

static void a_piece_over_the_limit_is_refused(void **state) {
    (void)state;
    struct owned owned;
    struct wire_in in;
    example(find_example("expert"), &owned);
    Potluck__Header *header = unpack(&owned);
    header->expert->total_bytes = UINT64_C(1) << 30;
    char *bytes = calloc(1, WIRE_CHUNK_MAX + 1);
    assert_non_null(bytes);
    owned_set(&owned, 1, bytes, WIRE_CHUNK_MAX);
    assert_int_equal(decode_header(&owned, header, &in), 0);
    owned_set(&owned, 1, bytes, WIRE_CHUNK_MAX + 1);
    assert_int_equal(decode_header(&owned, header, &in), ERR_PROTOCOL);
    free(bytes);
    potluck__header__free_unpacked(header, NULL);
    owned_fini(&owned);
}

static void routes_out_of_order_or_range_are_refused(void **state) {
    (void)state;
    static const struct {
        struct wire_route routes[3];
        bool good;
    } cases[] = {
            {{{0, 0, 1}, {1, 0, 1}, {0, 1, 1}}, true},
            {{{1, 3, 0}, {0, 4, 0}, {1, 4, 0}}, true},
            {{{1, 0, 1}, {0, 0, 1}, {0, 1, 1}}, false},
            {{{0, 1, 1}, {0, 0, 1}, {1, 1, 1}}, false},
            {{{0, 0, 1}, {0, 0, 1}, {1, 1, 1}}, false},
            {{{0, 0, 1}, {1, 0, 1}, {1, 0, 1}}, false},
            {{{0, 0, 1}, {1, 0, 1}, {2, 1, 1}}, false},
            {{{0, 0, 1}, {1, 0, 1}, {65535, 1, 1}}, false},
            {{{0, 0, 1}, {1, 0, 1}, {0, 4096, 1}}, false},
            {{{0, 0, 1}, {1, 0, 1}, {0, 65535, 1}}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct owned owned;
        struct wire_in in;
        uint8_t routes[3 * WIRE_ROUTE_BYTES];
        example(find_example("dispatch"), &owned);
        for (uint32_t r = 0; r < 3; r++)
            wire_route_put(routes, r, cases[i].routes[r]);
        owned_set(&owned, 5, routes, sizeof routes);
        if ((decode(&owned, &in) == 0) != cases[i].good) fail_msg("case %zu", i);
        owned_fini(&owned);
    }
}

static void marks_and_packed_sums_of_a_reply_are_checked(void **state) {
    (void)state;
    struct owned owned;
    struct wire_in in;
    example(find_example("reply"), &owned);
    owned_set(&owned, 2, "\0\2", 2);
    assert_int_equal(decode(&owned, &in), ERR_PROTOCOL);
    owned_set(&owned, 2, "\1\1", 2);
    assert_int_equal(decode(&owned, &in), 0);

    owned_set(&owned, 1, "\0\0\0\0", 4);
    assert_int_equal(decode(&owned, &in), 0);
    static const char *const bad[] = {"\0\0\0\x41", "\0\0\0\1", "\0\0\xff\0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        owned_set(&owned, 1, bad[i], 4);
        assert_int_equal(decode(&owned, &in), ERR_PROTOCOL);
    }
    owned_fini(&owned);
}

static void texts_have_to_be_plain_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
            {"box", true},
            {"k\xc3\xbc"
             "che",
                    true},
            {"\xe4\xb8\xad\xe6\x96\x87", true},
            {"\xf0\x9f\x8d\xb2", true},
            {"a b", true},
            {"\xc2\xa0", true},
            {"\xf4\x8f\xbf\xbf", true},
            {"", false},
            {"a\nb", false},
            {"\x1b[31m", false},
            {"a\tb", false},
            {"\x7f", false},
            {"\xc2\x9b", false},
            {"\x80", false},
            {"\xc3", false},
            {"\xc3(", false},
            {"\xc0\xaf", false},
            {"\xe0\x80\xaf", false},
            {"\xed\xa0\x80", false},
            {"\xf0\x80\x80\xaf", false},
            {"\xf4\x90\x80\x80", false},
            {"\xf8\x88\x80\x80\x80", false},
            {"\xe4\xb8", false},
            {"\xf0\x9f\x8d", false},
            {"\xff", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct owned owned;
        struct wire_in in;
        char text[16];
        snprintf(text, sizeof text, "%s", cases[i].text);
        Potluck__Hello body = POTLUCK__HELLO__INIT;
        body.name = text;
        body.n_threads = 1;
        Potluck__Header header = POTLUCK__HEADER__INIT;
        header.version = WIRE_VERSION;
        header.type = POTLUCK__TYPE__TYPE_HELLO;
        header.body_case = POTLUCK__HEADER__BODY_HELLO;
        header.hello = &body;
        example(find_example("hello"), &owned);
        if ((decode_header(&owned, &header, &in) == 0) != cases[i].good) fail_msg("text %zu", i);
        owned_fini(&owned);
    }
}

static void texts_are_made_fit_before_they_are_sent(void **state) {
    (void)state;
    struct wire_out out;
    struct owned owned;
    struct wire_in in;
    wire_encode_fail(&out, WIRE_FAIL, 1, ERR_IO, "bad \xff name\n\xc3\xbc\xe4\xb8");
    owned_init(&owned, &out);
    assert_int_equal(decode(&owned, &in), 0);
    assert_string_equal(in.fail.text, "bad ? name?\xc3\xbc??");
    owned_fini(&owned);

    char text[WIRE_TEXT_MAX + 100];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = i % 2 ? (char)0xbc : (char)0xc3;
    text[sizeof text - 1] = 0;
    wire_encode_fail(&out, WIRE_FAIL, 1, ERR_IO, text);
    owned_init(&owned, &out);
    assert_int_equal(decode(&owned, &in), 0);
    assert_int_equal(strlen(in.fail.text), WIRE_TEXT_MAX - 1); /* not through a character */
    owned_fini(&owned);

    struct wire_hello hello = {.name = "", .n_threads = 1};
    wire_encode_hello(&out, &hello);
    owned_init(&owned, &out);
    assert_int_equal(decode(&owned, &in), 0);
    owned_fini(&owned);
}

static void texts_that_are_too_long_are_refused(void **state) {
    (void)state;
    char text[900];
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 2; i++) {
        struct owned owned;
        struct wire_in in;
        example(find_example("fail"), &owned);
        Potluck__Header *header = unpack(&owned);
        text[WIRE_TEXT_MAX + i] = 0;
        char *old = header->fail->text;
        header->fail->text = text;
        assert_int_equal(decode_header(&owned, header, &in), i ? ERR_PROTOCOL : 0);
        header->fail->text = old;
        potluck__header__free_unpacked(header, NULL);
        owned_fini(&owned);
        text[WIRE_TEXT_MAX + i] = 'a';
    }
}

/* A later release may add fields; they cost nothing and are passed over. */
static void unknown_fields_are_passed_over_within_limits(void **state) {
    (void)state;
    for (size_t n = 0; n < 1200; n += 7) {
        struct owned owned;
        struct wire_in in;
        uint8_t bytes[2048];
        example(find_example("stored"), &owned);
        size_t used = owned.msg.frames[0].n_bytes;
        memcpy(bytes, owned.msg.frames[0].bytes, used);
        for (size_t i = 0; i < n; i++, used += 3)
            if (used + 3 <= sizeof bytes)
                memcpy(bytes + used, "\xa0\x06\x05", 3); /* field 100: 5 */
        used = used < sizeof bytes ? used : sizeof bytes - 8;
        owned_set(&owned, 0, bytes, used);
        int rc = decode(&owned, &in);
        if (n < 50) assert_int_equal(rc, 0);
        if (used > 1024) assert_int_equal(rc, ERR_PROTOCOL);
        owned_fini(&owned);
    }
}

/* What a fuzzer does at length, here for a moment in every run. */
static void random_damage_never_does_harm(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 20240607);
    for (int round = 0; round < 30000; round++) {
        struct owned owned;
        struct wire_in in;
        example(&wire_examples[rng_below(&rng, WIRE_EXAMPLES)], &owned);
        uint32_t n_hits = 1 + (uint32_t)rng_below(&rng, 4);
        for (uint32_t h = 0; h < n_hits; h++) {
            uint32_t f = rng_below(&rng, 3) ? 0 : (uint32_t)rng_below(&rng, owned.msg.n_frames);
            uint8_t *bytes = owned.bytes[f];
            bytes[rng_below(&rng, owned.msg.frames[f].n_bytes)] ^=
                    (uint8_t)(1u << rng_below(&rng, 8));
        }
        if (decode(&owned, &in) == 0 && in.head.type == WIRE_REPLY) {
            int64_t sums[33] = {0};
            if (in.reply.n_embd <= 33)
                wire_unpack_add(
                        in.reply.packed, in.reply.packed_bytes, sums, in.reply.n_embd, NULL);
        }
        owned_fini(&owned);
    }
}

static void messages_without_frames_or_with_too_many_are_refused(void **state) {
    (void)state;
    struct owned owned;
    struct wire_in in;
    example(find_example("ping"), &owned);
    static const uint32_t counts[] = {0, NET_FRAMES_MAX + 1, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        owned.msg.n_frames = counts[i];
        assert_int_equal(decode(&owned, &in), ERR_PROTOCOL);
    }
    owned_fini(&owned);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(bytes_are_those_of_the_golden_files),
            cmocka_unit_test(every_message_decodes_to_what_was_encoded),
            cmocka_unit_test(a_header_cut_anywhere_is_refused),
            cmocka_unit_test(a_frame_of_another_size_is_refused),
            cmocka_unit_test(a_missing_or_additional_frame_is_refused),
            cmocka_unit_test(another_version_is_named_in_the_error),
            cmocka_unit_test(a_type_that_does_not_fit_the_body_is_refused),
            cmocka_unit_test(numbers_outside_the_limits_are_refused),
            cmocka_unit_test(a_piece_over_the_limit_is_refused),
            cmocka_unit_test(routes_out_of_order_or_range_are_refused),
            cmocka_unit_test(marks_and_packed_sums_of_a_reply_are_checked),
            cmocka_unit_test(texts_have_to_be_plain_utf8),
            cmocka_unit_test(texts_are_made_fit_before_they_are_sent),
            cmocka_unit_test(texts_that_are_too_long_are_refused),
            cmocka_unit_test(unknown_fields_are_passed_over_within_limits),
            cmocka_unit_test(random_damage_never_does_harm),
            cmocka_unit_test(messages_without_frames_or_with_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
