/* host_link.c - one connection to a coordinator: hello, the loop of messages, leaving.
 * Owns: the dialled end. Does not: take weights (host_load.c) or compute (host_rows.c).
 * Runs on: the thread in host_run. */
#include "worker/host/host_internal.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <inttypes.h>
#include <string.h>

/* Waiting for a coordinator is mentioned when it takes longer than this. */
#define SAY_LOOKING_NS MONO_S

int host_send(struct host *host, struct err *err) {
    return net_send(
            host->end, 0, host->out.frames, host->out.n_frames, mono_after(HOST_SEND_NS), err);
}

int host_send_fail(struct host *host, uint64_t request, const struct err *cause, struct err *err) {
    char text[sizeof cause->where + sizeof cause->what + 2]; /* the encoder cuts it to size */
    snprintf(text, sizeof text, "%s%s%s", cause->where, cause->where[0] ? ": " : "", cause->what);
    LOG_WARN("worker.fail", "request=%" PRIu64 " why=\"%s\"", request, text);
    wire_encode_fail(&host->out, WIRE_FAIL, request, cause->code, text);
    return host_send(host, err);
}

static void heard(struct host *host) {
    host->heard_ns = host->probed_ns = mono_now();
    host->probe_span_ns = HOST_SILENT_NS;
    host->blocked_ns = 0;
}

/* ------------------------------------------------------------------ arriving -- */

/* Sends HELLO, as soon as there is somebody to send it to. */
static enum host_end say_hello(struct host *host, struct err *err) {
    struct wire_hello hello = {.n_threads = host->n_threads, .ram_bytes = host->ram_bytes};
    snprintf(hello.name, sizeof hello.name, "%s", host->name);
    snprintf(hello.isa, sizeof hello.isa, "%s", host->kern->name);
    wire_encode_hello(&host->out, &hello);

    bool said = host->was_joined;
    uint64_t say_ns = mono_after(SAY_LOOKING_NS);
    uint64_t give_up_ns = host->options->once ? mono_after(HOST_FIND_NS) : MONO_NEVER;
    for (;;) {
        if (host_must_stop(host)) return HOST_END_STOP;
        struct err cause = ERR_INIT;
        int rc = net_send(host->end, 0, host->out.frames, host->out.n_frames,
                mono_after(HOST_LOOK_NS), &cause);
        if (rc == 0) return HOST_END_NONE;
        if (rc != ERR_TIMEOUT && rc != ERR_PEER_LOST && rc != ERR_INTERRUPTED) {
            *err = cause;
            return HOST_END_FATAL;
        }
        uint64_t now = mono_now();
        if (now >= give_up_ns) {
            err_set(err, ERR_PEER_LOST, "nobody answers for %d s", (int)(HOST_FIND_NS / MONO_S));
            err_hint(err, "is the coordinator running (with --listen), and does a firewall let its "
                          "port through?");
            return HOST_END_GONE;
        }
        if (!said && now >= say_ns) {
            host_say(host, "looking for a coordinator at %s", host->options->address);
            said = true;
        }
    }
}

static enum host_end take_welcome(
        struct host *host, const struct wire_welcome *welcome, struct err *err) {
    if (host_renew_store(host, err) < 0) return HOST_END_FATAL;
    snprintf(host->coordinator, sizeof host->coordinator, "%s", welcome->coordinator);
    host->joined = host->was_joined = true;
    host->refused = false;
    host->n_pieces = host->failed_expert = 0;
    host->n_bad = 0;
    host->progress = (struct host_progress){.terminal = host->progress.terminal};
    LOG_INFO("worker.joined", "coordinator=%s member=%u", host->coordinator, welcome->member);

    char room[16];
    host_say(host, "joined %s as %s: %u thread%s, %s, room for %s", host->coordinator, host->name,
            host->n_threads, host->n_threads == 1 ? "" : "s", host->kern->name,
            host_bytes_text(host->ram_bytes, room));
    host_beat_start(host);
    return HOST_END_NONE;
}

/* A refusal answers our HELLO, or whatever we said on a connection that broke and came back, where
 * nobody knows us. */
static enum host_end take_refuse(
        struct host *host, const struct wire_fail *refuse, struct err *err) {
    int code = refuse->code < 0 ? refuse->code : ERR_PROTOCOL;
    err_set(err, code, "%s", refuse->text);
    if (host->joined || host->n_probes > 0) return HOST_END_GONE;
    bool final = code == ERR_PROTOCOL || code == ERR_UNSUPPORTED || code == ERR_BAD_INPUT;
    return final ? HOST_END_FATAL : HOST_END_REFUSED;
}

/* ------------------------------------------------------------------ messages -- */

/* Something that cannot be used: the coordinator is told, but not for ever. */
static enum host_end take_bad(
        struct host *host, uint64_t request, const struct err *cause, struct err *err) {
    if (!host->joined) {
        *err = *cause;
        return HOST_END_FATAL;
    }
    if (++host->n_bad > HOST_BAD_MAX) {
        err_set(err, ERR_PROTOCOL, "it sent %u messages that cannot be used; the last: %s",
                host->n_bad, cause->what);
        return HOST_END_GONE;
    }
    return host_send_fail(host, request, cause, err) < 0 ? HOST_END_GONE : HOST_END_NONE;
}

