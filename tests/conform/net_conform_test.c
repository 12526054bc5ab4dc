/* net_conform_test.c - what every transport has to do, run on inproc, ipc and tcp alike.
 * A test gets the name of its transport as cmocka's state and makes fresh addresses from it.
 * Nothing sleeps: each wait is for an event, with a deadline that only a broken transport reaches. */
#include "proto/base/mono.h"
#include "proto/net/net.h"
#include "tests/support/tmpdir.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE (20 * MONO_S)
#define PEERS_MAX 32

/* owner: the test's thread; ends of other threads belong to those */
struct fixture {
    struct net *net;
    struct net_end *hub;
    struct net_end *peers[PEERS_MAX];
};

static struct tmpdir tmpdir;
static unsigned n_addresses;

static void fresh_address(const char *transport, char out[512]) {
    char path[512], name[32];
    snprintf(name, sizeof name, "%u.sock", n_addresses++);
    if (strcmp(transport, "tcp") == 0)
        snprintf(out, 512, "tcp://127.0.0.1:0");
    else if (strcmp(transport, "ipc") == 0)
        snprintf(out, 512, "ipc://%.500s", tmpdir_file(&tmpdir, name, path));
    else
        snprintf(out, 512, "inproc://%s", name);
}

static void must(int rc, const struct err *err) {
    if (rc < 0) fail_msg("%s (%s)", err->what, err_code_text(rc));
}

static void start(struct fixture *fx, const char *transport, unsigned n_peers) {
    char address[512];
    struct err err = ERR_INIT;
    memset(fx, 0, sizeof *fx);
    fresh_address(transport, address);
    must(net_new(&fx->net, &err), &err);
    must(net_listen(fx->net, address, &fx->hub, &err), &err);
    for (unsigned i = 0; i < n_peers; i++)
        must(net_dial(fx->net, net_address(fx->hub), &fx->peers[i], &err), &err);
}

static void stop(struct fixture *fx) {
    for (unsigned i = 0; i < PEERS_MAX; i++)
        net_close(fx->peers[i], 0);
    net_close(fx->hub, 0);
    net_free(fx->net);
}

static void send_text(struct net_end *end, uint32_t peer, const char *text) {
    struct err err = ERR_INIT;
    struct net_frame frame = {text, strlen(text)};
    must(net_send(end, peer, &frame, 1, mono_after(PATIENCE), &err), &err);
}

static struct net_msg receive(struct net_end *end) {
    struct err err = ERR_INIT;
    struct net_msg msg;
    int rc = net_recv(end, mono_after(PATIENCE), &msg, &err);
    must(rc, &err);
    if (rc == 0) fail_msg("no message came");
    return msg;
}

static void is_text(const struct net_msg *msg, const char *text) {
    assert_int_equal(msg->n_frames, 1);
    assert_int_equal(msg->frames[0].n_bytes, strlen(text));
    assert_memory_equal(msg->frames[0].bytes, text, strlen(text));
}

/* Lets the hub meet a peer; returns its number. */
static uint32_t introduce(struct fixture *fx, struct net_end *peer) {
    send_text(peer, 0, "here I am");
    return receive(fx->hub).peer;
}

static void a_message_goes_to_the_hub_and_an_answer_comes_back(void **state) {
    struct fixture fx;
    start(&fx, *state, 1);
    send_text(fx.peers[0], 0, "rows");
    struct net_msg msg = receive(fx.hub);
    is_text(&msg, "rows");
    assert_int_not_equal(msg.peer, 0);
    send_text(fx.hub, msg.peer, "sums");
    msg = receive(fx.peers[0]);
    is_text(&msg, "sums");
    assert_int_equal(msg.peer, 0);
    stop(&fx);
}

