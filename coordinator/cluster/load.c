/* load.c - placing the experts and bringing them where they belong.
 * Owns: the pushes under way. Does not: choose policies (plan) or hold weights (store).
 * Runs on: the engine's thread. */
#include "coordinator/cluster/cluster_internal.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A worker that takes no piece for this long while it beats is an error, not a slow disk. */
#define STORE_NS (120 * MONO_S)

static struct store_layer shape_of(const struct model_experts *experts) {
    return (struct store_layer){.layer = experts->layer,
            .n_expert = experts->n_expert,
            .n_embd = experts->n_embd,
            .n_ff = experts->n_ff,
            .gate_type = experts->gate.type,
            .up_type = experts->up.type,
            .down_type = experts->down.type,
            .glu = experts->glu};
}

static uint64_t matrix_bytes(const struct gguf_matrix *matrix, uint64_t n_in, uint64_t n_out) {
    return dtype_row_bytes(matrix->type, n_in) * n_out;
}

/* ---------------------------------------------------------------- pushing -- */

/* Where a member's push stands: the next piece is bytes [offset, ...) of (layer, expert). */
struct push {
    struct member *member;
    uint32_t worker;
    uint32_t layer, expert;
    uint64_t offset;
    bool layer_announced;
    bool done;
};

struct load {
    struct cluster *cluster;
    const struct cluster_load_options *options;
    const struct gguf *gguf;
    uint32_t n_layer; /* blocks looked at: trunk, and MTP if wanted */
    uint64_t done_bytes, total_bytes;
};

static void report(struct load *load, uint64_t more_bytes) {
    load->done_bytes += more_bytes;
    if (load->options->progress)
        load->options->progress(load->options->progress_arg, load->done_bytes, load->total_bytes);
}

/* Moves on to the next expert that this member is to hold. */
static void seek_expert(struct load *load, struct push *push) {
    const struct placement *placement = &load->cluster->placement;
    for (; push->layer < load->n_layer;
            push->layer++, push->expert = 0, push->layer_announced = false) {
        const struct model_experts *experts = model_experts(load->cluster->model, push->layer);
        if (!experts) continue;
        for (; push->expert < experts->n_expert; push->expert++)
            if (placement_has(placement, push->layer, push->expert, push->worker)) return;
    }
    push->done = true;
}

static int announce_layer(struct load *load, struct push *push, struct err *err) {
    const struct model_experts *experts = model_experts(load->cluster->model, push->layer);
    struct wire_layer message = {.layer = experts->layer,
            .n_expert = experts->n_expert,
            .n_embd = experts->n_embd,
            .n_ff = experts->n_ff,
            .gate_type = experts->gate.type,
            .up_type = experts->up.type,
            .down_type = experts->down.type,
            .glu = experts->glu};
    wire_encode_layer(&load->cluster->out, &message);
    push->layer_announced = true;
    return cluster_send(load->cluster, push->member, err);
}

/* Sends one piece: up to CLUSTER_PIECE_BYTES of the gate, up or down matrix at the push's place. */
static int send_piece(struct load *load, struct push *push, struct err *err) {
    struct cluster *cluster = load->cluster;
    const struct model_experts *experts = model_experts(cluster->model, push->layer);
    if (!push->layer_announced) {
        int rc = announce_layer(load, push, err);
        if (rc < 0) return rc;
    }

    const struct gguf_matrix *parts[3] = {&experts->gate, &experts->up, &experts->down};
    uint64_t n_bytes[3] = {matrix_bytes(parts[0], experts->n_embd, experts->n_ff),
            matrix_bytes(parts[1], experts->n_embd, experts->n_ff),
            matrix_bytes(parts[2], experts->n_ff, experts->n_embd)};
    uint64_t start = 0;
    int part = 0;
    while (push->offset >= start + n_bytes[part])
        start += n_bytes[part++];

    uint64_t at = push->offset - start;
    const uint8_t *bytes = parts[part]->bytes + push->expert * parts[part]->stride + at;
    uint64_t n = min_u64(CLUSTER_PIECE_BYTES, n_bytes[part] - at);
    struct wire_expert message = {.layer = push->layer,
            .expert = push->expert,
            .offset = push->offset,
            .total_bytes = n_bytes[0] + n_bytes[1] + n_bytes[2],
            .bytes = bytes,
            .n_bytes = (uint32_t)n};
    wire_encode_expert(&cluster->out, &message);
    int rc = cluster_send(cluster, push->member, err);
    if (rc < 0) return rc;

    gguf_release(load->gguf, bytes, n);
    push->member->pieces_sent++;
    push->offset += n;
    report(load, n);
    if (push->offset == message.total_bytes) {
        push->offset = 0;
        push->expert++;
        seek_expert(load, push);
    }
    return 0;
}

