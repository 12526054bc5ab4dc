/* net_zmq_address.h - our addresses as libzmq wants them, and back. Only net_zmq.c includes it. */
#pragma once

#include "proto/base/err.h"

#include <stddef.h>

struct endpoint {
    char text[320];  /* for zmq_bind() or zmq_connect() */
    char shown[300]; /* tcp: without the port, as the user wrote the host; else empty */
    int ipv6;        /* for ZMQ_IPV6 */
};

/* Resolves a host name (the first IPv4 address it has, else the first of IPv6); checks the path of
 * an ipc address, which libzmq would unlink whatever is there. ERR_USAGE: malformed, too long.
 * ERR_IO: unknown host, in use. May block for a name lookup. */
int endpoint_to_bind(const char *address, struct endpoint *out, struct err *err);

/* Names stay names, looked up as IPv4 at each attempt to connect. ERR_USAGE. */
int endpoint_to_dial(const char *address, struct endpoint *out, struct err *err);

/* The address for people and other programs: `bound` is ZMQ_LAST_ENDPOINT, whose port is the real
 * one. */
void endpoint_show(const struct endpoint *endpoint, const char *bound, char *out, size_t out_bytes);