static void each_of_many_peers_gets_its_own_answer(void **state) {
    struct fixture fx;
    start(&fx, *state, PEERS_MAX);
    char text[32];
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        snprintf(text, sizeof text, "peer %u", i);
        send_text(fx.peers[i], 0, text);
    }
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        struct net_msg msg = receive(fx.hub);
        snprintf(text, sizeof text, "%.*s", (int)msg.frames[0].n_bytes,
                (const char *)msg.frames[0].bytes);
        send_text(fx.hub, msg.peer, text);
    }
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        snprintf(text, sizeof text, "peer %u", i);
        struct net_msg msg = receive(fx.peers[i]);
        is_text(&msg, text);
    }
    stop(&fx);
}

static void messages_of_a_peer_stay_in_order(void **state) {
    enum { PEERS = 4, MESSAGES = 250 };
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, PEERS);
    for (uint32_t m = 0; m < MESSAGES; m++)
        for (uint32_t p = 0; p < PEERS; p++) {
            uint32_t content[2] = {p, m};
            struct net_frame frame = {content, sizeof content};
            must(net_send(fx.peers[p], 0, &frame, 1, mono_after(PATIENCE), &err), &err);
        }
    uint32_t next[PEERS] = {0}, numbers[PEERS] = {0};
    for (unsigned i = 0; i < PEERS * MESSAGES; i++) {
        struct net_msg msg = receive(fx.hub);
        uint32_t content[2];
        assert_int_equal(msg.frames[0].n_bytes, sizeof content);
        memcpy(content, msg.frames[0].bytes, sizeof content);
        assert_in_range(content[0], 0, PEERS - 1);
        assert_int_equal(content[1], next[content[0]]++);
        if (content[1] == 0) numbers[content[0]] = msg.peer;
        assert_int_equal(msg.peer, numbers[content[0]]);
    }
    for (uint32_t m = 0; m < MESSAGES; m++) {
        struct net_frame frame = {&m, sizeof m};
        must(net_send(fx.hub, numbers[0], &frame, 1, mono_after(PATIENCE), &err), &err);
    }
    for (uint32_t m = 0; m < MESSAGES; m++) {
        struct net_msg msg = receive(fx.peers[0]);
        assert_memory_equal(msg.frames[0].bytes, &m, sizeof m);
    }
    stop(&fx);
}

static void eight_frames_and_empty_ones_arrive_as_they_were(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    const struct net_frame frames[NET_FRAMES_MAX] = {
            {"", 0}, {"a", 1}, {NULL, 0}, {"bcd", 3}, {"", 0}, {"e", 1}, {"fg", 2}, {"", 0}};
    for (uint32_t n = 1; n <= NET_FRAMES_MAX; n++) {
        must(net_send(fx.peers[0], 0, frames, n, mono_after(PATIENCE), &err), &err);
        struct net_msg msg = receive(fx.hub);
        assert_int_equal(msg.n_frames, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(msg.frames[i].n_bytes, frames[i].n_bytes);
            if (frames[i].n_bytes)
                assert_memory_equal(msg.frames[i].bytes, frames[i].bytes, frames[i].n_bytes);
        }
        must(net_send(fx.hub, msg.peer, msg.frames, n, mono_after(PATIENCE), &err), &err);
        msg = receive(fx.peers[0]);
        assert_int_equal(msg.n_frames, n);
    }
    stop(&fx);
}

static void frames_of_16_mib_arrive_whole(void **state) {
    const size_t n_bytes = 16u << 20;
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    uint32_t *big = malloc(n_bytes);
    assert_non_null(big);
    for (size_t i = 0; i < n_bytes / 4; i++)
        big[i] = (uint32_t)(i * 2654435761u);
    const struct net_frame frames[3] = {{"head", 4}, {big, n_bytes}, {big, n_bytes}};
    must(net_send(fx.peers[0], 0, frames, 3, mono_after(PATIENCE), &err), &err);
    struct net_msg msg = receive(fx.hub);
    assert_int_equal(msg.n_frames, 3);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(msg.frames[i].n_bytes, n_bytes);
        assert_true(memcmp(msg.frames[i].bytes, big, n_bytes) == 0);
    }
    must(net_send(fx.hub, msg.peer, frames, 2, mono_after(PATIENCE), &err), &err);
    msg = receive(fx.peers[0]);
    assert_true(msg.n_frames == 2 && memcmp(msg.frames[1].bytes, big, n_bytes) == 0);
    free(big);
    stop(&fx);
}

