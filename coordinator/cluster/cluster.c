/* cluster.c - members: joining, beats, loss, and every message that is not a reply.
 * Owns: the hub and the member table. Does not: decide placements (plan) or what rows mean (moe).
 * Runs on: the engine's thread. */
#include "coordinator/cluster/cluster_internal.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often cluster_wait_joined() lets its caller look around. */
#define LOOK_NS (100 * MONO_MS)

int cluster_new(
        const struct cluster_options *options, struct cluster **out_cluster, struct err *err) {
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster) return err_set(err, ERR_NO_MEMORY, "no memory for the cluster");
    cluster->options = *options;
    cluster->epoch = 1;

    int rc = 0;
    if (options->own_worker) {
        rc = store_new(options->kern, options->own_room_bytes, &cluster->store, err);
        if (rc == 0)
            rc = exec_new(options->kern, cluster->store, options->pool, &cluster->exec, err);
    }
    for (unsigned i = 0; rc == 0 && i < ARRAY_LEN(options->listen); i++) {
        if (!options->listen[i]) continue;
        rc = cluster->hub ? net_listen_also(cluster->hub, options->listen[i], err)
                          : net_listen(options->net, options->listen[i], &cluster->hub, err);
        if (rc == 0)
            snprintf(cluster->address[i], sizeof cluster->address[i], "%s",
                    net_address(cluster->hub));
    }
    if (rc < 0) {
        cluster_free(cluster);
        return rc;
    }
    *out_cluster = cluster;
    return 0;
}

void cluster_free(struct cluster *cluster) {
    if (!cluster) return;

    for (uint32_t m = 1; m <= cluster->n_members; m++) {
        struct member *member = &cluster->members[m];
        if (!member_gone(member)) {
            wire_encode_bare(&cluster->out, WIRE_BYE, 0);
            (void)net_send(cluster->hub, member->peer, cluster->out.frames, cluster->out.n_frames,
                    mono_now(), NULL); /* it will notice without, only later */
        }
        free(member->outbox);
    }
    net_close(cluster->hub, 200 * MONO_MS);
    exec_free(cluster->exec);
    store_free(cluster->store);
    free(cluster->own_routes);
    split_fini(&cluster->split);
    placement_fini(&cluster->placement);
    free(cluster);
}

const char *cluster_address(const struct cluster *cluster, unsigned address_index) {
    return address_index < ARRAY_LEN(cluster->address) ? cluster->address[address_index] : "";
}

uint32_t cluster_n_joined(const struct cluster *cluster) {
    uint32_t n = 0;
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        n += !member_gone(&cluster->members[m]);
    return n;
}

/* ------------------------------------------------------------------- loss -- */

/* "layer 1: 0 3 6, layer 2: 1 ..." as far as it fits. */
static void list_experts(
        const struct cluster *cluster, uint32_t worker, char *text, size_t n_text) {
    const struct placement *placement = &cluster->placement;
    size_t used = 0;
    text[0] = 0;
    for (uint32_t l = 0; l < placement->n_layer; l++) {
        bool first = true;
        for (uint32_t e = 0; e < placement->n_expert; e++) {
            if (!placement_has(placement, l, e, worker)) continue;
            if (used + 40 > n_text) {
                snprintf(text + used, n_text - used, " ...");
                return;
            }
            if (first)
                used += (size_t)snprintf(
                        text + used, n_text - used, "%slayer %u:", used ? ", " : "", l);
            used += (size_t)snprintf(text + used, n_text - used, " %u", e);
            first = false;
        }
    }
}

int cluster_lost(struct cluster *cluster, struct member *member, const char *why, struct err *err) {
    member->lost = true;
    member->request = 0;
    char experts[192] = "";
    if (cluster->placement.holders)
        list_experts(cluster, (uint32_t)(member - cluster->members), experts, sizeof experts);
    LOG_WARN("member.lost", "worker=%s why=\"%s\" experts=%" PRIu64, member->name, why,
            member->experts_assigned);
    int rc = err_set(err, ERR_PEER_LOST, "worker %s %s; lost with it: %" PRIu64 " experts%s%s%s",
            member->name, why, member->experts_assigned, experts[0] ? " (" : "", experts,
            experts[0] ? ")" : "");
    err_hint(err, "start it again (potluck join), or run without it");
    return rc;
}

