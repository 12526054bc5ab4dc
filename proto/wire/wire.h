/* wire.h - every message between a coordinator and its workers.
 *
 * Frame 0 is a small protobuf header (proto/schema/potluck.proto), the other frames are raw
 * little-endian arrays. Encoders write into a caller's struct wire_out (no allocation once it has
 * grown); decoders check every count and length against named limits and the frame sizes before
 * anything is believed, and only then fill our own structs. Decoded pointers are borrowed from the
 * received message. Plain functions, any thread. Golden bytes: tests/golden/wire. */
#pragma once

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/format/dtype.h"
#include "proto/net/net.h"

#include <stdbool.h>
#include <stdint.h>

#define WIRE_VERSION 1

/* Limits: far above real models, far below what would hurt. */
#define WIRE_NAME_MAX 63  /* bytes of a worker's or machine's name */
#define WIRE_TEXT_MAX 511 /* bytes of an error text */
#define WIRE_LAYERS_MAX 1024
#define WIRE_EXPERTS_MAX 4096 /* experts of a layer */
#define WIRE_ROWS_MAX 8192    /* rows of a dispatch */
#define WIRE_ROUTES_MAX (WIRE_ROWS_MAX * 64u)
#define WIRE_WIDTH_MAX (1u << 20) /* n_embd, n_ff */
#define WIRE_CHUNK_MAX (4u << 20) /* bytes of an expert in one message */

enum wire_type {
    WIRE_UNSPECIFIED = 0,
    WIRE_HELLO = 1,    /* worker -> coordinator: first message */
    WIRE_WELCOME = 2,  /* coordinator -> worker: accepted */
    WIRE_REFUSE = 3,   /* coordinator -> worker: not accepted, and why */
    WIRE_LAYER = 4,    /* coordinator -> worker: shapes of one layer's experts */
    WIRE_EXPERT = 5,   /* coordinator -> worker: a piece of one expert's weights */
    WIRE_STORED = 6,   /* worker -> coordinator: pieces taken in so far (the flow control) */
    WIRE_DISPATCH = 7, /* coordinator -> worker: rows for the experts of one layer */
    WIRE_REPLY = 8,    /* worker -> coordinator: merged sums of those rows */
    WIRE_FAIL = 9,     /* worker -> coordinator: a request or a load that could not be done */
    WIRE_BEAT = 10,    /* worker -> coordinator, from a thread of its own: alive */
    WIRE_PING = 11,    /* either way: answered with a PONG of the same request id */
    WIRE_PONG = 12,
    WIRE_BYE = 13, /* either way: leaving on purpose */
    WIRE_TYPE_COUNT,
};

struct wire_hello {
    char name[WIRE_NAME_MAX + 1];
    char isa[16];
    uint32_t n_threads;
    uint64_t ram_bytes; /* room for experts */
    bool beat;          /* this is the second connection of that worker, for beats only */
};

struct wire_welcome {
    uint32_t member; /* index of the worker at this coordinator */
    uint64_t epoch;
    char coordinator[WIRE_NAME_MAX + 1];
};

/* Also used by FAIL: which request failed (0: none), code and text. */
struct wire_fail {
    int32_t code; /* enum err_code */
    char text[WIRE_TEXT_MAX + 1];
};

/* The shapes of one layer's experts: gate and up are [n_ff][n_embd], down is [n_embd][n_ff]. */
struct wire_layer {
    uint32_t layer;
    uint32_t n_expert;
    uint32_t n_embd;
    uint32_t n_ff;
    enum dtype gate_type;
    enum dtype up_type;
    enum dtype down_type;
    uint32_t glu; /* enum kern_glu */
};

/* A piece of an expert's bytes: gate rows, then up rows, then down rows, GGUF blocks. Pieces come
 * in order. bytes is frame 1. */
struct wire_expert {
    uint32_t layer;
    uint32_t expert;
    uint64_t offset;
    uint64_t total_bytes;
    const void *bytes;
    uint32_t n_bytes;
};

struct wire_stored {
    uint64_t n_pieces;  /* EXPERT messages taken in since WELCOME */
    uint64_t n_experts; /* whole experts ready to compute */
    uint64_t n_bytes;   /* memory they take, as repacked */
};

/* One (row, expert) pair of a dispatch. */
struct wire_route {
    uint16_t row; /* index into this message's rows */
    uint16_t expert;
    float weight;
};

/* Frames: 1 = grid exponents i8[n_rows]; then for each activation kind in ascending order whose
 * bit is set in act_mask: ACT_F32 f32[n_rows][n_embd]; ACT_Q8_*: q i8[n_rows][n_embd] followed by
 * the scales as bfloat16[n_rows][n_embd / B]; last = routes, ascending by (expert, row), 8 bytes
 * each: u16 row, u16 expert, f32 weight. */