/* Short contents are stored inside libzmq's message struct, long ones behind a pointer. */
static void frames_stay_valid_until_the_next_receive(void **state) {
    struct fixture fx;
    start(&fx, *state, 1);
    static const char long_text[] = "longer than what libzmq keeps inside its message struct, "
                                    "which is about thirty bytes";
    const char *const texts[3] = {"short", long_text, "end"};
    for (int i = 0; i < 3; i++)
        send_text(fx.peers[0], 0, texts[i]);
    for (int i = 0; i < 3; i++) {
        struct net_msg msg = receive(fx.hub);
        for (int k = 0; k < 20; k++) {
            send_text(fx.hub, msg.peer, "something else");
            struct net_msg other = receive(fx.peers[0]);
            is_text(&other, "something else");
        }
        is_text(&msg, texts[i]);
    }
    stop(&fx);
}

static void a_receive_ends_at_its_deadline_and_not_before(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    struct net_msg msg;
    start(&fx, *state, 1);
    struct net_end *ends[2] = {fx.hub, fx.peers[0]};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(net_recv(ends[i], 0, &msg, &err), 0);
        uint64_t deadline = mono_after(30 * MONO_MS);
        assert_int_equal(net_recv(ends[i], deadline, &msg, &err), 0);
        assert_true(mono_now() >= deadline);
        assert_true(mono_now() < deadline + 5 * MONO_S);
    }
    stop(&fx);
}

static void sending_to_a_peer_that_left_says_so_soon(void **state) {
    struct fixture fx;
    struct net_msg msg;
    start(&fx, *state, 2);
    uint32_t gone = introduce(&fx, fx.peers[0]);
    uint32_t stays = introduce(&fx, fx.peers[1]);
    net_close(fx.peers[0], 0);
    fx.peers[0] = NULL;

    uint64_t begin = mono_now();
    const struct net_frame frame = {"anybody?", 8};
    struct err err = ERR_INIT;
    int rc = 0;
    while (rc == 0 && mono_now() - begin < PATIENCE) {
        rc = net_send(fx.hub, gone, &frame, 1, mono_after(PATIENCE), &err);
        struct err ignored = ERR_INIT;
        (void)net_recv(fx.hub, mono_after(MONO_MS), &msg, &ignored);
    }
    assert_int_equal(rc, ERR_PEER_LOST);
    assert_true(mono_now() - begin < 2 * MONO_S);

    send_text(fx.hub, stays, "you are still there");
    msg = receive(fx.peers[1]);
    is_text(&msg, "you are still there");
    stop(&fx);
}

static void sending_to_a_number_nobody_has_is_a_lost_peer(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    uint32_t known = introduce(&fx, fx.peers[0]);
    const struct net_frame frame = {"?", 1};
    uint64_t begin = mono_now();
    assert_int_equal(
            net_send(fx.hub, known + 77, &frame, 1, mono_after(PATIENCE), &err), ERR_PEER_LOST);
    assert_true(mono_now() - begin < 2 * MONO_S);
    stop(&fx);
}

/* An address nobody listens on but that can be listened on later. */
static void free_address(const char *transport, char out[512]) {
    fresh_address(transport, out);
    if (strcmp(transport, "tcp") != 0) return;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n_bytes = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n_bytes), 0);
    snprintf(out, 512, "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    close(fd);
}

/* libzmq lets go of an address in the background, so the first tries may come too early. */
static struct net_end *listen_again(struct net *net, const char *address) {
    uint64_t deadline = mono_after(PATIENCE);
    for (;;) {
        struct err err = ERR_INIT;
        struct net_end *end = NULL;
        int rc = net_listen(net, address, &end, &err);
        if (rc == 0) return end;
        if (rc != ERR_IO || mono_left(deadline) == 0) must(rc, &err);
    }
}

