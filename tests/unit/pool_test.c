/* pool_test.c - the thread pool: every piece once, nothing lost, nothing seen too late.
 * Also run under the thread sanitizer (preset tsan). */
#include "proto/base/pool.h"

#include "proto/base/checked.h"
#include "proto/base/mono.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TASKS_MAX 300
#define THREADS_MAX 4

/* What the pieces read and write: plain memory, so that a missing barrier is a race. */
struct work {
    uint32_t loop;                 /* read by every piece */
    uint32_t n_runs[TASKS_MAX];    /* of each piece */
    uint32_t last_loop[TASKS_MAX]; /* the loop that each piece saw */
    uint32_t n_on_thread[THREADS_MAX];
    uint32_t n_threads;
};

static void piece(void *arg, uint32_t task, uint32_t thread) {
    struct work *work = arg;
    ASSERT(task < TASKS_MAX);
    ASSERT(thread < work->n_threads);
    work->n_runs[task]++;
    work->last_loop[task] = work->loop;
    work->n_on_thread[thread]++; /* per-thread scratch: no two pieces at once */
}

static void check_loops(uint32_t n_threads, uint32_t n_loops, bool pause) {
    struct pool *pool = NULL;
    struct work *work = calloc(1, sizeof *work);
    assert_non_null(work);
    work->n_threads = n_threads;
    assert_int_equal(pool_new(n_threads, &pool, NULL), 0);
    assert_int_equal(pool_n_threads(pool), n_threads);
    uint64_t n_want = 0;
    for (uint32_t loop = 1; loop <= n_loops; loop++) {
        uint32_t n_tasks = loop * 7 % TASKS_MAX; /* 0 and 1 among them */
        work->loop = loop;
        memset(work->n_runs, 0, sizeof work->n_runs);
        pool_run(pool, n_tasks, piece, work);
        for (uint32_t task = 0; task < TASKS_MAX; task++)
            if (work->n_runs[task] != (task < n_tasks) ||
                    (task < n_tasks && work->last_loop[task] != loop))
                fail_msg("%u threads, loop %u, piece %u: ran %u times, saw loop %u", n_threads,
                        loop, task, work->n_runs[task], work->last_loop[task]);
        n_want += n_tasks;
        if (pause && loop % 16 == 0) usleep(100); /* let the others fall asleep now and then */
    }
    uint64_t n_have = 0;
    for (uint32_t t = 0; t < THREADS_MAX; t++)
        n_have += work->n_on_thread[t];
    assert_true(n_have == n_want);
    pool_free(pool);
    free(work);
}

static void every_piece_runs_once_with_any_number_of_threads(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= THREADS_MAX; n++)
        check_loops(n, 2000, false);
}

static void sleepers_wake_for_the_next_loop(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= THREADS_MAX; n++)
        check_loops(n, 800, true);
}

/* Each loop reads what the one before wrote in other pieces, maybe on other threads. */
struct chain {
    uint64_t a[64], b[64];
};

static void step_forward(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    struct chain *c = arg;
    c->b[task] = c->a[(task + 1) % 64] + c->a[(task + 17) % 64];
}

static void step_back(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    struct chain *c = arg;
    c->a[task] = c->b[63 - task] * 3 + task;
}

static void results_of_one_loop_are_seen_by_the_next(void **state) {
    (void)state;
    struct chain want, have;
    for (uint32_t i = 0; i < 64; i++)
        want.a[i] = i;
    have = want;
    struct pool *pool = NULL;
    assert_int_equal(pool_new(3, &pool, NULL), 0);
    for (int loop = 0; loop < 1000; loop++) {
        for (uint32_t t = 0; t < 64; t++)
            step_forward(&want, t, 0);
        for (uint32_t t = 0; t < 64; t++)
            step_back(&want, t, 0);
        pool_run(pool, 64, step_forward, &have);
        pool_run(pool, 64, step_back, &have);
        assert_memory_equal(want.a, have.a, sizeof want.a);
    }
    pool_free(pool);
}

/* A piece that waits until another piece has begun: two threads must really take part. */
static void meet(void *arg, uint32_t task, uint32_t thread) {
    (void)task;
    (void)thread;
    atomic_uint *n_here = arg;
    atomic_fetch_add(n_here, 1);
    uint64_t deadline = mono_after(20 * MONO_S);
    while (atomic_load(n_here) < 2 && mono_left(deadline) > 0)
        usleep(10);
}

static void two_pieces_run_at_the_same_time(void **state) {
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(pool_new(2, &pool, NULL), 0);
    for (int i = 0; i < 50; i++) {
        atomic_uint n_here = 0;
        uint64_t from = mono_now();
        pool_run(pool, 2, meet, &n_here);
        assert_int_equal(atomic_load(&n_here), 2);
        assert_true(mono_now() - from < 10 * MONO_S);
    }
    pool_free(pool);
}

static void slow_piece(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    if (task == 1) usleep(2000);
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void the_caller_waits_for_the_slowest_piece(void **state) {
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(pool_new(4, &pool, NULL), 0);
    for (int i = 0; i < 20; i++) {
        atomic_uint n_done = 0;
        pool_run(pool, 4, slow_piece, &n_done);
        assert_int_equal(atomic_load(&n_done), 4);
    }
    pool_free(pool);
}

static void pools_come_and_go(void **state) {
    (void)state;
    pool_free(NULL);
    for (int i = 0; i < 100; i++) {
        struct pool *pool = NULL;
        atomic_uint n_done = 0;
        assert_int_equal(pool_new(1 + (uint32_t)i % THREADS_MAX, &pool, NULL), 0);
        if (i % 2) pool_run(pool, 8, slow_piece, &n_done);
        pool_free(pool); /* at once, while threads start, work or fall asleep */
        assert_int_equal(atomic_load(&n_done), i % 2 ? 8 : 0);
    }
}

static void no_threads_or_too_many_are_refused(void **state) {
    (void)state;
    struct pool *pool = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(pool_new(0, &pool, &err), ERR_LIMIT);
    assert_int_equal(pool_new(UINT32_MAX, &pool, NULL), ERR_LIMIT);
    assert_null(pool);
}

static void read_mask(void *arg, uint32_t task, uint32_t thread) {
    (void)task;
    atomic_int *blocked = arg;
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (thread != 0)
        atomic_store(blocked, sigismember(&mask, SIGINT) && !sigismember(&mask, SIGSEGV) ? 1 : -1);
    usleep(100);
}

static void signals_go_to_other_threads(void **state) {
    (void)state;
    struct pool *pool = NULL;
    atomic_int blocked = 0;
    assert_int_equal(pool_new(2, &pool, NULL), 0);
    uint64_t deadline = mono_after(20 * MONO_S);
    while (atomic_load(&blocked) == 0 && mono_left(deadline) > 0)
        pool_run(pool, 8, read_mask, &blocked);
    assert_int_equal(atomic_load(&blocked), 1);
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    assert_false(sigismember(&mask, SIGINT)); /* ours is as before */
    pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_piece_runs_once_with_any_number_of_threads),
            cmocka_unit_test(sleepers_wake_for_the_next_loop),
            cmocka_unit_test(results_of_one_loop_are_seen_by_the_next),
            cmocka_unit_test(two_pieces_run_at_the_same_time),
            cmocka_unit_test(the_caller_waits_for_the_slowest_piece),
            cmocka_unit_test(pools_come_and_go),
            cmocka_unit_test(no_threads_or_too_many_are_refused),
            cmocka_unit_test(signals_go_to_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
