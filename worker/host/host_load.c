/* host_load.c - taking weights in: layers, pieces of experts, and what people see of it.
 * Owns: the progress shown. Does not: hold weights (store). Runs on: the thread in host_run. */
#include "worker/host/host_internal.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdio.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Nothing came for so long: the coordinator has sent what it wanted to send. */
#define QUIET_NS (500 * MONO_MS)

/* Between two lines, on a terminal and elsewhere. */
#define SHOW_TERMINAL_NS (200 * MONO_MS)
#define SHOW_FILE_NS (10 * MONO_S)

int host_take_layer(struct host *host, const struct wire_in *in, struct err *err) {
    const struct wire_layer *l = &in->layer;
    struct store_layer layer = {.layer = l->layer,
            .n_expert = l->n_expert,
            .n_embd = l->n_embd,
            .n_ff = l->n_ff,
            .gate_type = l->gate_type,
            .up_type = l->up_type,
            .down_type = l->down_type,
            .glu = (enum kern_glu)l->glu};
    struct err cause = ERR_INIT;
    if (store_add_layer(host->store, &layer, &cause) == 0) return 0;
    return host_send_fail(host, in->head.request, &cause, err);
}

static int put(struct host *host, const struct wire_expert *piece, struct err *err) {
    const struct store_layer *layer = store_find_layer(host->store, piece->layer);
    if (layer && piece->total_bytes != store_expert_gguf_bytes(layer))
        return err_set(err, ERR_BAD_INPUT,
                "expert %u of layer %u is said to have %" PRIu64
                " bytes; by the layer's shapes it has %" PRIu64,
                piece->expert, piece->layer, piece->total_bytes, store_expert_gguf_bytes(layer));
    return store_put(host->store, piece->layer, piece->expert, piece->offset, piece->bytes,
            piece->n_bytes, err);
}

/* Every piece is counted, whether it could be used or not: the coordinator's window must move on.
 * An expert that fails is reported once, not with each of its pieces. */
int host_take_expert(struct host *host, const struct wire_in *in, struct err *err) {
    const struct wire_expert *piece = &in->expert;
    struct err cause = ERR_INIT;
    host->n_pieces++;
    if (put(host, piece, &cause) == 0) {
        host->progress.open = true;
        host->progress.n_bytes += piece->n_bytes;
        host->progress.last_ns = mono_now();
    } else {
        uint64_t id = ((uint64_t)piece->layer << 32 | piece->expert) + 1;
        bool reported = host->failed_expert == id;
        host->failed_expert = id;
        int rc = reported ? 0 : host_send_fail(host, in->head.request, &cause, err);
        if (rc < 0) return rc;
    }
    struct wire_stored stored = {.n_pieces = host->n_pieces,
            .n_experts = store_n_experts(host->store),
            .n_bytes = store_held_bytes(host->store)};
    wire_encode_stored(&host->out, &stored);
    return host_send(host, err);
}

/* ------------------------------------------------------------------ progress -- */

static void show(struct host *host, uint64_t now, bool last) {
    struct host_progress *p = &host->progress;
    const char *again = p->terminal ? "\r" : "", *clear = p->terminal ? "\033[K" : "";
    char bytes[16], rate[16];
    if (last) {
        uint64_t n = store_n_experts(host->store);
        fprintf(stderr, "%sholding %" PRIu64 " expert%s, %s%s\n", again, n, n == 1 ? "" : "s",
                host_bytes_text(store_held_bytes(host->store), bytes), clear);
    } else {
        uint64_t per_s = p->shown_ns ? (uint64_t)((double)(p->n_bytes - p->shown_bytes) * 1e9 /
                                                  (double)(now - p->shown_ns))
                                     : 0;
        fprintf(stderr, "%sreceiving: %s, %s/s%s%s", again, host_bytes_text(p->n_bytes, bytes),
                host_bytes_text(per_s, rate), clear, p->terminal ? "" : "\n");
    }
    p->shown_bytes = p->n_bytes;
    p->shown_ns = now;
}

void host_progress_look(struct host *host, bool at_once) {
    struct host_progress *p = &host->progress;
    if (!p->open) return;
    uint64_t now = mono_now();
    bool last = at_once || now - p->last_ns >= QUIET_NS;
    if (last) {
        p->open = false;
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
        /* What the pieces under way took is not needed any more. (The sanitizer has an allocator of
         * its own, and trimming the one it replaced crashes.) */
        (void)malloc_trim(0);
#endif
    }
    if (host->options->quiet || !host->store) return;

    if (p->shown_ns == 0) p->shown_ns = now; /* the clock of the first rate starts here */
    uint64_t every = p->terminal ? SHOW_TERMINAL_NS : SHOW_FILE_NS;
    if (last || now - p->shown_ns >= every) show(host, now, last);
}
