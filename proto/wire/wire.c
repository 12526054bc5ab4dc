/* wire.c - frame 0 of every message, and which codec the rest belongs to.
 * Owns: the table of messages. Does not: keep state, or know who may send what.
 * Runs on: any thread.
 *
 * protobuf-c allocates what it unpacks. Here it gets memory on our stack and no more, so a header
 * can neither cost an allocation nor make us take one. */
#include "proto/wire/wire.h"

#include "proto/wire/wire_internal.h"

#include <stdalign.h>
#include <string.h>

/* The unpacked form of the largest header we accept: the structs, and each byte of text once. What
 * peers add in unknown fields has to fit too. */
#define SCRATCH_BYTES 8192

struct scratch {
    alignas(16) unsigned char bytes[SCRATCH_BYTES];
    size_t used;
};

struct message_desc {
    const char *name;
    Potluck__Header__BodyCase body;
    int (*decode)(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
            struct err *err);
};

/* BEAT, PING, PONG and BYE are the header alone. */
static int decode_bare(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    (void)header;
    (void)in;
    return wire_check_frames(msg, 1, err);
}

static const struct message_desc messages[WIRE_TYPE_COUNT] = {
        [WIRE_HELLO] = {"HELLO", POTLUCK__HEADER__BODY_HELLO, wire_decode_hello},
        [WIRE_WELCOME] = {"WELCOME", POTLUCK__HEADER__BODY_WELCOME, wire_decode_welcome},
        [WIRE_REFUSE] = {"REFUSE", POTLUCK__HEADER__BODY_FAIL, wire_decode_fail},
        [WIRE_LAYER] = {"LAYER", POTLUCK__HEADER__BODY_LAYER, wire_decode_layer},
        [WIRE_EXPERT] = {"EXPERT", POTLUCK__HEADER__BODY_EXPERT, wire_decode_expert},
        [WIRE_STORED] = {"STORED", POTLUCK__HEADER__BODY_STORED, wire_decode_stored},
        [WIRE_DISPATCH] = {"DISPATCH", POTLUCK__HEADER__BODY_DISPATCH, wire_decode_dispatch},
        [WIRE_REPLY] = {"REPLY", POTLUCK__HEADER__BODY_REPLY, wire_decode_reply},
        [WIRE_FAIL] = {"FAIL", POTLUCK__HEADER__BODY_FAIL, wire_decode_fail},
        [WIRE_BEAT] = {"BEAT", POTLUCK__HEADER__BODY__NOT_SET, decode_bare},
        [WIRE_PING] = {"PING", POTLUCK__HEADER__BODY__NOT_SET, decode_bare},
        [WIRE_PONG] = {"PONG", POTLUCK__HEADER__BODY__NOT_SET, decode_bare},
        [WIRE_BYE] = {"BYE", POTLUCK__HEADER__BODY__NOT_SET, decode_bare},
};

const char *wire_type_name(enum wire_type type) {
    if ((unsigned)type >= WIRE_TYPE_COUNT || !messages[type].name) return "unknown";
    return messages[type].name;
}

static void *scratch_alloc(void *arg, size_t n_bytes) {
    struct scratch *scratch = arg;
    size_t need = (n_bytes + 15) & ~(size_t)15;
    if (need < n_bytes || need > sizeof scratch->bytes - scratch->used) return NULL;
    void *at = scratch->bytes + scratch->used;
    scratch->used += need;
    return at;
}

static void scratch_free(void *arg, void *at) {
    (void)arg;
    (void)at;
}

