/* net_foreign_test.c - addresses nobody should write, and peers that are not ours.
 * The foreign peers use libzmq or a plain socket directly. */
#include "proto/base/mono.h"
#include "proto/net/net.h"
#include "tests/support/tmpdir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.h>

#include <cmocka.h>

#define PATIENCE (20 * MONO_S)

struct fixture {
    struct net *net;
    struct net_end *hub;
    void *context; /* the foreigner's own */
    void *socket;
};

static void start(struct fixture *fx, const char *routing_id) {
    struct err err = ERR_INIT;
    int linger = 0;
    assert_int_equal(net_new(&fx->net, &err), 0);
    assert_int_equal(net_listen(fx->net, "tcp://127.0.0.1:0", &fx->hub, &err), 0);
    fx->context = zmq_ctx_new();
    fx->socket = zmq_socket(fx->context, ZMQ_DEALER);
    zmq_setsockopt(fx->socket, ZMQ_LINGER, &linger, sizeof linger);
    if (routing_id) zmq_setsockopt(fx->socket, ZMQ_ROUTING_ID, routing_id, strlen(routing_id));
    assert_int_equal(zmq_connect(fx->socket, net_address(fx->hub)), 0);
}

static void stop(struct fixture *fx) {
    zmq_close(fx->socket);
    zmq_ctx_term(fx->context);
    net_close(fx->hub, 0);
    net_free(fx->net);
}

/* The next message is the one of a well-behaved peer. */
static void still_works(struct fixture *fx) {
    struct err err = ERR_INIT;
    struct net_end *peer = NULL;
    struct net_msg msg;
    const struct net_frame frame = {"fine", 4};
    assert_int_equal(net_dial(fx->net, net_address(fx->hub), &peer, &err), 0);
    assert_int_equal(net_send(peer, 0, &frame, 1, mono_after(PATIENCE), &err), 0);
    assert_int_equal(net_recv(fx->hub, mono_after(PATIENCE), &msg, &err), 1);
    assert_int_equal(msg.n_frames, 1);
    assert_memory_equal(msg.frames[0].bytes, "fine", 4);
    net_close(peer, 0);
}

static void send_parts(struct fixture *fx, int n_parts) {
    for (int i = 0; i < n_parts; i++)
        assert_int_equal(zmq_send(fx->socket, "p", 1, i + 1 < n_parts ? ZMQ_SNDMORE : 0), 1);
}

static void a_message_of_too_many_frames_is_dropped(void **state) {
    (void)state;
    struct fixture fx;
    struct err err = ERR_INIT;
    struct net_msg msg;
    start(&fx, NULL);
    send_parts(&fx, NET_FRAMES_MAX + 1);
    send_parts(&fx, 100);
    send_parts(&fx, NET_FRAMES_MAX);
    assert_int_equal(net_recv(fx.hub, mono_after(PATIENCE), &msg, &err), 1);
    assert_int_equal(msg.n_frames, NET_FRAMES_MAX);
    still_works(&fx);
    stop(&fx);
}

static void a_peer_that_names_itself_is_not_listened_to(void **state) {
    (void)state;
    struct fixture fx;
    start(&fx, "admin");
    send_parts(&fx, 1);
    still_works(&fx);
    still_works(&fx);
    stop(&fx);
}

static void bytes_that_are_no_zeromq_hurt_nobody(void **state) {
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\xff\xff\xff\xff\xff",
            "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL is not all of it"};
    struct fixture fx;
    start(&fx, NULL);
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)atoi(strrchr(net_address(fx.hub), ':') + 1));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        assert_true(send(fd, texts[i], strlen(texts[i]), MSG_NOSIGNAL) > 0);
        still_works(&fx);
        close(fd);
    }
    still_works(&fx);
    stop(&fx);
}

