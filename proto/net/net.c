/* net.c - chooses a transport by the address and passes calls on to it; reads addresses.
 * Owns: the list of transports and struct net. Does not: move a frame itself.
 * Runs on: any thread for struct net, an end's owner for its calls. */
#include "proto/net/net.h"

#include "proto/base/checked.h"
#include "proto/net/net_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* A DNS name is 253 bytes at most. */
#define HOST_BYTES_MAX 253

static const struct net_ops *const transports[] = {&net_inproc_ops, &net_zmq_ops};

const struct net_ops *net_transport_at(unsigned index) {
    return index < ARRAY_LEN(transports) ? transports[index] : NULL;
}

int net_new(struct net **out_net, struct err *err) {
    struct net *net = calloc(1, sizeof *net);
    if (!net) return err_set(err, ERR_NO_MEMORY, "no memory for the network");
    pthread_mutex_init(&net->mutex, NULL);
    cond_init(&net->listening);
    *out_net = net;
    return 0;
}

void net_free(struct net *net) {
    if (!net) return;
    ASSERT(atomic_load_explicit(&net->n_ends, memory_order_acquire) ==
            0); /* pairs with net_close */
    ASSERT(!net->hubs);
    net_zmq_fini(net);
    pthread_cond_destroy(&net->listening);
    pthread_mutex_destroy(&net->mutex);
    free(net);
}

bool net_has_scheme(const char *address, const char *scheme, const char **out_rest) {
    size_t n = strlen(scheme);
    if (strncmp(address, scheme, n) != 0) return false;
    if (out_rest) *out_rest = address + n;
    return true;
}

static const struct net_ops *find_transport(const char *address, struct err *err) {
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        if (!transports[i]->takes(address)) continue;
        if (strlen(address) < sizeof((struct net_end_head *)0)->address) return transports[i];
        err_set(err, ERR_USAGE, "an address of %zu bytes is too long; %zu are possible",
                strlen(address), sizeof((struct net_end_head *)0)->address - 1);
        return NULL;
    }
    err_set(err, ERR_USAGE, "no transport takes the address \"%.200s\"", address);
    err_hint(err, "write tcp://HOST:PORT, ipc://PATH or inproc://NAME");
    return NULL;
}

int net_listen(struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    const struct net_ops *ops = find_transport(address, err);
    if (!ops) return ERR_USAGE;
    int rc = ops->listen(net, address, out_end, err);
    if (rc == 0) atomic_fetch_add_explicit(&net->n_ends, 1, memory_order_relaxed);
    return rc;
}

int net_listen_also(struct net_end *end, const char *address, struct err *err) {
    const struct net_ops *ops = find_transport(address, err);
    if (!ops) return ERR_USAGE;
    if (ops != end->head.ops || !ops->listen_also)
        return err_set(err, ERR_USAGE, "cannot listen on both \"%s\" and \"%.200s\"",
                end->head.address, address);
    return ops->listen_also(end, address, err);
}

int net_dial(struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    const struct net_ops *ops = find_transport(address, err);
    if (!ops) return ERR_USAGE;
    int rc = ops->dial(net, address, out_end, err);
    if (rc == 0) atomic_fetch_add_explicit(&net->n_ends, 1, memory_order_relaxed);
    return rc;
}

int net_send(struct net_end *end, uint32_t peer, const struct net_frame *frames, uint32_t n_frames,
        uint64_t deadline_ns, struct err *err) {
    ASSERT(n_frames >= 1 && n_frames <= NET_FRAMES_MAX);
    uint64_t total = 0;
    for (uint32_t i = 0; i < n_frames; i++)
        if (!add_u64(total, frames[i].n_bytes, &total)) total = UINT64_MAX;
    if (total > NET_MSG_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "a message of %llu bytes; %llu are possible",
                (unsigned long long)total, (unsigned long long)NET_MSG_BYTES_MAX);
    return end->head.ops->send(end, peer, frames, n_frames, deadline_ns, err);
}

int net_recv(struct net_end *end, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err) {
    return end->head.ops->recv(end, deadline_ns, out_msg, err);
}

void net_wake(struct net_end *end) {
    end->head.ops->wake(end);
}

void net_close(struct net_end *end, uint64_t linger_ns) {
    if (!end) return;
    struct net *net = end->net;
    end->head.ops->close(end, linger_ns);
    atomic_fetch_sub_explicit(&net->n_ends, 1, memory_order_release); /* pairs with net_free */
}

const char *net_address(const struct net_end *end) {
    return end->head.address;
}

const char *net_transport_name(const struct net_end *end) {
    return end->head.ops->name;
}

/* A host name or IPv4 address, "*", or an IPv6 address with or without a zone ("fe80::1%eth0"). */
static bool is_host(const char *host, size_t n, bool ipv6) {
    if (n == 1 && host[0] == '*') return !ipv6;
    bool zone = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)host[i];
        bool fits = isalnum(c) || c == '-' || c == '.' || c == '_';
        if (ipv6 && !zone) {
            fits = isxdigit(c) || c == ':' || c == '.' || c == '%';
            zone = c == '%';
        }
        if (!fits) return false;
    }
    return n > 0;
}

/* A decimal number up to 65535 and nothing else. */
static bool read_port(const char *text, uint16_t *out_port) {
    unsigned port = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5) return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port > UINT16_MAX) return false;
    *out_port = (uint16_t)port;
    return true;
}

int net_parse_address(
        const char *text, uint16_t default_port, char *out, size_t out_bytes, struct err *err) {
    if (strstr(text, "://")) {
        if (strlen(text) >= out_bytes)
            return err_set(err, ERR_USAGE, "an address of %zu bytes is too long", strlen(text));
        memcpy(out, text, strlen(text) + 1);
        return 0;
    }

    const char *host = text;
    const char *colon = strrchr(text, ':');
    size_t n_host = strlen(text);
    bool ipv6 = text[0] == '[' || (colon && strchr(text, ':') != colon);
    const char *port_text = NULL;
    uint16_t port = default_port;

    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return err_set(err, ERR_USAGE, "\"%.200s\" is not [ADDRESS]:PORT", text);
        host = text + 1;
        n_host = (size_t)(end - host);
        if (end[1]) port_text = end + 2;
    } else if (colon && !ipv6) {
        n_host = (size_t)(colon - text);
        port_text = colon + 1;
    }
    if (port_text && !read_port(port_text, &port))
        return err_set(
                err, ERR_USAGE, "\"%.200s\" has no port from 0 to 65535 after the colon", text);
    if (n_host > HOST_BYTES_MAX)
        return err_set(err, ERR_USAGE, "a host name of %zu bytes is too long; %d are possible",
                n_host, HOST_BYTES_MAX);
    if (n_host == 0 && port_text && !ipv6) {
        host = "*";
        n_host = 1;
    }
    if (!is_host(host, n_host, ipv6))
        return err_set(err, ERR_USAGE, "\"%.200s\" is not HOST:PORT", text);

    int n = snprintf(
            out, out_bytes, ipv6 ? "tcp://[%.*s]:%u" : "tcp://%.*s:%u", (int)n_host, host, port);
    if (n < 0 || (size_t)n >= out_bytes)
        return err_set(err, ERR_USAGE, "the address \"%.200s\" is too long", text);
    return 0;
}
