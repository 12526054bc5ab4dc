/* net_zmq.c - the transport over ZeroMQ: a ROUTER for a hub, a DEALER for a dialled end.
 * Owns: the sockets, and the frames of the last received message. Does not: know messages, or
 * decide what a lost peer means. Runs on: each end on its owner's thread; libzmq has one thread of
 * its own.
 *
 * A hub numbers its peers by the routing ids that libzmq gives to connections: a zero byte and
 * four bytes that count up. A connection that breaks is another peer when it comes back. */
#include "proto/net/net_internal.h"

#include "proto/base/checked.h"
#include "proto/net/net_zmq_address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zmq.h>

/* Messages waiting in one connection, per direction and end. More than any flow control of ours
 * leaves under way. */
#define HWM_MESSAGES 1024

/* Half-open connections are ended by TCP itself: keepalive where nothing is sent, this where what was
 * sent is not acknowledged. libzmq's own heartbeats are not used: up to 4.3.4 their timer stops the
 * program by an assertion when it fires on a connection that broke while its messages were not being
 * taken, which a stranger who floods the port and leaves can bring about. */
#define TCP_UNANSWERED_MS 10000

#define HANDSHAKE_MS 5000
#define CONNECT_MS 3000
#define RECONNECT_FIRST_MS 50
#define RECONNECT_MAX_MS 1000

#define ROUTING_ID_BYTES 5

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
/* The system's libzmq is not built with the sanitizer, which sees its memory accesses where they
 * go through the C library, but not the atomics that order them. What our own threads do stays
 * visible. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void) {
    return "called_from_lib:libzmq.so\ncalled_from_lib:libstdc++.so\n";
}
#endif

struct zmq_end { /* owner: the thread that made it, but for the two fields of net_wake */
    struct net_end end;
    void *socket;
    bool hub;
    zmq_msg_t parts[NET_FRAMES_MAX]; /* of the last received message */
    uint32_t n_parts;

    int wake_fds[2];   /* a pipe: read end polled by recv */
    atomic_bool woken; /* release by net_wake, acquire by recv */
};

static bool takes(const char *address) {
    return net_has_scheme(address, "tcp://", NULL) || net_has_scheme(address, "ipc://", NULL);
}

static void *get_context(struct net *net) {
    pthread_mutex_lock(&net->mutex);
    if (!net->zmq_context) net->zmq_context = zmq_ctx_new();
    void *context = net->zmq_context;
    pthread_mutex_unlock(&net->mutex);
    return context;
}

void net_zmq_fini(struct net *net) {
    if (!net->zmq_context) return;
    while (zmq_ctx_term(net->zmq_context) < 0 && errno == EINTR)
        continue;
    net->zmq_context = NULL;
}

static void drop_parts(struct zmq_end *end) {
    for (uint32_t i = 0; i < end->n_parts; i++)
        zmq_msg_close(&end->parts[i]);
    end->n_parts = 0;
}

