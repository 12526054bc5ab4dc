/* wire_rows.c - codecs of the work itself: DISPATCH, REPLY and the routes.
 * Owns: nothing. Does not: know the placement or what a worker holds. Runs on: any thread. */
#include "proto/wire/wire_internal.h"

#include <string.h>

size_t wire_act_bytes(enum act_kind kind, uint32_t n_rows, uint32_t n_embd) {
    size_t n = (size_t)n_rows * n_embd;
    if (kind == ACT_F32) return n * sizeof(float);
    return n + n / act_block(kind) * sizeof(uint16_t);
}

static uint16_t get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

static void put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

struct wire_route wire_route_at(const struct wire_dispatch *dispatch, uint32_t i) {
    const uint8_t *at = (const uint8_t *)dispatch->routes + (size_t)i * WIRE_ROUTE_BYTES;
    uint32_t bits = (uint32_t)get_u16(at + 4) | (uint32_t)get_u16(at + 6) << 16;
    struct wire_route route = {get_u16(at), get_u16(at + 2), 0};
    memcpy(&route.weight, &bits, sizeof bits);
    return route;
}

void wire_route_put(void *routes, uint32_t i, struct wire_route route) {
    uint8_t *at = (uint8_t *)routes + (size_t)i * WIRE_ROUTE_BYTES;
    uint32_t bits;
    memcpy(&bits, &route.weight, sizeof bits);
    put_u16(at, route.row);
    put_u16(at + 2, route.expert);
    put_u16(at + 4, (uint16_t)bits);
    put_u16(at + 6, (uint16_t)(bits >> 16));
}

/* What DISPATCH and REPLY have in common. */
static int check_shape(uint32_t layer, uint32_t n_rows, uint32_t n_embd, struct err *err) {
    int rc = wire_check_range(layer, 0, WIRE_LAYERS_MAX - 1, "the layer", err);
    if (rc == 0) rc = wire_check_range(n_rows, 1, WIRE_ROWS_MAX, "n_rows", err);
    if (rc == 0) rc = wire_check_range(n_embd, 1, WIRE_WIDTH_MAX, "n_embd", err);
    return rc;
}

static int check_dispatch(const struct wire_dispatch *d, struct err *err) {
    int rc = check_shape(d->layer, d->n_rows, d->n_embd, err);
    if (rc == 0) rc = wire_check_range(d->act_mask, 1, (1u << ACT_KIND_COUNT) - 1, "act_mask", err);
    if (rc == 0) rc = wire_check_range(d->n_routes, 1, WIRE_ROUTES_MAX, "n_routes", err);
    for (unsigned kind = 0; rc == 0 && kind < ACT_KIND_COUNT; kind++) {
        uint32_t block = act_block((enum act_kind)kind);
        if ((d->act_mask >> kind & 1) && d->n_embd % block)
            rc = err_set(err, ERR_PROTOCOL,
                    "rows of %u elements; activations need a multiple of %u", d->n_embd, block);
    }
    return rc;
}

/* Routes are strictly ascending by (expert, row), so none is there twice. */
static int check_routes(const struct wire_dispatch *d, struct err *err) {
    uint32_t last = 0;
    for (uint32_t i = 0; i < d->n_routes; i++) {
        struct wire_route route = wire_route_at(d, i);
        if (route.row >= d->n_rows || route.expert >= WIRE_EXPERTS_MAX)
            return err_set(err, ERR_PROTOCOL,
                    "route %u has row %u of %u and expert %u of at most %d", i, route.row,
                    d->n_rows, route.expert, WIRE_EXPERTS_MAX);
        uint32_t key = (uint32_t)route.expert << 16 | route.row;
        if (i > 0 && key <= last)
            return err_set(err, ERR_PROTOCOL, "route %u (row %u, expert %u) is out of order", i,
                    route.row, route.expert);
        last = key;
    }
    return 0;
}

