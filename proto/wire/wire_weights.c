/* wire_weights.c - codecs of handing out weights: LAYER, EXPERT, STORED.
 * Owns: nothing. Does not: know what a worker holds, so a piece is not compared with its layer's
 * shapes here. Runs on: any thread. */
#include "proto/wire/wire_internal.h"

/* One expert: three f32 matrices of the largest shapes would be 2^43; real ones are under 2^28. */
#define EXPERT_BYTES_MAX (UINT64_C(1) << 36)

/* Room for more ways of joining gate and up than will ever be; the receiver knows which it has. */
#define GLU_MAX 255

/* The type of a matrix whose rows have n_in elements. */
static int check_type(uint32_t id, uint32_t n_in, const char *what, struct err *err) {
    const struct dtype_desc *desc = dtype_find(id);
    if (!desc || !desc->computable)
        return err_set(err, ERR_PROTOCOL, "%s has the type %u (%s), which cannot be computed with",
                what, id, dtype_name(id));
    if (n_in % desc->block_elems)
        return err_set(err, ERR_PROTOCOL, "%s has rows of %u elements; %s needs a multiple of %u",
                what, n_in, desc->name, desc->block_elems);
    return 0;
}

static int check_layer(const struct wire_layer *layer, struct err *err) {
    int rc = wire_check_range(layer->layer, 0, WIRE_LAYERS_MAX - 1, "the layer", err);
    if (rc == 0) rc = wire_check_range(layer->n_expert, 1, WIRE_EXPERTS_MAX, "n_expert", err);
    if (rc == 0) rc = wire_check_range(layer->n_embd, 1, WIRE_WIDTH_MAX, "n_embd", err);
    if (rc == 0) rc = wire_check_range(layer->n_ff, 1, WIRE_WIDTH_MAX, "n_ff", err);
    if (rc == 0) rc = wire_check_range(layer->glu, 0, GLU_MAX, "glu", err);
    if (rc == 0) rc = check_type((uint32_t)layer->gate_type, layer->n_embd, "gate", err);
    if (rc == 0) rc = check_type((uint32_t)layer->up_type, layer->n_embd, "up", err);
    if (rc == 0) rc = check_type((uint32_t)layer->down_type, layer->n_ff, "down", err);
    return rc;
}

void wire_encode_layer(struct wire_out *out, const struct wire_layer *layer) {
    ASSERT(check_layer(layer, NULL) == 0);
    Potluck__Layer body = POTLUCK__LAYER__INIT;
    body.layer = layer->layer;
    body.n_expert = layer->n_expert;
    body.n_embd = layer->n_embd;
    body.n_ff = layer->n_ff;
    body.gate_type = (uint32_t)layer->gate_type;
    body.up_type = (uint32_t)layer->up_type;
    body.down_type = (uint32_t)layer->down_type;
    body.glu = layer->glu;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_LAYER;
    header.layer = &body;
    wire_begin(out, &header, WIRE_LAYER, 0, 0);
}

int wire_decode_layer(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Layer *body = header->layer;
    int rc = wire_check_frames(msg, 1, err);
    if (rc < 0) return rc;

    /* An id outside the enum's range must not become an enum value before it is checked. */
    rc = wire_check_range(body->gate_type, 0, DT_COUNT - 1, "the type of gate", err);
    if (rc == 0) rc = wire_check_range(body->up_type, 0, DT_COUNT - 1, "the type of up", err);
    if (rc == 0) rc = wire_check_range(body->down_type, 0, DT_COUNT - 1, "the type of down", err);
    if (rc < 0) return rc;
    in->layer = (struct wire_layer){body->layer, body->n_expert, body->n_embd, body->n_ff,
            (enum dtype)body->gate_type, (enum dtype)body->up_type, (enum dtype)body->down_type,
            body->glu};
    return check_layer(&in->layer, err);
}

static int check_expert(const struct wire_expert *expert, struct err *err) {
    int rc = wire_check_range(expert->layer, 0, WIRE_LAYERS_MAX - 1, "the layer", err);
    if (rc == 0) rc = wire_check_range(expert->expert, 0, WIRE_EXPERTS_MAX - 1, "the expert", err);
    if (rc == 0)
        rc = wire_check_range(expert->total_bytes, 1, EXPERT_BYTES_MAX, "total_bytes", err);
    if (rc == 0) rc = wire_check_range(expert->n_bytes, 1, WIRE_CHUNK_MAX, "the piece's size", err);
    if (rc == 0 && (expert->n_bytes > expert->total_bytes ||
                           expert->offset > expert->total_bytes - expert->n_bytes))
        rc = err_set(err, ERR_PROTOCOL, "a piece of %u bytes at %llu of an expert of %llu bytes",
                expert->n_bytes, (unsigned long long)expert->offset,
                (unsigned long long)expert->total_bytes);
    return rc;
}

void wire_encode_expert(struct wire_out *out, const struct wire_expert *expert) {
    ASSERT(check_expert(expert, NULL) == 0);
    Potluck__Expert body = POTLUCK__EXPERT__INIT;
    body.layer = expert->layer;
    body.expert = expert->expert;
    body.offset = expert->offset;
    body.total_bytes = expert->total_bytes;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_EXPERT;
    header.expert = &body;
    wire_begin(out, &header, WIRE_EXPERT, 0, 0);
    wire_add_frame(out, expert->bytes, expert->n_bytes);
}

int wire_decode_expert(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Expert *body = header->expert;
    int rc = wire_check_frames(msg, 2, err);
    if (rc == 0)
        rc = wire_check_range(msg->frames[1].n_bytes, 1, WIRE_CHUNK_MAX, "the piece's size", err);
    if (rc < 0) return rc;

    in->expert = (struct wire_expert){.layer = body->layer,
            .expert = body->expert,
            .offset = body->offset,
            .total_bytes = body->total_bytes,
            .bytes = msg->frames[1].bytes,
            .n_bytes = (uint32_t)msg->frames[1].n_bytes};
    return check_expert(&in->expert, err);
}

void wire_encode_stored(struct wire_out *out, const struct wire_stored *stored) {
    Potluck__Stored body = POTLUCK__STORED__INIT;
    body.n_pieces = stored->n_pieces;
    body.n_experts = stored->n_experts;
    body.n_bytes = stored->n_bytes;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_STORED;
    header.stored = &body;
    wire_begin(out, &header, WIRE_STORED, 0, 0);
}

int wire_decode_stored(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Stored *body = header->stored;
    in->stored = (struct wire_stored){body->n_pieces, body->n_experts, body->n_bytes};
    return wire_check_frames(msg, 1, err);
}