int cluster_watch(struct cluster *cluster, uint64_t *since_ns, struct err *err) {
    uint64_t now = mono_now();
    uint64_t passed = min_u64(now - *since_ns, CLUSTER_PING_NS);
    if (passed < CLUSTER_PING_NS) return 0;

    *since_ns = now;
    for (uint32_t m = 1; m <= cluster->n_members; m++) {
        struct member *member = &cluster->members[m];
        bool owes = member->request != 0 || member->pieces_sent > member->pieces_stored ||
                    member->experts_stored < member->experts_assigned;
        if (member_gone(member) || !owes) continue;

        member->silent_ns += passed;
        if (member->silent_ns > CLUSTER_LOST_NS)
            return cluster_lost(cluster, member, "does not answer any more", err);
        wire_encode_bare(&cluster->out, WIRE_PING, ++cluster->next_request);
        int rc = cluster_send(cluster, member, err);
        if (rc < 0) return rc;
    }
    return 0;
}

int cluster_send(struct cluster *cluster, struct member *member, struct err *err) {
    struct err cause = ERR_INIT;
    int rc = net_send(cluster->hub, member->peer, cluster->out.frames, cluster->out.n_frames,
            mono_after(CLUSTER_SEND_NS), &cause);
    if (rc < 0)
        return cluster_lost(cluster, member,
                rc == ERR_PEER_LOST ? "has gone (its connection is closed)" : cause.what, err);

    cluster->wire.messages_out++;
    for (uint32_t f = 0; f < cluster->out.n_frames; f++)
        cluster->wire.bytes_out += cluster->out.frames[f].n_bytes;
    return 0;
}

/* ---------------------------------------------------------------- joining -- */

static struct member *find_peer(struct cluster *cluster, uint32_t peer) {
    for (uint32_t m = 1; m <= cluster->n_members; m++) {
        struct member *member = &cluster->members[m];
        if (member->peer == peer || member->beat_peer == peer) return member;
    }
    return NULL;
}

static struct member *find_name(struct cluster *cluster, const char *name) {
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        if (strcmp(cluster->members[m].name, name) == 0) return &cluster->members[m];
    return NULL;
}

/* Answers somebody who is no member; a failure only means that he has gone again. */
static void refuse(struct cluster *cluster, uint32_t peer, int code, const char *text) {
    wire_encode_fail(&cluster->out, WIRE_REFUSE, 0, code, text);
    (void)net_send(cluster->hub, peer, cluster->out.frames, cluster->out.n_frames,
            mono_after(MONO_S), NULL);
    /* strangers must not fill the log: the first few, then every doubling */
    uint64_t n = ++cluster->n_refused;
    if (n <= 5 || (n & (n - 1)) == 0)
        LOG_WARN("member.refused", "peer=%u times=%" PRIu64 " why=\"%s\"", peer, n, text);
}

static void welcome(struct cluster *cluster, struct member *member) {
    struct wire_welcome message = {
            .member = (uint32_t)(member - cluster->members), .epoch = cluster->epoch};
    snprintf(message.coordinator, sizeof message.coordinator, "%s", cluster->options.name);
    wire_encode_welcome(&cluster->out, &message);
    if (cluster_send(cluster, member, NULL) < 0) return;

    member->ping_sent_ns = mono_now();
    member->ping_request = ++cluster->next_request;
    wire_encode_bare(&cluster->out, WIRE_PING, member->ping_request);
    (void)cluster_send(cluster, member, NULL); /* marks it lost by itself */
}

/* Whether a member's connection still stands: a worker that crashed and came back uses its name again
 * before anybody has missed it. */
static bool is_reachable(struct cluster *cluster, struct member *member) {
    wire_encode_bare(&cluster->out, WIRE_PING, ++cluster->next_request);
    return cluster_send(cluster, member, NULL) == 0;
}