static void free_end(struct zmq_end *end, int linger_ms) {
    drop_parts(end);
    if (end->socket) {
        zmq_setsockopt(end->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(end->socket);
    }
    for (int i = 0; i < 2; i++)
        if (end->wake_fds[i] >= 0) close(end->wake_fds[i]);
    free(end);
}

static int set_options(void *socket, bool hub) {
    const struct {
        int option;
        int value;
        bool hub_too;
    } options[] = {
            {ZMQ_SNDHWM, HWM_MESSAGES, true},
            {ZMQ_RCVHWM, HWM_MESSAGES, true},
            {ZMQ_TCP_MAXRT, TCP_UNANSWERED_MS, true},
            {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, true},
            {ZMQ_TCP_KEEPALIVE, 1, true},
            {ZMQ_TCP_KEEPALIVE_IDLE, 10, true},
            {ZMQ_TCP_KEEPALIVE_INTVL, 5, true},
            {ZMQ_TCP_KEEPALIVE_CNT, 3, true},
            {ZMQ_IMMEDIATE, 1, false},
            {ZMQ_CONNECT_TIMEOUT, CONNECT_MS, false},
            {ZMQ_RECONNECT_IVL, RECONNECT_FIRST_MS, false},
            {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (hub && !options[i].hub_too) continue;
        if (zmq_setsockopt(socket, options[i].option, &options[i].value, sizeof(int)) < 0)
            return -1;
    }
    int mandatory = 1;
    if (hub && zmq_setsockopt(socket, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory) < 0)
        return -1;
    int64_t max_bytes = (int64_t)NET_MSG_BYTES_MAX;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof max_bytes);
}

static int new_end(struct net *net, bool hub, struct zmq_end **out_end, struct err *err) {
    struct zmq_end *end = calloc(1, sizeof *end);
    if (!end) return err_set(err, ERR_NO_MEMORY, "no memory for a connection");
    end->end.head.ops = &net_zmq_ops;
    end->end.net = net;
    end->hub = hub;
    end->wake_fds[0] = end->wake_fds[1] = -1;

    void *context = get_context(net);
    end->socket = context ? zmq_socket(context, hub ? ZMQ_ROUTER : ZMQ_DEALER) : NULL;
    if (!end->socket || set_options(end->socket, hub) < 0 || pipe(end->wake_fds) < 0) {
        int rc = err_set(err, errno == EMFILE ? ERR_LIMIT : ERR_IO, "cannot make a socket: %s",
                zmq_strerror(errno));
        free_end(end, 0);
        return rc;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(end->wake_fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(end->wake_fds[i], F_SETFL, O_NONBLOCK);
    }
    *out_end = end;
    return 0;
}

static int bind_address(struct zmq_end *end, const char *address, struct err *err) {
    struct endpoint endpoint;
    int rc = endpoint_to_bind(address, &endpoint, err);
    if (rc < 0) return rc;

    zmq_setsockopt(end->socket, ZMQ_IPV6, &endpoint.ipv6, sizeof endpoint.ipv6);
    if (zmq_bind(end->socket, endpoint.text) < 0) {
        bool in_use = errno == EADDRINUSE;
        err_set(err, ERR_IO, "cannot listen on %s: %s", address,
                in_use ? "the address is in use" : zmq_strerror(errno));
        if (in_use)
            err_hint(err, "another program has it; choose another port, or 0 for any free one");
        return ERR_IO;
    }

    char bound[256] = "";
    size_t n_bound = sizeof bound;
    zmq_getsockopt(end->socket, ZMQ_LAST_ENDPOINT, bound, &n_bound);
    endpoint_show(&endpoint, bound, end->end.head.address, sizeof end->end.head.address);
    return 0;
}

static int zmq_end_listen(
        struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    struct zmq_end *end = NULL;
    int rc = new_end(net, true, &end, err);
    if (rc < 0) return rc;
    rc = bind_address(end, address, err);
    if (rc < 0) {
        free_end(end, 0);
        return rc;
    }
    *out_end = &end->end;
    return 0;
}

static int zmq_end_listen_also(struct net_end *base, const char *address, struct err *err) {
    struct zmq_end *end = (struct zmq_end *)base;
    ASSERT(end->hub);
    return bind_address(end, address, err);
}

static int zmq_end_dial(
        struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    struct endpoint endpoint;
    int rc = endpoint_to_dial(address, &endpoint, err);
    if (rc < 0) return rc;

    struct zmq_end *end = NULL;
    rc = new_end(net, false, &end, err);
    if (rc < 0) return rc;
    zmq_setsockopt(end->socket, ZMQ_IPV6, &endpoint.ipv6, sizeof endpoint.ipv6);
    if (zmq_connect(end->socket, endpoint.text) < 0) {
        rc = err_set(err, ERR_USAGE, "cannot dial %s: %s", address, zmq_strerror(errno));
        free_end(end, 0);
        return rc;
    }
    *out_end = &end->end;
    return 0;
}

/* Milliseconds until the deadline as libzmq takes them, rounded up so that nothing ends early. */
static int wait_ms(uint64_t deadline_ns) {
    uint64_t ms = (mono_left(deadline_ns) + MONO_MS - 1) / MONO_MS;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* Sends one part; where the connection takes no more, the first part waits for it. */
static int send_part(struct zmq_end *end, zmq_msg_t *part, bool more, uint64_t deadline_ns) {
    int flags = more ? ZMQ_SNDMORE : 0;
    for (int wait = 0;; wait = wait_ms(deadline_ns)) {
        if (wait > 0) zmq_setsockopt(end->socket, ZMQ_SNDTIMEO, &wait, sizeof wait);
        if (zmq_msg_send(part, end->socket, flags | (wait > 0 ? 0 : ZMQ_DONTWAIT)) >= 0) return 0;
        if (errno != EINTR && (errno != EAGAIN || mono_left(deadline_ns) == 0)) return -1;
    }
}

static int send_error(const struct zmq_end *end, uint32_t peer, struct err *err) {
    if (errno == EHOSTUNREACH) return err_set(err, ERR_PEER_LOST, "peer %u has gone", peer);
    if (errno != EAGAIN)
        return err_set(err, ERR_IO, "cannot send a message: %s", zmq_strerror(errno));
    if (end->hub) return err_set(err, ERR_TIMEOUT, "peer %u takes no more messages", peer);
    return err_set(err, ERR_TIMEOUT, "the other side is not there or takes no more messages");
}

/* Copies frames, after the routing id on a hub. Returns how many parts, or ERR_NO_MEMORY. */
static int make_parts(const struct zmq_end *end, uint32_t peer, const struct net_frame *frames,
        uint32_t n_frames, zmq_msg_t *parts, struct err *err) {
    const uint8_t routing_id[ROUTING_ID_BYTES] = {
            0, (uint8_t)(peer >> 24), (uint8_t)(peer >> 16), (uint8_t)(peer >> 8), (uint8_t)peer};
    const struct net_frame first = {routing_id, sizeof routing_id};
    uint32_t n_before = end->hub ? 1 : 0;

    for (uint32_t i = 0; i < n_before + n_frames; i++) {
        const struct net_frame *frame = i < n_before ? &first : &frames[i - n_before];
        if (zmq_msg_init_size(&parts[i], frame->n_bytes) < 0) {
            while (i > 0)
                zmq_msg_close(&parts[--i]);
            return err_set(err, ERR_NO_MEMORY, "no memory for a message");
        }
        if (frame->n_bytes) memcpy(zmq_msg_data(&parts[i]), frame->bytes, frame->n_bytes);
    }
    return (int)(n_before + n_frames);
}

static int zmq_end_send(struct net_end *base, uint32_t peer, const struct net_frame *frames,
        uint32_t n_frames, uint64_t deadline_ns, struct err *err) {
    struct zmq_end *end = (struct zmq_end *)base;
    zmq_msg_t parts[NET_FRAMES_MAX + 1];
    int n_parts = make_parts(end, peer, frames, n_frames, parts, err);
    if (n_parts < 0) return n_parts;

    /* Pairs with the load in zmq_end_recv. */
    atomic_fetch_add_explicit(&base->net->handed_over, 1, memory_order_release);
    int rc = 0;
    for (int i = 0; i < n_parts; i++) {
        if (send_part(end, &parts[i], i + 1 < n_parts, i == 0 ? deadline_ns : 0) == 0) continue;
        if (i == 0) {
            rc = send_error(end, peer, err);
            while (n_parts > 0)
                zmq_msg_close(&parts[--n_parts]);
            break;
        }
        /* The connection broke between two parts. libzmq drops the rest up to the last, so that has
         * to follow: otherwise the next message would be taken for it. */
        zmq_msg_close(&parts[i]);
        if (rc == 0) rc = err_set(err, ERR_PEER_LOST, "the connection ended during a message");
    }
    return rc;
}

/* Receives one part; a part of a message that has begun is always there. */
static int recv_part(struct zmq_end *end, zmq_msg_t *part) {
    int rc;
    zmq_msg_init(part);
    do {
        rc = zmq_msg_recv(part, end->socket, ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) zmq_msg_close(part);
    return rc < 0 ? -1 : 0;
}

/* The number of a routing id; 0 for one that libzmq did not make: no peer of ours has such. */
static uint32_t peer_of(zmq_msg_t *routing_id) {
    const uint8_t *b = zmq_msg_data(routing_id);
    if (zmq_msg_size(routing_id) != ROUTING_ID_BYTES || b[0] != 0) return 0;
    return (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
}

/* Takes one message from the socket: 1 with *out_msg, 0 when it was not fit to be returned, -1 with
 * errno when there is none. */
static int recv_message(struct zmq_end *end, struct net_msg *out_msg) {
    uint64_t n_bytes = 0;
    uint32_t peer = 0;
    bool fits = true, more = true;

    drop_parts(end);
    if (end->hub) {
        zmq_msg_t routing_id;
        if (recv_part(end, &routing_id) < 0) return -1;
        peer = peer_of(&routing_id);
        more = zmq_msg_more(&routing_id);
        fits = peer != 0;
        zmq_msg_close(&routing_id);
    }
    while (more) {
        zmq_msg_t surplus;
        zmq_msg_t *part = end->n_parts < NET_FRAMES_MAX ? &end->parts[end->n_parts] : &surplus;
        if (recv_part(end, part) < 0) return -1;
        more = zmq_msg_more(part);
        n_bytes += zmq_msg_size(part);
        fits = fits && part != &surplus && n_bytes <= NET_MSG_BYTES_MAX;
        if (fits)
            end->n_parts++;
        else
            zmq_msg_close(part);
    }
    if (!fits || end->n_parts == 0) {
        drop_parts(end);
        return 0;
    }

    out_msg->peer = peer;
    out_msg->n_frames = end->n_parts;
    for (uint32_t i = 0; i < end->n_parts; i++) {
        out_msg->frames[i].bytes = zmq_msg_data(&end->parts[i]);
        out_msg->frames[i].n_bytes = zmq_msg_size(&end->parts[i]);
    }
    return 1;
}

static bool take_wake(struct zmq_end *end) {
    if (!atomic_load_explicit(&end->woken, memory_order_relaxed)) return false;
    char bytes[16];
    while (read(end->wake_fds[0], bytes, sizeof bytes) > 0)
        continue;
    return atomic_exchange_explicit(&end->woken, false, memory_order_acquire);
}

static int zmq_end_recv(
        struct net_end *base, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err) {
    struct zmq_end *end = (struct zmq_end *)base;
    for (;;) {
        if (take_wake(end))
            return err_set(err, ERR_INTERRUPTED, "woken while waiting for a message");

        int rc = recv_message(end, out_msg);
        /* Pairs with the increment in zmq_end_send. */
        atomic_load_explicit(&base->net->handed_over, memory_order_acquire);
        if (rc == 1) return 1;
        if (rc < 0 && errno != EAGAIN)
            return err_set(err, ERR_IO, "cannot receive a message: %s", zmq_strerror(errno));
        if (mono_left(deadline_ns) == 0) return 0;
        if (rc == 0) continue;

        zmq_pollitem_t items[2] = {{.socket = end->socket, .events = ZMQ_POLLIN},
                {.fd = end->wake_fds[0], .events = ZMQ_POLLIN}};
        if (zmq_poll(items, 2, wait_ms(deadline_ns)) < 0) {
            if (errno == EINTR)
                return err_set(err, ERR_INTERRUPTED, "a signal came while waiting for a message");
            return err_set(err, ERR_IO, "cannot wait for a message: %s", zmq_strerror(errno));
        }
    }
}

static void zmq_end_wake(struct net_end *base) {
    struct zmq_end *end = (struct zmq_end *)base;
    atomic_store_explicit(&end->woken, true, memory_order_release);
    ssize_t n = write(end->wake_fds[1], "", 1);
    (void)n; /* a full pipe wakes as well */
}

static void zmq_end_close(struct net_end *base, uint64_t linger_ns) {
    uint64_t linger_ms = linger_ns / MONO_MS;
    free_end((struct zmq_end *)base, linger_ms > INT_MAX ? INT_MAX : (int)linger_ms);
}

const struct net_ops net_zmq_ops = {
        .name = "zmq",
        .takes = takes,
        .listen = zmq_end_listen,
        .dial = zmq_end_dial,
        .listen_also = zmq_end_listen_also,
        .send = zmq_end_send,
        .recv = zmq_end_recv,
        .wake = zmq_end_wake,
        .close = zmq_end_close,
};
