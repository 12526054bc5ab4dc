/* local_workers.c - starting and ending workers on this machine.
 * Owns: the child processes or threads. Does not: speak to them (that is the hub's business).
 * Runs on: the main thread. */
#include "coordinator/cluster/local_workers.h"

#include "proto/base/mono.h"
#include "proto/base/opt.h"
#include "worker/host/host.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX 64
/* Local workers hold nothing that would be lost; those that do not leave in this time are ended. */
#define STOP_NS (250 * MONO_MS)

extern char **environ;

struct local_worker {
    char name[32];
    pid_t pid; /* 0: not running */
    int status;
    pthread_t thread;
    bool thread_started;
    atomic_bool thread_ended;
    struct local_workers *all;
    struct host_options host;
    struct err err;
};

struct local_workers { /* owner: the main thread */
    struct local_workers_options options;
    uint32_t n;
    struct local_worker workers[LOCAL_WORKERS_MAX];
    atomic_bool stop; /* read by the worker threads; relaxed is enough, they only leave */
    char *args;       /* the words of options.args */
    const char *words[ARGS_MAX];
    uint32_t n_words;
};

static int split_args(struct local_workers *workers, struct err *err) {
    if (!workers->options.args) return 0;
    workers->args = strdup(workers->options.args);
    if (!workers->args) return err_set(err, ERR_NO_MEMORY, "no memory for --local-worker-args");
    char *save = NULL;
    for (char *word = strtok_r(workers->args, " \t", &save); word;
            word = strtok_r(NULL, " \t", &save)) {
        if (workers->n_words == ARGS_MAX - 16)
            return err_set(err, ERR_USAGE, "--local-worker-args has too many words");
        workers->words[workers->n_words++] = word;
    }
    return 0;
}

/* -------------------------------------------------------------- processes -- */

static int start_process(
        struct local_workers *workers, struct local_worker *worker, struct err *err) {
    char ram[32], parent[32], threads[16];
    snprintf(ram, sizeof ram, "%" PRIu64, workers->options.ram_bytes);
    snprintf(threads, sizeof threads, "%u", workers->options.n_threads);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    const char *argv[ARGS_MAX] = {workers->options.program, "join", workers->options.address, "--name",
            worker->name, "--ram", ram, "--threads", threads, "--parent", parent, "--once", "-q"};
    uint32_t n = 13;
    for (uint32_t i = 0; i < workers->n_words; i++)
        argv[n++] = workers->words[i];
    argv[n] = NULL;

    /* A process group of its own: Ctrl-C at the terminal is for the coordinator, which then tells its
     * workers to leave when it no longer needs them. */
    posix_spawnattr_t attr;
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attr, 0);
    int rc = posix_spawn(
            &worker->pid, workers->options.program, NULL, &attr, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attr);
    if (rc == 0) return 0;
    worker->pid = 0;
    return err_set(err, ERR_IO, "cannot start local worker %s (%s): %s", worker->name,
            workers->options.program, strerror(rc));
}

/* True when the process has ended (now or before). */
static bool has_ended(struct local_worker *worker) {
    if (worker->pid == 0) return true;
    if (waitpid(worker->pid, &worker->status, WNOHANG) != worker->pid) return false;
    worker->pid = 0;
    return true;
}

/* ---------------------------------------------------------------- threads -- */

static void *thread_main(void *arg) {
    struct local_worker *worker = arg;
    (void)host_run(worker->all->options.net, &worker->host, &worker->err); /* reported by check */
    atomic_store(&worker->thread_ended, true);
    return NULL;
}

