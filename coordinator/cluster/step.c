/* step.c - one layer's rows out to the workers, their sums back.
 * Owns: the outboxes and the dispatch under way. Does not: route (moe) or add to the residual (model).
 * Runs on: the engine's thread; allocates nothing after cluster_reserve(). */
#include "coordinator/cluster/cluster_internal.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint32_t n_used_of(const struct cluster *cluster) {
    uint32_t n_used = model_shape(cluster->model)->n_expert_used;
    return n_used ? n_used : 1;
}

/* The widest act frames that one row of any layer needs. */
static size_t row_bytes_max(const struct cluster *cluster) {
    size_t widest = 0;
    for (uint32_t l = 0; l < cluster->placement.n_layer; l++) {
        const struct model_experts *experts = model_experts(cluster->model, l);
        if (!experts) continue;
        uint32_t mask =
                1u << dtype_find(experts->gate.type)->act | 1u << dtype_find(experts->up.type)->act;
        size_t n = 0;
        for (int kind = 0; kind < ACT_KIND_COUNT; kind++)
            if (mask >> kind & 1) n += wire_act_bytes((enum act_kind)kind, 1, experts->n_embd);
        widest = n > widest ? n : widest;
    }
    return widest;
}

int cluster_reserve(struct cluster *cluster, uint32_t n_rows, struct err *err) {
    if (cluster->n_rows_reserved >= n_rows || cluster->placement.n_expert == 0) return 0;

    uint32_t n_used = n_used_of(cluster);
    size_t n_routes = (size_t)n_rows * n_used;
    split_fini(&cluster->split);
    int rc = split_init(&cluster->split, cluster->n_members + 1, n_rows, n_used,
            cluster->placement.n_expert, err);
    if (rc == 0 && cluster->exec) rc = exec_reserve(cluster->exec, n_rows, (uint32_t)n_routes, err);
    if (rc < 0) return rc;

    free(cluster->own_routes);
    cluster->own_routes = calloc(n_routes, sizeof *cluster->own_routes);
    bool ok = cluster->own_routes != NULL;
    for (uint32_t m = 1; ok && m <= cluster->n_members; m++) {
        struct member *member = &cluster->members[m];
        free(member->outbox);
        member->outbox_bytes =
                n_rows * (1 + row_bytes_max(cluster)) + n_routes * WIRE_ROUTE_BYTES + 256;
        member->outbox = aligned_new(member->outbox_bytes);
        ok = member->outbox != NULL;
    }
    if (!ok) return err_set(err, ERR_NO_MEMORY, "no memory to send batches of %u rows", n_rows);
    cluster->n_rows_reserved = n_rows;
    return 0;
}

/* --------------------------------------------------------------- dispatch -- */

/* Copies a share's rows of one activation kind into wire form; returns the bytes written. */
static size_t gather_act(const struct moe_rows *rows, enum act_kind kind,
        const struct split_share *share, uint8_t *to) {
    const struct kern_act *act = &rows->acts[kind];
    size_t n_embd = rows->n_embd;
    if (kind == ACT_F32) {
        for (uint32_t r = 0; r < share->n_rows; r++)
            memcpy(to + r * n_embd * sizeof(float), act->f32 + share->rows[r] * n_embd,
                    n_embd * sizeof(float));
        return share->n_rows * n_embd * sizeof(float);
    }

    size_t n_blocks = n_embd / act_block(kind);
    uint8_t *scales = to + share->n_rows * n_embd;
    for (uint32_t r = 0; r < share->n_rows; r++) {
        memcpy(to + r * n_embd, act->q + share->rows[r] * n_embd, n_embd);
        const float *d = act->d + share->rows[r] * n_blocks;
        for (size_t b = 0; b < n_blocks; b++) {
            uint32_t bits;
            memcpy(&bits, &d[b], sizeof bits);
            uint16_t half =
                    (uint16_t)(bits >> 16); /* scales are bfloat16 numbers: nothing is lost */
            memcpy(scales + (r * n_blocks + b) * 2, &half, sizeof half);
        }
    }
    return share->n_rows * (n_embd + 2 * n_blocks);
}

