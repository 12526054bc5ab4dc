/* pool.c - the compute pool.
 * Owns: its threads and the loop that is running. Does not: bind threads to cores or know what they
 * compute. Runs on: pool_run on the owner's thread, pieces on all.
 *
 * A loop is published under the mutex with a new generation number; sleepers wake by the condition
 * variable. Pieces are claimed from an atomic counter whose upper half is the generation, so a
 * thread that wakes late can never take a piece of a later loop with the old arguments. */
#include "proto/base/pool.h"

#include "proto/base/checked.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define POOL_THREADS_MAX 1024

/* Rounds of looking for more work before sleeping: about 5 us, the cost of a wake-up. More would
 * only take the core from whoever else is at home. */
#define POOL_LOOKS 200

struct pool_loop {
    pool_fn *fn;
    void *arg;
    uint32_t n_tasks;
    uint32_t generation;
};

struct pool_thread {
    struct pool *pool;
    pthread_t thread;
    uint32_t index;
};

struct pool { /* owner: the thread that calls pool_run; fields below the mutex are shared */
    uint32_t n_threads;
    uint32_t n_started;
    struct pool_thread *threads;

    pthread_mutex_t mutex;
    pthread_cond_t wake;   /* a new loop, or stop */
    pthread_cond_t done;   /* the last piece of a loop is finished */
    struct pool_loop loop; /* under the mutex */
    bool stop;             /* under the mutex */
    uint32_t n_sleeping;   /* under the mutex */

    atomic_uint generation; /* of the newest loop; release by pool_run, acquire by lookers */
    atomic_ullong next;     /* generation << 32 | next unclaimed piece */
    atomic_uint n_left;     /* pieces not finished; release by the finisher, acquire by pool_run */
};

/* Claims and runs pieces of one loop until none is left. */
static void work(struct pool *pool, const struct pool_loop *loop, uint32_t thread) {
    for (;;) {
        unsigned long long claim = atomic_load_explicit(&pool->next, memory_order_relaxed);
        do {
            if ((uint32_t)(claim >> 32) != loop->generation || (uint32_t)claim >= loop->n_tasks)
                return;
        } while (!atomic_compare_exchange_weak_explicit(
                &pool->next, &claim, claim + 1, memory_order_acq_rel, memory_order_relaxed));

        loop->fn(loop->arg, (uint32_t)claim, thread);
        /* Only thread 0 waits for the end of a loop, so that it need not tell itself. */
        if (atomic_fetch_sub_explicit(&pool->n_left, 1, memory_order_acq_rel) == 1 && thread != 0) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static void *thread_main(void *arg) {
    struct pool_thread *self = arg;
    struct pool *pool = self->pool;
    uint32_t seen = 0;

    for (;;) {
        for (int i = 0; i < POOL_LOOKS; i++) {
            if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) break;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        pthread_mutex_lock(&pool->mutex);
        while (pool->loop.generation == seen && !pool->stop) {
            pool->n_sleeping++;
            pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->n_sleeping--;
        }
        bool stop = pool->stop;
        struct pool_loop loop = pool->loop;
        pthread_mutex_unlock(&pool->mutex);
        if (stop) return NULL;

        seen = loop.generation;
        work(pool, &loop, self->index);
    }
}

/* Starts a thread that takes no signals: they are for the threads that wait for something. Those
 * that a fault of its own raises stay, since blocking them would only hide the handler. */
static bool start_thread(struct pool *pool, uint32_t index) {
    struct pool_thread *t = &pool->threads[index];
    t->pool = pool;
    t->index = index;

    sigset_t blocked, before;
    sigfillset(&blocked);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int rc = pthread_create(&t->thread, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

int pool_new(uint32_t n_threads, struct pool **out_pool, struct err *err) {
    if (n_threads == 0 || n_threads > POOL_THREADS_MAX)
        return err_set(err, ERR_LIMIT, "%u compute threads; 1 to %d are possible", n_threads,
                POOL_THREADS_MAX);

    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return err_set(err, ERR_NO_MEMORY, "no memory for a thread pool");
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->threads = calloc(n_threads, sizeof *pool->threads);
    int rc = pool->threads ? 0 : err_set(err, ERR_NO_MEMORY, "no memory for a thread pool");

    for (uint32_t i = 1; rc == 0 && i < n_threads; i++) {
        if (!start_thread(pool, i))
            rc = err_set(err, ERR_NO_MEMORY, "cannot start compute thread %u of %u", i, n_threads);
        else
            pool->n_started++;
    }
    if (rc < 0) {
        pool_free(pool);
        return rc;
    }
    *out_pool = pool;
    return 0;
}

void pool_free(struct pool *pool) {
    if (!pool) return;

    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->threads[i].thread, NULL);

    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->threads);
    free(pool);
}

uint32_t pool_n_threads(const struct pool *pool) {
    return pool->n_threads;
}

void pool_run(struct pool *pool, uint32_t n_tasks, pool_fn *fn, void *arg) {
    if (pool->n_threads == 1 || n_tasks <= 1) {
        for (uint32_t task = 0; task < n_tasks; task++)
            fn(arg, task, 0);
        return;
    }

    pthread_mutex_lock(&pool->mutex);
    struct pool_loop loop = {fn, arg, n_tasks, pool->loop.generation + 1};
    pool->loop = loop;
    atomic_store_explicit(&pool->n_left, n_tasks, memory_order_relaxed);
    atomic_store_explicit(
            &pool->next, (unsigned long long)loop.generation << 32, memory_order_release);
    atomic_store_explicit(&pool->generation, loop.generation, memory_order_release);
    bool wake = pool->n_sleeping != 0;
    pthread_mutex_unlock(&pool->mutex);
    /* After unlocking, so that those who wake need not wait for the mutex once more. A thread that
     * goes to sleep in between has seen this loop before. */
    if (wake) pthread_cond_broadcast(&pool->wake);

    work(pool, &loop, 0);

    for (int i = 0; i < POOL_LOOKS; i++) {
        if (atomic_load_explicit(&pool->n_left, memory_order_acquire) == 0) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->n_left, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