static void take_hello(struct cluster *cluster, uint32_t peer, const struct wire_hello *hello) {
    struct member *known = find_name(cluster, hello->name);
    if (hello->beat) {
        if (known && !member_gone(known)) known->beat_peer = peer;
        return;
    }
    if (known && !member_gone(known) && known->peer == peer) { /* it asks again: be patient */
        welcome(cluster, known);
        return;
    }
    if (known && !member_gone(known) && is_reachable(cluster, known)) {
        char text[WIRE_TEXT_MAX + 1];
        snprintf(text, sizeof text,
                "a worker named %s is here already; give this one another name with --name",
                hello->name);
        refuse(cluster, peer, ERR_USAGE, text);
        return;
    }
    if (cluster->loaded) {
        refuse(cluster, peer, ERR_LIMIT,
                "the experts are placed already; this run takes no further workers");
        return;
    }
    if (!known && cluster->n_members + 1 >= PLACEMENT_WORKERS_MAX) {
        refuse(cluster, peer, ERR_LIMIT, "this coordinator has as many workers as it can lead");
        return;
    }

    struct member *member = known ? known : &cluster->members[++cluster->n_members];
    *member = (struct member){
            .peer = peer, .n_threads = hello->n_threads, .ram_bytes = hello->ram_bytes};
    snprintf(member->name, sizeof member->name, "%s", hello->name);
    snprintf(member->isa, sizeof member->isa, "%s", hello->isa);
    LOG_INFO("member.joined", "worker=%s isa=%s threads=%u room_mib=%" PRIu64, member->name,
            member->isa, member->n_threads, member->ram_bytes >> 20);
    welcome(cluster, member);
}

/* --------------------------------------------------------------- messages -- */

static int take_message(struct cluster *cluster, struct member *member, uint32_t peer,
        const struct wire_in *in, struct err *err) {
    switch (in->head.type) {
    case WIRE_HELLO:
        take_hello(cluster, peer, &in->hello);
        return 0;
    case WIRE_BEAT:
    case WIRE_PONG:
        if (in->head.request && in->head.request == member->ping_request) {
            member->rtt_ns = mono_now() - member->ping_sent_ns;
            member->ping_request = 0;
        }
        return 0;
    case WIRE_PING:
        wire_encode_bare(&cluster->out, WIRE_PONG, in->head.request);
        return cluster_send(cluster, member, err);
    case WIRE_STORED:
        if (in->stored.n_pieces < member->pieces_stored ||
                in->stored.n_pieces > member->pieces_sent ||
                in->stored.n_experts > member->experts_assigned)
            return err_set(err, ERR_PROTOCOL,
                    "worker %s says it stored %" PRIu64 " pieces and %" PRIu64
                    " experts; it was sent %" PRIu64 " and %" PRIu64,
                    member->name, in->stored.n_pieces, in->stored.n_experts, member->pieces_sent,
                    member->experts_assigned);
        member->pieces_stored = in->stored.n_pieces;
        member->experts_stored = in->stored.n_experts;
        member->bytes_stored = in->stored.n_bytes;
        return 0;
    case WIRE_FAIL:
        return err_set(err, in->fail.code < 0 ? in->fail.code : ERR_PROTOCOL, "worker %s: %s",
                member->name, in->fail.text);
    case WIRE_BYE:
        member->left = true;
        if (member->experts_assigned == 0 && member->request == 0) return 0;
        return cluster_lost(cluster, member, "has left", err);
    default:
        return err_set(err, ERR_PROTOCOL,
                "worker %s sent a message of type %d, which only a "
                "coordinator sends",
                member->name, (int)in->head.type);
    }
}