static bool all_stored(const struct cluster *cluster) {
    for (uint32_t m = 1; m <= cluster->n_members; m++) {
        const struct member *member = &cluster->members[m];
        if (!member_gone(member) && member->experts_stored < member->experts_assigned) return false;
    }
    return true;
}

/* Pushes to all members at once, each as fast as it acknowledges. */
static int push_all(struct load *load, struct err *err) {
    struct cluster *cluster = load->cluster;
    struct push pushes[PLACEMENT_WORKERS_MAX];
    for (uint32_t m = 1; m <= cluster->n_members; m++) {
        pushes[m] = (struct push){.member = &cluster->members[m],
                .worker = m,
                .done = member_gone(&cluster->members[m])};
        if (!pushes[m].done) seek_expert(load, &pushes[m]);
    }

    uint64_t watched = mono_now(), deadline = mono_after(STORE_NS);
    while (!all_stored(cluster)) {
        for (uint32_t m = 1; m <= cluster->n_members; m++) {
            struct push *push = &pushes[m];
            while (!push->done && push->member->pieces_sent - push->member->pieces_stored <
                                          CLUSTER_PIECES_AHEAD) {
                int rc = send_piece(load, push, err);
                if (rc < 0) return rc;
                deadline = mono_after(STORE_NS);
            }
        }
        struct wire_in in;
        struct member *member;
        int rc = cluster_pump(cluster, mono_after(10 * MONO_MS), &in, &member, err);
        if (rc > 0) return err_set(err, ERR_PROTOCOL, "worker %s replied to nothing", member->name);
        if (rc == 0) rc = cluster_watch(cluster, &watched, err);
        if (rc < 0) return rc;
        if (mono_now() > deadline)
            return err_set(
                    err, ERR_TIMEOUT, "workers took no weights for %d s", (int)(STORE_NS / MONO_S));
    }
    return 0;
}

/* ------------------------------------------------------------ own experts -- */

static int take_own(struct load *load, struct err *err) {
    struct cluster *cluster = load->cluster;
    for (uint32_t l = 0; l < load->n_layer; l++) {
        const struct model_experts *experts = model_experts(cluster->model, l);
        if (!experts || !cluster->store) continue;
        struct store_layer shape = shape_of(experts);
        int rc = store_add_layer(cluster->store, &shape, err);
        for (uint32_t e = 0; rc == 0 && e < experts->n_expert; e++) {
            if (!placement_has(&cluster->placement, l, e, 0)) continue;
            const struct gguf_matrix *parts[3] = {&experts->gate, &experts->up, &experts->down};
            const uint8_t *at[3];
            for (int p = 0; p < 3; p++)
                at[p] = parts[p]->bytes + e * parts[p]->stride;
            rc = store_put_expert(
                    cluster->store, l, e, at[0], at[1], at[2], cluster->options.pool, err);
            for (int p = 0; p < 3; p++)
                gguf_release(load->gguf, at[p], parts[p]->stride);
            report(load, store_expert_gguf_bytes(&shape));
        }
        if (rc < 0) return rc;
    }
    return 0;
}

/* --------------------------------------------------------------- planning -- */

