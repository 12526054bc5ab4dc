/* net_zmq_address.c - checks and translates addresses around libzmq.
 * Owns: nothing. Does not: open a ZeroMQ socket. Runs on: any thread.
 *
 * A name is looked up as IPv4 first: one address is tried per attempt, and a coordinator that
 * listens on 127.0.0.1 would never be found under the ::1 of "localhost". */
#include "proto/net/net_zmq_address.h"

#include "proto/net/net_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* tcp://HOST:PORT taken apart. Brackets are removed. */
struct host_port {
    char host[256];
    unsigned port;
    bool ipv6;
};

static int split_tcp(
        const char *address, const char *rest, struct host_port *out, struct err *err) {
    char normal[300];
    const char *text = NULL;
    if (strstr(rest, "://") || net_parse_address(rest, 0, normal, sizeof normal, NULL) < 0) {
        err_set(err, ERR_USAGE, "\"%s\" is not tcp://HOST:PORT", address);
        err_hint(err,
                "a port is a number from 0 to 65535; write IPv6 addresses as tcp://[::1]:7575");
        return ERR_USAGE;
    }
    (void)net_has_scheme(normal, "tcp://", &text);

    const char *colon = strrchr(text, ':');
    out->ipv6 = text[0] == '[';
    size_t skip = out->ipv6 ? 1 : 0;
    size_t n = (size_t)(colon - text) - 2 * skip;
    memcpy(out->host, text + skip, n);
    out->host[n] = 0;
    out->port = (unsigned)strtoul(colon + 1, NULL, 10);
    return 0;
}

static void put_tcp(char *out, size_t out_bytes, const char *host, bool ipv6, unsigned port) {
    snprintf(out, out_bytes, ipv6 ? "tcp://[%s]:%u" : "tcp://%s:%u", host, port);
}

/* Replaces a name by a numeric address. */
static int resolve(const char *address, struct host_port *at, struct err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(at->host, NULL, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_IO, "cannot listen on %s: cannot resolve \"%s\": %s", address,
                at->host, gai_strerror(rc));

    const struct addrinfo *best = found;
    for (const struct addrinfo *a = found; a; a = a->ai_next)
        if (a->ai_family == AF_INET && best->ai_family != AF_INET) best = a;
    at->ipv6 = best->ai_family == AF_INET6;
    rc = getnameinfo(
            best->ai_addr, best->ai_addrlen, at->host, sizeof at->host, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    if (rc != 0) return err_set(err, ERR_IO, "cannot listen on %s: %s", address, gai_strerror(rc));
    return 0;
}

static bool is_ipv4(const char *host) {
    struct in_addr ignored;
    return inet_pton(AF_INET, host, &ignored) == 1;
}

static int check_ipc_path(const char *address, const char *path, struct err *err) {
    size_t room = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (!*path) return err_set(err, ERR_USAGE, "\"%s\" has no path after ipc://", address);
    if (strlen(path) > room) {
        err_set(err, ERR_USAGE, "the path of %s is %zu bytes long; a Unix socket takes %zu",
                address, strlen(path), room);
        err_hint(err, "choose a folder with a shorter path");
        return ERR_USAGE;
    }
    return 0;
}

/* libzmq removes what is at the path before it binds. That is right for a socket left behind by a
 * program that died; a living program's socket and any other file have to stay. */
static int check_ipc_free(const char *address, const char *path, struct err *err) {
    struct stat st;
    if (path[0] == '@' || strcmp(path, "*") == 0 || lstat(path, &st) < 0) return 0;
    if (!S_ISSOCK(st.st_mode)) {
        err_set(err, ERR_IO, "cannot listen on %s: a file is in the way", address);
        err_hint(err, "choose another path");
        return ERR_IO;
    }

    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return err_set(err, ERR_IO, "cannot make a socket: %s", strerror(errno));
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int rc = connect(fd, (const struct sockaddr *)&to, sizeof to);
    close(fd);
    if (rc < 0) return 0;
    err_set(err, ERR_IO, "cannot listen on %s: the address is in use", address);
    err_hint(err, "another program has it; choose another path");
    return ERR_IO;
}

int endpoint_to_bind(const char *address, struct endpoint *out, struct err *err) {
    const char *rest = NULL;
    *out = (struct endpoint){0};
    if (net_has_scheme(address, "ipc://", &rest)) {
        int rc = check_ipc_path(address, rest, err);
        if (rc == 0) rc = check_ipc_free(address, rest, err);
        snprintf(out->text, sizeof out->text, "%s", address);
        return rc;
    }

    struct host_port at;
    (void)net_has_scheme(address, "tcp://", &rest);
    int rc = split_tcp(address, rest, &at, err);
    if (rc < 0) return rc;
    snprintf(out->shown, sizeof out->shown, at.ipv6 ? "tcp://[%s]" : "tcp://%s", at.host);
    bool any = strcmp(at.host, "*") == 0;
    if (!any && !at.ipv6 && !is_ipv4(at.host)) rc = resolve(address, &at, err);
    out->ipv6 = any || at.ipv6;
    put_tcp(out->text, sizeof out->text, at.host, at.ipv6, at.port);
    return rc;
}

int endpoint_to_dial(const char *address, struct endpoint *out, struct err *err) {
    const char *rest = NULL;
    *out = (struct endpoint){0};
    if (net_has_scheme(address, "ipc://", &rest)) {
        snprintf(out->text, sizeof out->text, "%s", address);
        return check_ipc_path(address, rest, err);
    }

    struct host_port at;
    (void)net_has_scheme(address, "tcp://", &rest);
    int rc = split_tcp(address, rest, &at, err);
    if (rc < 0) return rc;
    if (at.port == 0) return err_set(err, ERR_USAGE, "cannot dial %s: it has no port", address);
    out->ipv6 = at.ipv6;
    const char *host = strcmp(at.host, "*") == 0 ? "127.0.0.1" : at.host;
    put_tcp(out->text, sizeof out->text, host, at.ipv6, at.port);
    return 0;
}

void endpoint_show(
        const struct endpoint *endpoint, const char *bound, char *out, size_t out_bytes) {
    const char *colon = strrchr(bound, ':');
    if (endpoint->shown[0] && colon)
        snprintf(out, out_bytes, "%s%s", endpoint->shown, colon);
    else
        snprintf(out, out_bytes, "%s", bound);
}
