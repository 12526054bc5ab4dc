/* wire_member.c - codecs of joining and leaving: HELLO, WELCOME, REFUSE, FAIL.
 * Owns: nothing. Does not: decide who may join. Runs on: any thread. */
#include "proto/wire/wire_internal.h"

#include <string.h>

/* More than any machine; a number to multiply with must not be larger. */
#define THREADS_MAX 65536
#define MEMBERS_MAX 65536

void wire_encode_hello(struct wire_out *out, const struct wire_hello *hello) {
    char name[sizeof hello->name], isa[sizeof hello->isa];
    wire_text_clean(name, sizeof name, hello->name);
    wire_text_clean(isa, sizeof isa, hello->isa);
    if (!name[0]) memcpy(name, "?", sizeof "?");
    ASSERT(hello->n_threads >= 1 && hello->n_threads <= THREADS_MAX);

    Potluck__Hello body = POTLUCK__HELLO__INIT;
    body.name = name;
    body.isa = isa;
    body.n_threads = hello->n_threads;
    body.ram_bytes = hello->ram_bytes;
    body.beat = hello->beat;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_HELLO;
    header.hello = &body;
    wire_begin(out, &header, WIRE_HELLO, 0, 0);
}

int wire_decode_hello(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Hello *body = header->hello;
    struct wire_hello *hello = &in->hello;
    int rc = wire_check_frames(msg, 1, err);
    if (rc == 0) rc = wire_text_take(hello->name, sizeof hello->name, body->name, "the name", err);
    if (rc == 0) rc = wire_text_take(hello->isa, sizeof hello->isa, body->isa, "the isa", err);
    if (rc == 0) rc = wire_check_range(body->n_threads, 1, THREADS_MAX, "n_threads", err);
    if (rc < 0) return rc;
    if (!hello->name[0]) return err_set(err, ERR_PROTOCOL, "the name is empty");

    hello->n_threads = body->n_threads;
    hello->ram_bytes = body->ram_bytes;
    hello->beat = body->beat;
    return 0;
}

void wire_encode_welcome(struct wire_out *out, const struct wire_welcome *welcome) {
    char coordinator[sizeof welcome->coordinator];
    wire_text_clean(coordinator, sizeof coordinator, welcome->coordinator);
    ASSERT(welcome->member < MEMBERS_MAX);

    Potluck__Welcome body = POTLUCK__WELCOME__INIT;
    body.member = welcome->member;
    body.coordinator = coordinator;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_WELCOME;
    header.welcome = &body;
    wire_begin(out, &header, WIRE_WELCOME, 0, welcome->epoch);
}

int wire_decode_welcome(const Potluck__Header *header, const struct net_msg *msg,
        struct wire_in *in, struct err *err) {
    const Potluck__Welcome *body = header->welcome;
    struct wire_welcome *welcome = &in->welcome;
    int rc = wire_check_frames(msg, 1, err);
    if (rc == 0) rc = wire_check_range(body->member, 0, MEMBERS_MAX - 1, "the member", err);
    if (rc == 0)
        rc = wire_text_take(welcome->coordinator, sizeof welcome->coordinator, body->coordinator,
                "the coordinator's name", err);
    welcome->member = body->member;
    welcome->epoch = header->epoch;
    return rc;
}

void wire_encode_fail(
        struct wire_out *out, enum wire_type type, uint64_t request, int code, const char *text) {
    char clean[WIRE_TEXT_MAX + 1];
    ASSERT(type == WIRE_FAIL || type == WIRE_REFUSE);
    ASSERT(code < 0);
    wire_text_clean(clean, sizeof clean, text);

    Potluck__Fail body = POTLUCK__FAIL__INIT;
    body.code = code;
    body.text = clean;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_FAIL;
    header.fail = &body;
    wire_begin(out, &header, type, request, 0);
}

int wire_decode_fail(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Fail *body = header->fail;
    int rc = wire_check_frames(msg, 1, err);
    if (rc < 0) return rc;
    if (body->code >= 0)
        return err_set(err, ERR_PROTOCOL, "the code is %d; it has to be negative", body->code);
    in->fail.code = body->code;
    return wire_text_take(in->fail.text, sizeof in->fail.text, body->text, "the text", err);
}