int wire_check_range(
        uint64_t value, uint64_t low, uint64_t high, const char *what, struct err *err) {
    if (value >= low && value <= high) return 0;
    return err_set(err, ERR_PROTOCOL, "%s is %llu; it has to be from %llu to %llu", what,
            (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}

int wire_check_frames(const struct net_msg *msg, uint32_t n_frames, struct err *err) {
    if (msg->n_frames == n_frames) return 0;
    return err_set(err, ERR_PROTOCOL, "%u frames; it has to have %u", msg->n_frames, n_frames);
}

int wire_check_size(const struct net_msg *msg, uint32_t frame, uint64_t n_bytes, const char *what,
        struct err *err) {
    if (msg->frames[frame].n_bytes == n_bytes) return 0;
    return err_set(err, ERR_PROTOCOL, "frame %u (%s) has %zu bytes; it has to have %llu", frame,
            what, msg->frames[frame].n_bytes, (unsigned long long)n_bytes);
}

void wire_begin(struct wire_out *out, Potluck__Header *header, enum wire_type type,
        uint64_t request, uint64_t epoch) {
    header->version = WIRE_VERSION;
    header->type = (Potluck__Type)type;
    header->request = request;
    header->epoch = epoch;
    ASSERT(potluck__header__get_packed_size(header) <= sizeof out->header);
    out->frames[0].bytes = out->header;
    out->frames[0].n_bytes = potluck__header__pack(header, out->header);
    out->n_frames = 1;
}

void wire_add_frame(struct wire_out *out, const void *bytes, size_t n_bytes) {
    ASSERT(out->n_frames < NET_FRAMES_MAX);
    ASSERT(bytes || n_bytes == 0);
    out->frames[out->n_frames].bytes = bytes;
    out->frames[out->n_frames].n_bytes = n_bytes;
    out->n_frames++;
}

void wire_encode_bare(struct wire_out *out, enum wire_type type, uint64_t request) {
    ASSERT((unsigned)type < WIRE_TYPE_COUNT && messages[type].decode == decode_bare);
    Potluck__Header header = POTLUCK__HEADER__INIT;
    wire_begin(out, &header, type, request, 0);
}

static int check_version(const Potluck__Header *header, struct err *err) {
    if (header->version == WIRE_VERSION) return 0;
    err_set(err, ERR_PROTOCOL, "the other side speaks version %u of the protocol, this one %u",
            header->version, WIRE_VERSION);
    err_hint(err, "install the same release of potluck on both machines");
    return ERR_PROTOCOL;
}

int wire_decode(const struct net_msg *msg, struct wire_in *out_in, struct err *err) {
    if (msg->n_frames < 1 || msg->n_frames > NET_FRAMES_MAX)
        return err_set(err, ERR_PROTOCOL, "a message of %u frames", msg->n_frames);
    if (msg->frames[0].n_bytes == 0 || msg->frames[0].n_bytes > WIRE_HEADER_MAX)
        return err_set(err, ERR_PROTOCOL, "a header of %zu bytes; 1 to %zu are possible",
                msg->frames[0].n_bytes, WIRE_HEADER_MAX);

    struct scratch scratch;
    scratch.used = 0;
    ProtobufCAllocator allocator = {scratch_alloc, scratch_free, &scratch};
    const Potluck__Header *header =
            potluck__header__unpack(&allocator, msg->frames[0].n_bytes, msg->frames[0].bytes);
    if (!header)
        return err_set(
                err, ERR_PROTOCOL, "a malformed header of %zu bytes", msg->frames[0].n_bytes);
    int rc = check_version(header, err);
    if (rc < 0) return rc;

    uint32_t type = (uint32_t)header->type;
    if (type >= WIRE_TYPE_COUNT || !messages[type].decode)
        return err_set(err, ERR_PROTOCOL, "a message of the unknown type %u", type);
    const struct message_desc *desc = &messages[type];
    struct wire_in in = {.head = {(enum wire_type)type, header->request, header->epoch}};
    if (header->body_case != desc->body)
        rc = err_set(err, ERR_PROTOCOL, "the body is of kind %d; it has to be %d",
                (int)header->body_case, (int)desc->body);
    else
        rc = desc->decode(header, msg, &in, err);
    if (rc < 0) {
        err_note(err, "message %s", desc->name);
        return rc;
    }
    *out_in = in;
    return 0;
}