int cluster_pump(struct cluster *cluster, uint64_t deadline_ns, struct wire_in *out_in,
        struct member **out_member, struct err *err) {
    for (;;) {
        struct net_msg msg;
        int rc = net_recv(cluster->hub, deadline_ns, &msg, err);
        if (rc <= 0) return rc;

        cluster->wire.messages_in++;
        for (uint32_t f = 0; f < msg.n_frames; f++)
            cluster->wire.bytes_in += msg.frames[f].n_bytes;

        struct err bad = ERR_INIT;
        struct member *member = find_peer(cluster, msg.peer);
        rc = wire_decode(&msg, out_in, &bad);
        if (!member && (rc < 0 || out_in->head.type != WIRE_HELLO)) {
            /* a stranger: told what is wrong, and otherwise ignored */
            refuse(cluster, msg.peer, ERR_PROTOCOL, rc < 0 ? bad.what : "say hello first");
            continue;
        }
        if (rc < 0) {
            member->lost = true;
            return err_set(err, ERR_PROTOCOL, "worker %s sent something that cannot be read: %s",
                    member->name, bad.what);
        }
        if (member) member->silent_ns = 0;
        if (member && out_in->head.type == WIRE_REPLY) {
            *out_member = member;
            return 1;
        }
        rc = take_message(cluster, member, msg.peer, out_in, err);
        if (rc < 0) return rc;
    }
}

int cluster_wait_joined(struct cluster *cluster, uint32_t n_workers, uint64_t deadline_ns,
        int (*check)(void *arg, struct err *err), void *check_arg, struct err *err) {
    if (!cluster->hub) return 0;

    while (cluster_n_joined(cluster) < n_workers) {
        struct wire_in in;
        struct member *member;
        uint64_t look = mono_after(LOOK_NS);
        int rc = cluster_pump(cluster, min_u64(look, deadline_ns), &in, &member, err);
        if (rc == ERR_INTERRUPTED) {
            err_reset(err);
            rc = 0;
        }
        if (rc == 0 && check) rc = check(check_arg, err);
        if (rc < 0) return rc;
        if (mono_now() >= deadline_ns) {
            rc = err_set(err, ERR_TIMEOUT, "%u of %u workers have joined",
                    cluster_n_joined(cluster), n_workers);
            err_hint(err,
                    "start them with: potluck join HOST:PORT   (or wait longer: --wait-timeout)");
            return rc;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- reports -- */

uint32_t cluster_n_workers(const struct cluster *cluster) {
    return cluster->n_members + (cluster->options.own_worker ? 1 : 0);
}

static const char *transport_of(const struct cluster *cluster) {
    const char *address = cluster->address[0][0] ? cluster->address[0] : cluster->address[1];
    if (strncmp(address, "ipc:", 4) == 0) return "ipc";
    if (strncmp(address, "inproc:", 7) == 0) return "inproc";
    return "tcp";
}

void cluster_worker_at(const struct cluster *cluster, uint32_t index, struct cluster_worker *out) {
    memset(out, 0, sizeof *out);
    if (cluster->options.own_worker && index == 0) {
        snprintf(out->name, sizeof out->name, "local");
        snprintf(out->isa, sizeof out->isa, "%s", cluster->options.kern->name);
        out->transport = "local";
        out->n_threads = pool_n_threads(cluster->options.pool);
        out->n_experts = store_n_experts(cluster->store);
        out->bytes = store_held_bytes(cluster->store);
        out->rows = cluster->own_rows;
        out->expert_calls = cluster->own_calls;
        out->busy_ns = cluster->own_busy_ns;
        return;
    }
    const struct member *member = &cluster->members[index + (cluster->options.own_worker ? 0 : 1)];
    snprintf(out->name, sizeof out->name, "%s", member->name);
    snprintf(out->isa, sizeof out->isa, "%s", member->isa);
    out->transport = transport_of(cluster);
    out->n_threads = member->n_threads;
    out->n_experts = member->experts_stored;
    out->bytes = member->bytes_stored;
    out->rows = member->rows;
    out->expert_calls = member->expert_calls;
    out->busy_ns = member->busy_ns;
    out->rtt_ns = member->rtt_ns;
    out->lost = member->lost;
}

void cluster_wire(const struct cluster *cluster, struct cluster_wire *out) {
    *out = cluster->wire;
}

const struct cluster_times *cluster_times(const struct cluster *cluster) {
    return &cluster->times;
}

void cluster_reset_counters(struct cluster *cluster) {
    cluster->wire = (struct cluster_wire){0};
    cluster->own_rows = cluster->own_calls = cluster->own_busy_ns = 0;
    for (uint32_t m = 1; m <= cluster->n_members; m++)
        cluster->members[m].rows = cluster->members[m].expert_calls = cluster->members[m].busy_ns =
                0;
}