static int send_share(struct cluster *cluster, struct member *member, const struct moe_rows *rows,
        const struct split_share *share, struct err *err) {
    struct wire_dispatch message = {.layer = rows->layer,
            .n_rows = share->n_rows,
            .n_embd = rows->n_embd,
            .act_mask = rows->act_mask,
            .n_routes = share->n_routes,
            .deadline_us = CLUSTER_REPLY_NS / MONO_US};
    uint8_t *at = member->outbox;

    int8_t *grid = (int8_t *)at;
    for (uint32_t r = 0; r < share->n_rows; r++)
        grid[r] = rows->grid[share->rows[r]];
    message.grid = grid;
    at += align_up(share->n_rows, 8);

    for (int kind = 0; kind < ACT_KIND_COUNT; kind++) {
        if (!(rows->act_mask >> kind & 1)) continue;
        message.acts[kind] = at;
        at += align_up(gather_act(rows, (enum act_kind)kind, share, at), 8);
    }
    message.routes = at;
    for (uint32_t i = 0; i < share->n_routes; i++)
        wire_route_put(at, i,
                (struct wire_route){
                        share->routes[i].row, share->routes[i].expert, share->routes[i].weight});
    ASSERT(at + (size_t)share->n_routes * WIRE_ROUTE_BYTES <=
            member->outbox + member->outbox_bytes);

    member->request = ++cluster->next_request;
    member->share = share;
    member->silent_ns = 0;
    member->rows += share->n_rows;
    member->expert_calls += share->n_routes;
    wire_encode_dispatch(&cluster->out, member->request, cluster->epoch, &message);
    return cluster_send(cluster, member, err);
}

int cluster_dispatch(struct cluster *cluster, const struct moe_rows *rows, struct err *err) {
    uint64_t start = mono_now();
    ASSERT(rows->n_rows <= cluster->n_rows_reserved);
    cluster->rows = rows;

    uint64_t alive = cluster->options.own_worker ? 1 : 0;
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        if (!member_gone(&cluster->members[m])) alive |= UINT64_C(1) << m;
    uint32_t n_expert = model_experts(cluster->model, rows->layer)->n_expert;
    int rc = split_routes(&cluster->split, &cluster->placement, rows->layer, alive, rows->expert,
            rows->weight, rows->n_rows, rows->n_used, n_expert, err);

    for (uint32_t m = 1; rc == 0 && m <= cluster->n_members; m++)
        if (cluster->split.shares[m].n_rows)
            rc = send_share(cluster, &cluster->members[m], rows, &cluster->split.shares[m], err);

    const struct split_share *own = &cluster->split.shares[0];
    cluster->n_own_routes = rc == 0 ? own->n_routes : 0;
    for (uint32_t i = 0; i < cluster->n_own_routes; i++)
        cluster->own_routes[i] = (struct exec_route){
                own->rows[own->routes[i].row], own->routes[i].expert, own->routes[i].weight};
    cluster->times.dispatch_ns += mono_now() - start;
    return rc;
}

/* ---------------------------------------------------------------- collect -- */

/* The coordinator's own experts, on whole-batch rows: nothing to gather. */
static int run_own(struct cluster *cluster, int64_t *sums, uint8_t *poisoned, struct err *err) {
    const struct moe_rows *rows = cluster->rows;
    if (cluster->n_own_routes == 0) {
        memset(sums, 0, (size_t)rows->n_rows * rows->n_embd * sizeof *sums);
        memset(poisoned, 0, rows->n_rows);
        return 0;
    }
    struct exec_batch batch = {.layer = rows->layer,
            .n_rows = rows->n_rows,
            .grid = rows->grid,
            .routes = cluster->own_routes,
            .n_routes = cluster->n_own_routes};
    for (int kind = 0; kind < ACT_KIND_COUNT; kind++)
        batch.acts[kind] = rows->act_mask >> kind & 1 ? &rows->acts[kind] : NULL;
    cluster->own_rows += cluster->split.shares[0].n_rows;
    cluster->own_calls += cluster->n_own_routes;
    return exec_run(cluster->exec, &batch, sums, poisoned, err);
}