static void dialling_before_anybody_listens_works(void **state) {
    struct fixture fx = {0};
    struct err err = ERR_INIT;
    char address[512];
    must(net_new(&fx.net, &err), &err);
    free_address(*state, address);
    must(net_dial(fx.net, address, &fx.peers[0], &err), &err);

    const struct net_frame frame = {"too early", 9};
    uint64_t deadline = mono_after(50 * MONO_MS);
    assert_int_equal(net_send(fx.peers[0], 0, &frame, 1, deadline, &err), ERR_TIMEOUT);
    assert_true(mono_now() >= deadline);

    fx.hub = listen_again(fx.net, address);
    send_text(fx.peers[0], 0, "now");
    struct net_msg msg = receive(fx.hub);
    is_text(&msg, "now");
    send_text(fx.hub, msg.peer, "yes");
    msg = receive(fx.peers[0]);
    is_text(&msg, "yes");
    stop(&fx);
}

static void a_hub_that_comes_back_is_found_again(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    struct net_msg msg;
    char address[512];
    start(&fx, *state, 1);
    introduce(&fx, fx.peers[0]);
    snprintf(address, sizeof address, "%s", net_address(fx.hub));
    net_close(fx.hub, 0);
    fx.hub = listen_again(fx.net, address);

    /* The first of these may go the way of the old connection. */
    int rc = 0;
    for (uint64_t deadline = mono_after(PATIENCE); rc == 0 && mono_left(deadline);) {
        send_text(fx.peers[0], 0, "again");
        rc = net_recv(fx.hub, mono_after(50 * MONO_MS), &msg, &err);
    }
    assert_int_equal(rc, 1);
    is_text(&msg, "again");
    stop(&fx);
}

static void a_peer_that_dials_anew_is_another_peer(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    uint32_t first = introduce(&fx, fx.peers[0]);
    net_close(fx.peers[0], 0);
    must(net_dial(fx.net, net_address(fx.hub), &fx.peers[0], &err), &err);
    uint32_t second = introduce(&fx, fx.peers[0]);
    assert_int_not_equal(second, 0);
    assert_int_not_equal(second, first);
    stop(&fx);
}

static void closing_lingers_for_what_is_under_way(void **state) {
    enum { MESSAGES = 100, BYTES = 64 << 10 };
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    uint32_t *content = calloc(1, BYTES);
    assert_non_null(content);
    for (uint32_t m = 0; m < MESSAGES; m++) {
        content[0] = m;
        struct net_frame frame = {content, BYTES};
        must(net_send(fx.peers[0], 0, &frame, 1, mono_after(PATIENCE), &err), &err);
    }
    net_close(fx.peers[0], PATIENCE);
    fx.peers[0] = NULL;
    for (uint32_t m = 0; m < MESSAGES; m++) {
        struct net_msg msg = receive(fx.hub);
        assert_int_equal(msg.frames[0].n_bytes, BYTES);
        assert_memory_equal(msg.frames[0].bytes, &m, sizeof m);
    }
    free(content);
    stop(&fx);
}

static void an_address_in_use_is_said_to_be(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    struct net_end *second = NULL;
    start(&fx, *state, 1);
    assert_int_equal(net_listen(fx.net, net_address(fx.hub), &second, &err), ERR_IO);
    assert_null(second);
    assert_non_null(strstr(err.what, "in use"));
    assert_int_not_equal(err.hint[0], 0);
    send_text(fx.peers[0], 0, "still the first");
    struct net_msg msg = receive(fx.hub);
    is_text(&msg, "still the first");
    stop(&fx);
}