static int start_thread(
        struct local_workers *workers, struct local_worker *worker, struct err *err) {
    worker->all = workers;
    worker->host = (struct host_options){.address = workers->options.address,
            .name = worker->name,
            .ram_bytes = workers->options.ram_bytes,
            .n_threads = workers->options.n_threads,
            .once = true,
            .quiet = true,
            .stop = &workers->stop};
    const struct opt table[] = {
            {"threads", 't', OPT_U32, &worker->host.n_threads, "N", ""},
            {"isa", 0, OPT_STR, &worker->host.isa, "NAME", ""},
            {"ram", 0, OPT_SIZE, &worker->host.ram_bytes, "SIZE", ""},
            OPT_END,
    };
    const struct opt *const tables[] = {table, NULL};
    const char *argv[ARGS_MAX] = {"worker"};
    for (uint32_t i = 0; i < workers->n_words; i++)
        argv[i + 1] = workers->words[i];
    struct opt_words words;
    int rc = opt_parse(tables, (int)workers->n_words + 1, (char **)argv, &words, err);
    if (rc < 0) {
        err_note(err, "--local-worker-args");
        return rc;
    }
    if (pthread_create(&worker->thread, NULL, thread_main, worker) != 0)
        return err_set(err, ERR_IO, "cannot start the thread of local worker %s", worker->name);
    worker->thread_started = true;
    return 0;
}

/* ------------------------------------------------------------------- both -- */

int local_workers_start(const struct local_workers_options *options,
        struct local_workers **out_workers, struct err *err) {
    if (options->n > LOCAL_WORKERS_MAX)
        return err_set(err, ERR_USAGE, "--local-workers %u; up to %d are possible", options->n,
                LOCAL_WORKERS_MAX);
    struct local_workers *workers = calloc(1, sizeof *workers);
    if (!workers) return err_set(err, ERR_NO_MEMORY, "no memory for local workers");
    workers->options = *options;

    int rc = split_args(workers, err);
    for (uint32_t i = 0; rc == 0 && i < options->n; i++) {
        struct local_worker *worker = &workers->workers[i];
        snprintf(worker->name, sizeof worker->name, "w%u", i + 1);
        workers->n = i + 1;
        rc = options->net ? start_thread(workers, worker, err)
                          : start_process(workers, worker, err);
    }
    if (rc < 0) {
        local_workers_stop(workers);
        return rc;
    }
    *out_workers = workers;
    return 0;
}

int local_workers_check(struct local_workers *workers, struct err *err) {
    for (uint32_t i = 0; i < workers->n; i++) {
        struct local_worker *worker = &workers->workers[i];
        if (workers->options.net) {
            if (atomic_load(&worker->thread_ended))
                return err_set(err, ERR_PEER_LOST, "local worker %s has ended: %s", worker->name,
                        worker->err.code ? worker->err.what : "without an error");
            continue;
        }
        if (!has_ended(worker)) continue;
        if (WIFSIGNALED(worker->status))
            return err_set(err, ERR_PEER_LOST, "local worker %s was ended by signal %d",
                    worker->name, WTERMSIG(worker->status));
        return err_set(err, ERR_PEER_LOST, "local worker %s has ended with exit code %d",
                worker->name, WEXITSTATUS(worker->status));
    }
    return 0;
}

/* A short pause between looks at children: waitpid has no deadline of its own. */
static void pause_ms(long ms) {
    struct timespec ts = {.tv_nsec = ms * 1000000};
    nanosleep(&ts, NULL);
}

void local_workers_stop(struct local_workers *workers) {
    if (!workers) return;

    atomic_store(&workers->stop, true);
    uint32_t n_left = 0;
    for (uint32_t i = 0; i < workers->n; i++) {
        struct local_worker *worker = &workers->workers[i];
        if (worker->thread_started) pthread_join(worker->thread, NULL);
        if (worker->pid && !has_ended(worker)) {
            kill(worker->pid, SIGTERM);
            kill(worker->pid, SIGCONT); /* a stopped process would not hear the first */
            n_left++;
        }
    }
    for (uint64_t deadline = mono_after(STOP_NS); n_left && mono_now() < deadline; pause_ms(5)) {
        n_left = 0;
        for (uint32_t i = 0; i < workers->n; i++)
            n_left += !has_ended(&workers->workers[i]);
    }
    for (uint32_t i = 0; i < workers->n; i++) {
        struct local_worker *worker = &workers->workers[i];
        if (has_ended(worker)) continue;
        kill(worker->pid, SIGKILL);
        waitpid(worker->pid, &worker->status, 0);
    }
    free(workers->args);
    free(workers);
}