static int merge_reply(struct cluster *cluster, struct member *member, const struct wire_in *in,
        int64_t *sums, uint8_t *poisoned, struct err *err) {
    const struct wire_reply *reply = &in->reply;
    const struct split_share *share = member->share;
    if (in->head.request != member->request || member->request == 0)
        return err_set(err, ERR_PROTOCOL,
                "worker %s answered request %" PRIu64 ", which it does not owe", member->name,
                in->head.request);
    if (reply->layer != cluster->rows->layer || reply->n_rows != share->n_rows ||
            reply->n_embd != cluster->rows->n_embd)
        return err_set(err, ERR_PROTOCOL,
                "worker %s answered with %u rows of %u for layer %u; asked were %u of %u for layer "
                "%u",
                member->name, reply->n_rows, reply->n_embd, reply->layer, share->n_rows,
                cluster->rows->n_embd, cluster->rows->layer);

    member->request = 0;
    member->busy_ns += reply->busy_ns;
    const uint8_t *at = reply->packed;
    size_t left = reply->packed_bytes;
    for (uint32_t r = 0; r < reply->n_rows; r++) {
        int64_t *row = sums + (size_t)share->rows[r] * reply->n_embd;
        poisoned[share->rows[r]] |= reply->poisoned[r];
        int64_t n = wire_unpack_add(at, left, row, reply->n_embd, err);
        if (n < 0) {
            err_note(err, "reply of worker %s", member->name);
            return (int)n;
        }
        at += n;
        left -= (size_t)n;
    }
    if (left)
        return err_set(
                err, ERR_PROTOCOL, "worker %s sent %zu bytes after its sums", member->name, left);
    return 0;
}

static bool any_owes(const struct cluster *cluster) {
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        if (cluster->members[m].request) return true;
    return false;
}

static int wait_replies(
        struct cluster *cluster, int64_t *sums, uint8_t *poisoned, struct err *err) {
    uint64_t watched = mono_now(), deadline = mono_after(CLUSTER_REPLY_NS);
    while (any_owes(cluster)) {
        struct wire_in in;
        struct member *member;
        uint64_t start = mono_now();
        int rc = cluster_pump(cluster, mono_after(CLUSTER_PING_NS), &in, &member, err);
        uint64_t got = mono_now();
        cluster->times.wait_ns += got - start;
        if (rc == ERR_INTERRUPTED) { /* Ctrl-C: the step is finished first */
            err_reset(err);
            continue;
        }
        if (rc > 0) {
            rc = merge_reply(cluster, member, &in, sums, poisoned, err);
            cluster->times.merge_ns += mono_now() - got;
        } else if (rc == 0) {
            rc = cluster_watch(cluster, &watched, err);
        }
        if (rc < 0) return rc;
        if (mono_now() > deadline)
            return err_set(err, ERR_TIMEOUT, "no reply for layer %u in %d s", cluster->rows->layer,
                    (int)(CLUSTER_REPLY_NS / MONO_S));
    }
    return 0;
}

int cluster_collect(struct cluster *cluster, int64_t *sums, uint8_t *poisoned, struct err *err) {
    uint64_t start = mono_now();
    int rc = run_own(cluster, sums, poisoned, err);
    uint64_t own_ns = mono_now() - start;
    cluster->times.own_ns += own_ns;
    if (cluster->n_own_routes) cluster->own_busy_ns += own_ns;
    if (rc < 0) return rc;
    return wait_replies(cluster, sums, poisoned, err);
}