struct wire_dispatch {
    uint32_t layer;
    uint32_t n_rows;
    uint32_t n_embd;
    uint32_t act_mask; /* bit k: enum act_kind k is present */
    uint32_t n_routes;
    uint64_t deadline_us; /* from the sender's send; 0: none */
    const int8_t *grid;
    const void *acts[ACT_KIND_COUNT]; /* frame of that kind or NULL; maybe unaligned */
    const void *routes;               /* encoded; wire_route_at() reads one */
};

/* Frames: 1 = sums packed by wire_pack_sums(), row after row; 2 = poisoned u8[n_rows] (1: that row
 * is NaN, its sums are zero). */
struct wire_reply {
    uint32_t layer;
    uint32_t n_rows;
    uint32_t n_embd;
    uint64_t busy_ns; /* time spent computing */
    const void *packed;
    size_t packed_bytes;
    const uint8_t *poisoned;
};

/* Header fields of every message. */
struct wire_head {
    enum wire_type type;
    uint64_t request; /* 0 where it has none */
    uint64_t epoch;   /* of the placement; 0 where it has none */
};

/* A decoded message. */
struct wire_in {
    struct wire_head head;
    union {
        struct wire_hello hello;
        struct wire_welcome welcome;
        struct wire_fail fail; /* REFUSE, FAIL */
        struct wire_layer layer;
        struct wire_expert expert;
        struct wire_stored stored;
        struct wire_dispatch dispatch;
        struct wire_reply reply;
    };
};

/* An encoded message: frames point into the header bytes here and into the caller's arrays, which
 * must live until it is sent. */
struct wire_out {
    uint8_t header[1024];
    struct net_frame frames[NET_FRAMES_MAX];
    uint32_t n_frames;
};

/* "DISPATCH"; "unknown" for others. */
const char *wire_type_name(enum wire_type type);

/* Encoders. The frames borrow `grid`, `acts`, `routes`, `bytes`, `packed`, `poisoned` as they are
 * in the struct (already in wire form). None can fail: our own sizes are ASSERTed against the
 * limits; names and texts are made fit for the wire (invalid UTF-8 and control characters become
 * '?', too long ones are cut). */
void wire_encode_hello(struct wire_out *out, const struct wire_hello *hello);
void wire_encode_welcome(struct wire_out *out, const struct wire_welcome *welcome);
void wire_encode_fail(
        struct wire_out *out, enum wire_type type, uint64_t request, int code, const char *text);
void wire_encode_layer(struct wire_out *out, const struct wire_layer *layer);
void wire_encode_expert(struct wire_out *out, const struct wire_expert *expert);
void wire_encode_stored(struct wire_out *out, const struct wire_stored *stored);
void wire_encode_dispatch(struct wire_out *out, uint64_t request, uint64_t epoch,
        const struct wire_dispatch *dispatch);
void wire_encode_reply(
        struct wire_out *out, uint64_t request, uint64_t epoch, const struct wire_reply *reply);
void wire_encode_bare(
        struct wire_out *out, enum wire_type type, uint64_t request); /* BEAT PING PONG BYE */

/* Decodes and checks a received message. ERR_PROTOCOL says what is wrong and with which numbers;
 * another WIRE_VERSION gives ERR_PROTOCOL naming both. Allocates nothing. */
int wire_decode(const struct net_msg *msg, struct wire_in *out_in, struct err *err);

/* Route i of a decoded dispatch; row < n_rows, expert order checked by wire_decode. */
struct wire_route wire_route_at(const struct wire_dispatch *dispatch, uint32_t i);
void wire_route_put(void *routes, uint32_t i, struct wire_route route);
#define WIRE_ROUTE_BYTES 8

/* Bytes of the frame of one activation kind. n_embd is a multiple of that kind's block. */
size_t wire_act_bytes(enum act_kind kind, uint32_t n_rows, uint32_t n_embd);

/* Integer sums, losslessly: per block of 32 values one byte with the width w (0..64) of the block's
 * widest value in two's complement, then 32 values of w bits, little-endian, low bits first; a last
 * short block is filled up with zeros. */
size_t wire_pack_bound(size_t n);
size_t wire_pack_sums(const int64_t *sums, size_t n, uint8_t *out);

/* The reverse: adds n values onto sums. Returns the bytes read or ERR_PROTOCOL when `bytes` ends
 * early or a width is over 64. The add is checked: an overflow is ERR_PROTOCOL. */
int64_t wire_unpack_add(
        const void *bytes, size_t n_bytes, int64_t *sums, size_t n, struct err *err);