static int plan(struct load *load, struct err *err) {
    struct cluster *cluster = load->cluster;
    struct plan_worker workers[PLACEMENT_WORKERS_MAX] = {{.name = "local",
            .room_bytes = cluster->options.own_room_bytes,
            .usable = cluster->options.own_worker}};
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        workers[m] = (struct plan_worker){.name = cluster->members[m].name,
                .room_bytes = cluster->members[m].ram_bytes,
                .usable = !member_gone(&cluster->members[m])};

    struct plan_layer layers[WIRE_LAYERS_MAX];
    uint32_t n_layers = 0;
    for (uint32_t l = 0; l < load->n_layer; l++) {
        const struct model_experts *experts = model_experts(cluster->model, l);
        if (!experts) continue;
        struct store_layer shape = shape_of(experts);
        layers[n_layers++] = (struct plan_layer){.layer = l,
                .n_expert = experts->n_expert,
                .expert_bytes = store_expert_held_bytes(cluster->options.kern, &shape)};
    }
    if (n_layers == 0) return 0;

    struct plan_request request = {.policy = load->options->policy,
            .seed = load->options->seed,
            .file_text = load->options->plan_text,
            .n_replicas = load->options->n_replicas,
            .workers = workers,
            .n_workers = cluster->n_members + 1,
            .layers = layers,
            .n_layers = n_layers};
    return plan_place(&request, &cluster->placement, err);
}

static void count_assigned(struct load *load) {
    struct cluster *cluster = load->cluster;
    for (uint32_t l = 0; l < load->n_layer; l++) {
        const struct model_experts *experts = model_experts(cluster->model, l);
        if (!experts) continue;
        struct store_layer shape = shape_of(experts);
        for (uint32_t e = 0; e < experts->n_expert; e++)
            for (uint64_t set = placement_holders(&cluster->placement, l, e); set; set &= set - 1) {
                uint32_t w = (uint32_t)__builtin_ctzll(set);
                if (w > 0) cluster->members[w].experts_assigned++;
                load->total_bytes += store_expert_gguf_bytes(&shape);
            }
    }
}

/* "w2" before "w10": shorter names first, then by bytes. */
static int by_name(const void *a, const void *b) {
    const struct member *x = a, *y = b;
    size_t n_x = strlen(x->name), n_y = strlen(y->name);
    return n_x != n_y ? (n_x < n_y ? -1 : 1) : strcmp(x->name, y->name);
}

/* Drops members that have gone and orders the others by name, so that a placement depends on who is
 * there and not on who came first. */
static void order_members(struct cluster *cluster) {
    uint32_t n = 0;
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        if (!member_gone(&cluster->members[m])) cluster->members[++n] = cluster->members[m];
    cluster->n_members = n;
    qsort(cluster->members + 1, n, sizeof cluster->members[0], by_name);
}

int cluster_load(struct cluster *cluster, const struct model *model, const struct gguf *gguf,
        const struct cluster_load_options *options, struct err *err) {
    const struct model_shape *shape = model_shape(model);
    struct load load = {.cluster = cluster,
            .options = options,
            .gguf = gguf,
            .n_layer = shape->n_layer + (options->with_mtp ? shape->n_mtp : 0)};
    if (load.n_layer > WIRE_LAYERS_MAX)
        return err_set(err, ERR_UNSUPPORTED, "a model of %u blocks", load.n_layer);
    cluster->model = model;
    order_members(cluster);

    uint32_t n_expert_max = 0;
    for (uint32_t l = 0; l < load.n_layer; l++) {
        const struct model_experts *experts = model_experts(model, l);
        if (experts && experts->n_expert > n_expert_max) n_expert_max = experts->n_expert;
    }
    int rc = placement_init(&cluster->placement, load.n_layer, n_expert_max, err);
    if (rc == 0) rc = plan(&load, err);
    if (rc < 0) return rc;

    count_assigned(&load);
    rc = take_own(&load, err);
    if (rc == 0 && cluster->hub) rc = push_all(&load, err);
    if (rc == 0) cluster->loaded = true;
    return rc;
}