static enum host_end take_decoded(struct host *host, const struct wire_in *in, struct err *err) {
    enum wire_type type = in->head.type;
    bool work = type == WIRE_LAYER || type == WIRE_EXPERT || type == WIRE_DISPATCH;
    int rc = 0;
    if (work && host->joined) {
        rc = type == WIRE_LAYER    ? host_take_layer(host, in, err)
             : type == WIRE_EXPERT ? host_take_expert(host, in, err)
                                   : host_take_dispatch(host, in, err);
    } else if (type == WIRE_PING) {
        wire_encode_bare(&host->out, WIRE_PONG, in->head.request);
        rc = host_send(host, err);
    } else if (type == WIRE_WELCOME) {
        return take_welcome(host, &in->welcome, err);
    } else if (type == WIRE_REFUSE) {
        return take_refuse(host, &in->fail, err);
    } else if (type == WIRE_BYE) {
        return HOST_END_BYE;
    } else if (type != WIRE_PONG) {
        struct err cause = ERR_INIT;
        err_set(&cause, ERR_PROTOCOL, work ? "a %s before any WELCOME" : "a %s from a coordinator",
                wire_type_name(type));
        return take_bad(host, in->head.request, &cause, err);
    }
    return rc < 0 ? HOST_END_GONE : HOST_END_NONE;
}

static enum host_end take(struct host *host, const struct net_msg *msg, struct err *err) {
    heard(host);
    struct wire_in in;
    struct err cause = ERR_INIT;
    if (wire_decode(msg, &in, &cause) < 0) return take_bad(host, 0, &cause, err);
    return take_decoded(host, &in, err);
}

/* Asks a silent coordinator for a sign of life, and judges by what comes of it. */
static enum host_end watch_silence(struct host *host, struct err *err) {
    uint64_t now = mono_now();
    if (now - host->probed_ns < host->probe_span_ns) return HOST_END_NONE;
    if (now - host->heard_ns > HOST_DEAF_NS) {
        err_set(err, ERR_PEER_LOST, "it has been silent for %d s", (int)(HOST_DEAF_NS / MONO_S));
        return HOST_END_GONE;
    }

    wire_encode_bare(&host->out, WIRE_PING, host->n_probes + 1);
    int rc = net_send(
            host->end, 0, host->out.frames, host->out.n_frames, mono_after(HOST_LOOK_NS), NULL);
    now = mono_now();
    if (rc == 0) {
        host->probed_ns = now;
        host->probe_span_ns = min_u64(2 * host->probe_span_ns, HOST_PROBE_MAX_NS);
        host->blocked_ns = 0;
        host->n_probes++;
        return HOST_END_NONE;
    }
    if (host->blocked_ns == 0) host->blocked_ns = now;
    if (now - host->blocked_ns < HOST_SEND_NS) return HOST_END_NONE;
    err_set(err, ERR_PEER_LOST, "the connection is closed");
    return HOST_END_GONE;
}

static enum host_end serve(struct host *host, struct err *err) {
    for (;;) {
        if (host_must_stop(host)) return HOST_END_STOP;
        struct net_msg msg;
        struct err cause = ERR_INIT;
        int rc = net_recv(host->end, mono_after(HOST_LOOK_NS), &msg, &cause);
        if (rc == ERR_INTERRUPTED) continue;
        if (rc < 0) {
            *err = cause;
            return HOST_END_GONE;
        }
        host_progress_look(host, false);
        atomic_store_explicit(&host->beat.busy, rc == 1, memory_order_relaxed);
        enum host_end end = rc == 1 ? take(host, &msg, err) : watch_silence(host, err);
        atomic_store_explicit(&host->beat.busy, false, memory_order_relaxed);
        if (end != HOST_END_NONE) return end;
    }
}

/* ------------------------------------------------------------------- leaving -- */

/* Answers what has arrived already, then says goodbye. */
static void leave(struct host *host) {
    uint64_t deadline_ns = mono_after(HOST_DRAIN_NS);
    struct net_msg msg;
    while (host->joined && mono_now() < deadline_ns &&
            net_recv(host->end, mono_now(), &msg, NULL) == 1)
        if (take(host, &msg, NULL) != HOST_END_NONE) return;
    wire_encode_bare(&host->out, WIRE_BYE, 0);
    (void)net_send(host->end, 0, host->out.frames, host->out.n_frames, mono_now(),
            NULL); /* without it the coordinator notices by the connection */
}

enum host_end host_link(struct host *host, struct err *err) {
    host->joined = false;
    host->n_probes = 0;
    heard(host);
    if (net_dial(host->net, host->options->address, &host->end, err) < 0) return HOST_END_FATAL;

    enum host_end end = say_hello(host, err);
    bool said_hello = end == HOST_END_NONE;
    if (said_hello) {
        heard(host);
        end = serve(host, err);
    }
    host_beat_stop(host);
    if (said_hello && (end == HOST_END_STOP || end == HOST_END_FATAL)) leave(host);
    net_close(host->end, HOST_LINGER_NS);
    host->end = NULL;
    host_drop_store(host);
    return end;
}