/* A frame that claims 2 GiB after a proper greeting: the connection ends, nothing is allocated. */
static void a_frame_over_the_limit_ends_the_connection(void **state) {
    (void)state;
    struct fixture fx;
    start(&fx, NULL);
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)atoi(strrchr(net_address(fx.hub), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);

    unsigned char greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const unsigned char ready[] = "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06"
                                         "DEALER";
    static const unsigned char huge[] = {2, 0, 0, 0, 0, 0x80, 0, 0, 0};
    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
    unsigned char command[64];
    size_t n_ready = sizeof ready - 1;
    memcpy(command, ready, n_ready);
    command[1] = (unsigned char)(n_ready - 2);
    assert_int_equal(send(fd, command, n_ready, MSG_NOSIGNAL), n_ready);
    assert_int_equal(send(fd, huge, sizeof huge, MSG_NOSIGNAL), sizeof huge);

    struct timeval patience = {20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char bytes[256];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        continue;
    if (n < 0) assert_int_equal(errno, ECONNRESET);
    close(fd);
    still_works(&fx);
    stop(&fx);
}

static void bad_addresses_are_wrong_usage(void **state) {
    (void)state;
    static const char *const both[] = {"", "worker", "http://x:1", "tcp://", "tcp://host",
            "tcp://h:port", "tcp://h:65536", "tcp://h:-1", "tcp://h:1:2:x", "tcp://[::1",
            "tcp://[::1]7", "tcp://a b:1", "tcp://tcp://a:1", "tcp://h:1/path", "ipc://",
            "inproc://"};
    struct err err = ERR_INIT;
    struct net *net = NULL;
    assert_int_equal(net_new(&net, &err), 0);
    for (size_t i = 0; i <= sizeof both / sizeof both[0]; i++) {
        char longest[400] = "ipc:///";
        memset(longest + 7, 'x', 200);
        const char *address = i < sizeof both / sizeof both[0] ? both[i] : longest;
        /* Without a port means port 0: fine for listening only. */
        bool can_listen = strcmp(address, "tcp://host") == 0;
        struct net_end *end = NULL;
        err_reset(&err);
        int rc = can_listen ? ERR_USAGE : net_listen(net, address, &end, &err);
        if (rc != ERR_USAGE) fail_msg("listening on \"%s\" gave %d", address, rc);
        err_reset(&err);
        rc = net_dial(net, address, &end, &err);
        if (rc != ERR_USAGE) fail_msg("dialling \"%s\" gave %d", address, rc);
        assert_int_not_equal(err.what[0], 0);
        assert_null(end);
    }
    err_reset(&err);
    struct net_end *end = NULL;
    assert_int_equal(net_dial(net, "tcp://127.0.0.1:0", &end, &err), ERR_USAGE);
    net_free(net);
}

static void addresses_that_cannot_be_bound_say_why(void **state) {
    (void)state;
    struct tmpdir dir;
    struct err err = ERR_INIT;
    struct net *net = NULL;
    struct net_end *end = NULL;
    char path[512], address[600];
    assert_true(tmpdir_new(&dir));
    assert_int_equal(net_new(&net, &err), 0);

    tmpdir_write(tmpdir_file(&dir, "precious", path), "text", 4);
    snprintf(address, sizeof address, "ipc://%s", path);
    assert_int_equal(net_listen(net, address, &end, &err), ERR_IO);
    assert_non_null(strstr(err.what, "a file is in the way"));
    assert_int_equal(access(path, F_OK), 0);

    err_reset(&err);
    assert_int_equal(net_listen(net, "tcp://192.0.2.1:0", &end, &err), ERR_IO);
    assert_non_null(strstr(err.what, "192.0.2.1"));
    err_reset(&err);
    assert_int_equal(net_listen(net, "tcp://no-such-host.invalid:0", &end, &err), ERR_IO);
    assert_non_null(strstr(err.what, "no-such-host.invalid"));

    /* A socket that a dead program left behind is no obstacle. */
    tmpdir_file(&dir, "stale", path);
    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    snprintf(stale.sun_path, sizeof stale.sun_path, "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&stale, sizeof stale), 0);
    close(fd);
    snprintf(address, sizeof address, "ipc://%s", path);
    err_reset(&err);
    assert_int_equal(net_listen(net, address, &end, &err), 0);
    net_close(end, 0);
    net_free(net);
    tmpdir_remove(&dir);
}

static void an_open_address_is_dialled_as_this_machine(void **state) {
    (void)state;
    static const char *const addresses[] = {
            "tcp://*:0", "tcp://localhost:0", "tcp://:0", "tcp://0.0.0.0:0"};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct fixture fx = {0};
        struct err err = ERR_INIT;
        assert_int_equal(net_new(&fx.net, &err), 0);
        assert_int_equal(net_listen(fx.net, addresses[i], &fx.hub, &err), 0);
        assert_true(atoi(strrchr(net_address(fx.hub), ':') + 1) > 0);
        still_works(&fx);
        net_close(fx.hub, 0);
        net_free(fx.net);
    }
}

static void hosts_and_ports_become_addresses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *expected; /* NULL: ERR_USAGE */
    } cases[] = {
            {"box", "tcp://box:7575"},
            {"box:80", "tcp://box:80"},
            {":80", "tcp://*:80"},
            {":0", "tcp://*:0"},
            {"*:1", "tcp://*:1"},
            {"10.0.0.2", "tcp://10.0.0.2:7575"},
            {"[::1]:80", "tcp://[::1]:80"},
            {"[fe80::1%eth0]", "tcp://[fe80::1%eth0]:7575"},
            {"fe80::2", "tcp://[fe80::2]:7575"},
            {"my_box-2.local:65535", "tcp://my_box-2.local:65535"},
            {"ipc:///tmp/x", "ipc:///tmp/x"},
            {"inproc://n", "inproc://n"},
            {"", NULL},
            {":", NULL},
            {"box:", NULL},
            {"box:65536", NULL},
            {"box:123456", NULL},
            {"box:8o", NULL},
            {"box:-1", NULL},
            {"box: 1", NULL},
            {"bo x:1", NULL},
            {"[::1", NULL},
            {"[::1]80", NULL},
            {"[]:80", NULL},
            {"[*]:80", NULL},
            {"box/path:1", NULL},
            {"b\tx", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        char out[64] = "untouched";
        int rc = net_parse_address(cases[i].text, 7575, out, sizeof out, &err);
        if (rc != (cases[i].expected ? 0 : ERR_USAGE))
            fail_msg("\"%s\" gave %d", cases[i].text, rc);
        if (cases[i].expected) assert_string_equal(out, cases[i].expected);
    }
    char text[600], out[700];
    memset(text, 'a', sizeof text);
    text[300] = 0;
    assert_int_equal(net_parse_address(text, 1, out, sizeof out, NULL), ERR_USAGE);
    text[253] = 0;
    assert_int_equal(net_parse_address(text, 1, out, sizeof out, NULL), 0);
    assert_int_equal(net_parse_address(text, 1, out, 100, NULL), ERR_USAGE);
    assert_int_equal(
            net_parse_address("ipc:///a/path/of/some/length", 1, out, 10, NULL), ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_message_of_too_many_frames_is_dropped),
            cmocka_unit_test(a_peer_that_names_itself_is_not_listened_to),
            cmocka_unit_test(bytes_that_are_no_zeromq_hurt_nobody),
            cmocka_unit_test(a_frame_over_the_limit_ends_the_connection),
            cmocka_unit_test(bad_addresses_are_wrong_usage),
            cmocka_unit_test(addresses_that_cannot_be_bound_say_why),
            cmocka_unit_test(an_open_address_is_dialled_as_this_machine),
            cmocka_unit_test(hosts_and_ports_become_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