static void a_hub_listens_on_a_second_address(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    char address[512];
    start(&fx, *state, 1);
    fresh_address(*state, address);
    must(net_listen_also(fx.hub, address, &err), &err);
    must(net_dial(fx.net, net_address(fx.hub), &fx.peers[1], &err), &err);
    uint32_t first = introduce(&fx, fx.peers[0]);
    uint32_t second = introduce(&fx, fx.peers[1]);
    assert_int_not_equal(first, second);
    send_text(fx.hub, second, "two");
    send_text(fx.hub, first, "one");
    struct net_msg msg = receive(fx.peers[0]);
    is_text(&msg, "one");
    msg = receive(fx.peers[1]);
    is_text(&msg, "two");
    stop(&fx);
}

/* Nothing is lost and nothing comes twice when a side does not read: the sender is told to wait. */
static void a_reader_that_does_not_read_stops_the_sender(void **state) {
    enum { BYTES = 4096, TRIES = 100000 };
    struct fixture fx;
    start(&fx, *state, 1);
    uint32_t number = introduce(&fx, fx.peers[0]);
    struct net_end *const senders[2] = {fx.peers[0], fx.hub}, *const readers[2] = {
                                                                      fx.hub, fx.peers[0]};
    uint32_t *content = calloc(1, BYTES);
    assert_non_null(content);
    for (int way = 0; way < 2; way++) {
        struct err err = ERR_INIT;
        const struct net_frame frame = {content, BYTES};
        uint32_t n_taken = 0;
        int rc = 0;
        while (n_taken < TRIES) {
            content[0] = n_taken;
            rc = net_send(senders[way], number, &frame, 1, mono_after(100 * MONO_MS), &err);
            if (rc < 0) break;
            n_taken++;
        }
        assert_int_equal(rc, ERR_TIMEOUT);
        for (uint32_t m = 0; m < n_taken; m++) {
            struct net_msg msg = receive(readers[way]);
            assert_memory_equal(msg.frames[0].bytes, &m, sizeof m);
        }
        content[0] = n_taken;
        must(net_send(senders[way], number, &frame, 1, mono_after(PATIENCE), &err), &err);
        struct net_msg msg = receive(readers[way]);
        assert_memory_equal(msg.frames[0].bytes, &n_taken, sizeof n_taken);
    }
    free(content);
    stop(&fx);
}

static void *wake_end(void *end) {
    net_wake(end);
    return NULL;
}

static void a_wake_from_another_thread_ends_a_receive(void **state) {
    struct fixture fx;
    struct net_msg msg;
    start(&fx, *state, 1);
    struct net_end *ends[2] = {fx.hub, fx.peers[0]};
    for (int i = 0; i < 40; i++) {
        struct err err = ERR_INIT;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_end, ends[i % 2]), 0);
        assert_int_equal(net_recv(ends[i % 2], mono_after(PATIENCE), &msg, &err), ERR_INTERRUPTED);
        pthread_join(thread, NULL);
    }
    struct err err = ERR_INIT;
    assert_int_equal(net_recv(fx.hub, mono_after(MONO_MS), &msg, &err), 0);
    introduce(&fx, fx.peers[0]);
    stop(&fx);
}

struct caller {
    struct net *net;
    char address[256];
    uint32_t index;
    uint32_t n_right;
};

/* A worker's life: an end of its own, and answers that have to fit its questions. */
static void *call_hub(void *arg) {
    struct caller *caller = arg;
    struct err err = ERR_INIT;
    struct net_end *end = NULL;
    if (net_dial(caller->net, caller->address, &end, &err) < 0) return NULL;
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t question[16] = {caller->index, i}, answer[16];
        const struct net_frame frames[2] = {{question, sizeof question}, {question, 8}};
        struct net_msg msg;
        if (net_send(end, 0, frames, 2, mono_after(PATIENCE), &err) < 0) break;
        if (net_recv(end, mono_after(PATIENCE), &msg, &err) != 1) break;
        if (msg.n_frames != 1 || msg.frames[0].n_bytes != sizeof answer) break;
        memcpy(answer, msg.frames[0].bytes, sizeof answer);
        if (answer[0] == caller->index && answer[1] == i + 1) caller->n_right++;
    }
    net_close(end, MONO_S);
    return NULL;
}