void wire_encode_dispatch(
        struct wire_out *out, uint64_t request, uint64_t epoch, const struct wire_dispatch *d) {
    ASSERT(check_dispatch(d, NULL) == 0);
    Potluck__Dispatch body = POTLUCK__DISPATCH__INIT;
    body.layer = d->layer;
    body.n_rows = d->n_rows;
    body.n_embd = d->n_embd;
    body.act_mask = d->act_mask;
    body.n_routes = d->n_routes;
    body.deadline_us = d->deadline_us;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_DISPATCH;
    header.dispatch = &body;
    wire_begin(out, &header, WIRE_DISPATCH, request, epoch);

    wire_add_frame(out, d->grid, d->n_rows);
    for (unsigned kind = 0; kind < ACT_KIND_COUNT; kind++)
        if (d->act_mask >> kind & 1)
            wire_add_frame(
                    out, d->acts[kind], wire_act_bytes((enum act_kind)kind, d->n_rows, d->n_embd));
    wire_add_frame(out, d->routes, (size_t)d->n_routes * WIRE_ROUTE_BYTES);
}

int wire_decode_dispatch(const Potluck__Header *header, const struct net_msg *msg,
        struct wire_in *in, struct err *err) {
    const Potluck__Dispatch *body = header->dispatch;
    struct wire_dispatch *d = &in->dispatch;
    *d = (struct wire_dispatch){.layer = body->layer,
            .n_rows = body->n_rows,
            .n_embd = body->n_embd,
            .act_mask = body->act_mask,
            .n_routes = body->n_routes,
            .deadline_us = body->deadline_us};
    int rc = check_dispatch(d, err);
    if (rc < 0) return rc;

    uint32_t n_acts = (uint32_t)__builtin_popcount(d->act_mask);
    uint32_t frame = 1;
    rc = wire_check_frames(msg, 3 + n_acts, err);
    if (rc == 0) rc = wire_check_size(msg, frame, d->n_rows, "grid exponents", err);
    d->grid = msg->frames[frame++].bytes;
    for (unsigned kind = 0; rc == 0 && kind < ACT_KIND_COUNT; kind++) {
        if (!(d->act_mask >> kind & 1)) continue;
        size_t n_bytes = wire_act_bytes((enum act_kind)kind, d->n_rows, d->n_embd);
        rc = wire_check_size(msg, frame, n_bytes, "activations", err);
        d->acts[kind] = msg->frames[frame++].bytes;
    }
    if (rc == 0)
        rc = wire_check_size(msg, frame, (uint64_t)d->n_routes * WIRE_ROUTE_BYTES, "routes", err);
    if (rc < 0) return rc;
    d->routes = msg->frames[frame].bytes;
    return check_routes(d, err);
}

void wire_encode_reply(
        struct wire_out *out, uint64_t request, uint64_t epoch, const struct wire_reply *reply) {
    ASSERT(check_shape(reply->layer, reply->n_rows, reply->n_embd, NULL) == 0);
    Potluck__Reply body = POTLUCK__REPLY__INIT;
    body.layer = reply->layer;
    body.n_rows = reply->n_rows;
    body.n_embd = reply->n_embd;
    body.busy_ns = reply->busy_ns;
    Potluck__Header header = POTLUCK__HEADER__INIT;
    header.body_case = POTLUCK__HEADER__BODY_REPLY;
    header.reply = &body;
    wire_begin(out, &header, WIRE_REPLY, request, epoch);
    wire_add_frame(out, reply->packed, reply->packed_bytes);
    wire_add_frame(out, reply->poisoned, reply->n_rows);
}

int wire_decode_reply(const Potluck__Header *header, const struct net_msg *msg, struct wire_in *in,
        struct err *err) {
    const Potluck__Reply *body = header->reply;
    struct wire_reply *reply = &in->reply;
    int rc = check_shape(body->layer, body->n_rows, body->n_embd, err);
    if (rc == 0) rc = wire_check_frames(msg, 3, err);
    if (rc == 0) rc = wire_check_size(msg, 2, body->n_rows, "poisoned rows", err);
    if (rc < 0) return rc;

    *reply = (struct wire_reply){body->layer, body->n_rows, body->n_embd, body->busy_ns,
            msg->frames[1].bytes, msg->frames[1].n_bytes, msg->frames[2].bytes};
    for (uint32_t row = 0; row < reply->n_rows; row++)
        if (reply->poisoned[row] > 1)
            return err_set(err, ERR_PROTOCOL, "row %u is marked with %u; 0 and 1 are possible", row,
                    reply->poisoned[row]);
    return wire_check_packed(reply->packed, reply->packed_bytes, reply->n_rows, reply->n_embd, err);
}
