/* wire_internal.h - what the codec files share; only files of this folder include it.
 *
 * Each codec file has, per message, an encoder that fills the generated header and adds the
 * frames, and a decoder that checks the header against the limits and the frames and fills our own
 * struct. */
#pragma once

#include "proto/wire/wire.h"

#include "proto/schema/potluck.pb-c.h"

/* Most of a header frame that is looked at; ours are far below. */
#define WIRE_HEADER_MAX sizeof(((struct wire_out *)0)->header)

/* Packs frame 0: version, type, request and epoch go in here, `header` has the body. */
void wire_begin(struct wire_out *out, Potluck__Header *header, enum wire_type type,
        uint64_t request, uint64_t epoch);
void wire_add_frame(struct wire_out *out, const void *bytes, size_t n_bytes);

/* Copies text as wire texts have to be: invalid UTF-8 and control characters become '?', cut at a
 * character at out_bytes - 1. */
void wire_text_clean(char *out, size_t out_bytes, const char *text);

/* Copies a received text. ERR_PROTOCOL: longer than out_bytes - 1, invalid UTF-8 or a control
 * character. */
int wire_text_take(
        char *out, size_t out_bytes, const char *text, const char *what, struct err *err);

/* ERR_PROTOCOL unless low <= value <= high. */
int wire_check_range(
        uint64_t value, uint64_t low, uint64_t high, const char *what, struct err *err);

/* ERR_PROTOCOL unless the message has n_frames, frame 0 included. */
int wire_check_frames(const struct net_msg *msg, uint32_t n_frames, struct err *err);
int wire_check_size(const struct net_msg *msg, uint32_t frame, uint64_t n_bytes, const char *what,
        struct err *err);

/* One per body: fills *in from the header's body and the frames. */
int wire_decode_hello(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);
int wire_decode_welcome(const Potluck__Header *header, const struct net_msg *msg,
        struct wire_in *in, struct err *err);
int wire_decode_fail(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);
int wire_decode_layer(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);
int wire_decode_expert(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);
int wire_decode_stored(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);
int wire_decode_dispatch(const Potluck__Header *header, const struct net_msg *msg,
        struct wire_in *in, struct err *err);
int wire_decode_reply(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err);

/* Walks packed sums of n_rows rows of n values each. ERR_PROTOCOL unless they fill exactly
 * n_bytes. */
int wire_check_packed(
        const void *bytes, size_t n_bytes, uint32_t n_rows, uint32_t n, struct err *err);