static void ends_of_several_threads_talk_at_the_same_time(void **state) {
    enum { THREADS = 4 };
    struct fixture fx;
    struct caller callers[THREADS];
    pthread_t threads[THREADS];
    start(&fx, *state, 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.net = fx.net, .index = i};
        snprintf(callers[i].address, sizeof callers[i].address, "%s", net_address(fx.hub));
        assert_int_equal(pthread_create(&threads[i], NULL, call_hub, &callers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS * 200; i++) {
        struct net_msg msg = receive(fx.hub);
        uint32_t content[16];
        assert_int_equal(msg.n_frames, 2);
        assert_int_equal(msg.frames[0].n_bytes, sizeof content);
        memcpy(content, msg.frames[0].bytes, sizeof content);
        content[1]++;
        struct err err = ERR_INIT;
        const struct net_frame frame = {content, sizeof content};
        must(net_send(fx.hub, msg.peer, &frame, 1, mono_after(PATIENCE), &err), &err);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].n_right, 200);
    }
    stop(&fx);
}

static void a_message_over_the_limit_is_refused(void **state) {
    struct fixture fx;
    struct err err = ERR_INIT;
    start(&fx, *state, 1);
    const struct net_frame frames[2] = {{"x", (size_t)NET_MSG_BYTES_MAX}, {"x", 1}};
    assert_int_equal(net_send(fx.peers[0], 0, frames, 2, mono_after(PATIENCE), &err), ERR_LIMIT);
    introduce(&fx, fx.peers[0]);
    stop(&fx);
}

#define TEST(f)                                                                                    \
    { #f, f, NULL, NULL, NULL }

static const struct CMUnitTest suite[] = {
        TEST(a_message_goes_to_the_hub_and_an_answer_comes_back),
        TEST(each_of_many_peers_gets_its_own_answer),
        TEST(messages_of_a_peer_stay_in_order),
        TEST(eight_frames_and_empty_ones_arrive_as_they_were),
        TEST(frames_of_16_mib_arrive_whole),
        TEST(frames_stay_valid_until_the_next_receive),
        TEST(a_receive_ends_at_its_deadline_and_not_before),
        TEST(sending_to_a_peer_that_left_says_so_soon),
        TEST(sending_to_a_number_nobody_has_is_a_lost_peer),
        TEST(dialling_before_anybody_listens_works),
        TEST(a_hub_that_comes_back_is_found_again),
        TEST(a_peer_that_dials_anew_is_another_peer),
        TEST(closing_lingers_for_what_is_under_way),
        TEST(an_address_in_use_is_said_to_be),
        TEST(a_hub_listens_on_a_second_address),
        TEST(a_reader_that_does_not_read_stops_the_sender),
        TEST(a_wake_from_another_thread_ends_a_receive),
        TEST(ends_of_several_threads_talk_at_the_same_time),
        TEST(a_message_over_the_limit_is_refused),
};

int main(void) {
    static const char *const transports[] = {"inproc", "ipc", "tcp"};
    enum { N = sizeof suite / sizeof suite[0] };
    int n_failed = 0;
    if (!tmpdir_new(&tmpdir)) return 1;
    for (int t = 0; t < 3; t++) {
        struct CMUnitTest tests[N];
        char names[N][128];
        for (int i = 0; i < N; i++) {
            tests[i] = suite[i];
            snprintf(names[i], sizeof names[i], "%s: %s", transports[t], suite[i].name);
            tests[i].name = names[i];
            tests[i].initial_state = (void *)(uintptr_t)transports[t];
        }
        n_failed += cmocka_run_group_tests_name(transports[t], tests, NULL, NULL);
    }
    tmpdir_remove(&tmpdir);
    return n_failed != 0;
}
