/* wire_fuzz.c - any bytes as a message: a refusal or a checked struct, never harm.
 * Input: per frame two little-endian bytes of its size (the last takes the rest); eight at most.
 * Seeds: the messages of tests/support/wire_example.c, written by wire_seeds. */
#include "proto/wire/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

/* Reads everything that a decoded message points to, as its user would. */
static uint64_t read_rows(const struct wire_in *in) {
    uint64_t sum = 0;
    if (in->head.type == WIRE_DISPATCH) {
        const struct wire_dispatch *d = &in->dispatch;
        for (uint32_t i = 0; i < d->n_routes; i++) {
            struct wire_route route = wire_route_at(d, i);
            if (route.row >= d->n_rows) abort();
            sum += route.expert + (uint64_t)(uint8_t)d->grid[route.row];
        }
        for (int kind = 0; kind < ACT_KIND_COUNT; kind++) {
            size_t n =
                    d->acts[kind] ? wire_act_bytes((enum act_kind)kind, d->n_rows, d->n_embd) : 0;
            for (size_t i = 0; i < n; i++)
                sum += ((const uint8_t *)d->acts[kind])[i];
        }
    } else if (in->head.type == WIRE_REPLY) {
        const struct wire_reply *r = &in->reply;
        int64_t *sums = calloc(r->n_embd, sizeof *sums);
        const uint8_t *at = r->packed;
        size_t left = r->packed_bytes;
        for (uint32_t row = 0; sums && row < r->n_rows; row++) {
            int64_t n = wire_unpack_add(at, left, sums, r->n_embd, NULL);
            if (n < 0) break; /* an overflow; sizes were checked by the decoder */
            at += n;
            left -= (size_t)n;
            sum += (uint64_t)sums[0] + r->poisoned[row];
        }
        free(sums);
    } else if (in->head.type == WIRE_EXPERT) {
        for (uint32_t i = 0; i < in->expert.n_bytes; i++)
            sum += ((const uint8_t *)in->expert.bytes)[i];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct net_msg msg = {0};
    void *frames[NET_FRAMES_MAX] = {0};
    while (n_bytes >= 2 && msg.n_frames < NET_FRAMES_MAX) {
        size_t n = (size_t)(bytes[0] | bytes[1] << 8);
        bytes += 2;
        n_bytes -= 2;
        if (n > n_bytes || msg.n_frames + 1 == NET_FRAMES_MAX) n = n_bytes;
        frames[msg.n_frames] = malloc(n + 1);
        if (!frames[msg.n_frames]) break;
        /* At the end of the memory, so that a byte read beyond is seen. */
        uint8_t *at = (uint8_t *)frames[msg.n_frames] + 1;
        memcpy(at, bytes, n);
        msg.frames[msg.n_frames++] = (struct net_frame){at, n};
        bytes += n;
        n_bytes -= n;
    }

    struct wire_in in;
    struct err err = ERR_INIT;
    int rc = wire_decode(&msg, &in, &err);
    if (rc != 0 && rc != ERR_PROTOCOL) abort();
    static volatile uint64_t sink;
    if (rc == 0) sink = read_rows(&in);
    (void)sink;
    for (int i = 0; i < NET_FRAMES_MAX; i++)
        free(frames[i]);
    return 0;
}
