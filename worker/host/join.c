/* join.c - options, signals and exit codes of a worker.
 * Owns: the wish to stop that a signal leaves. Does not: work (host.c). Runs on: the main thread. */
#include "worker/host/join.h"

#include "proto/base/buf.h"
#include "proto/base/log.h"
#include "proto/base/opt.h"
#include "proto/wire/wire.h"
#include "worker/host/host.h"
#include "worker/host/host_parent.h"

#include <signal.h>
#include <string.h>

#define DEFAULT_PORT 7777
#define CONFIG_BYTES_MAX (1u << 20)
#define THREADS_MAX 1024

/* Set by a signal, read by the host: the only thing a handler may touch. */
static atomic_bool stop_asked;

static void ask_to_stop(int signal_number) {
    (void)signal_number;
    atomic_store_explicit(&stop_asked, true, memory_order_relaxed);
}

struct join_options {
    struct host_options host;
    const char *vram, *file_tier, *cache, *pair; /* later work; only recognised */
    const char *config;
    uint64_t parent;
    bool verbose;
    bool help;
    bool version;
    struct opt_words words;
};

static void print_help(const char *argv0, const struct opt *const *tables) {
    const char *program = strcmp(argv0, "join") == 0 ? "potluck join" : "potluck-worker";
    printf("usage: %s HOST[:PORT] [OPTIONS]\n\n"
           "Makes this machine a worker: it dials the coordinator (port %d unless given),\n"
           "takes experts into its memory and computes with them. It keeps looking for the\n"
           "coordinator when that is gone; Ctrl-C or SIGTERM finishes what is under way and\n"
           "leaves.\n",
            program, DEFAULT_PORT);
    opt_print(tables, stdout);
    printf("\nexamples:\n"
           "  %s 192.168.1.10:7777\n"
           "  %s 192.168.1.10 --name attic --ram 48G --threads 8\n"
           "  %s ipc:///run/potluck/hub --once\n",
            program, program, program);
}

/* Parses the command line, and before it the INI file that it names: flags win. */
static int parse(
        struct join_options *o, int argc, char **argv, struct buf *config, struct err *err) {
    const struct opt table[] = {
            {NULL, 0, OPT_HEADING, NULL, NULL, "options:"},
            {"name", 0, OPT_STR, &o->host.name, "NAME",
                    "in lists (default: host name and process)"},
            {"ram", 0, OPT_SIZE, &o->host.ram_bytes, "SIZE",
                    "room for experts (default: what is free, less a tenth)"},
            {"threads", 't', OPT_U32, &o->host.n_threads, "N",
                    "compute threads (default: physical cores)"},
            {"isa", 0, OPT_STR, &o->host.isa, "NAME",
                    "pin the kernels: auto, scalar, avx2, avx512, ..."},
            {"once", 0, OPT_FLAG, &o->host.once, NULL, "end when the coordinator goes"},
            {"config", 0, OPT_STR, &o->config, "FILE", "options from an INI file; flags win"},
            {"parent", 0, OPT_U64, &o->parent, "PID",
                    "end with this parent process (local workers)"},
            {"verbose", 'v', OPT_FLAG, &o->verbose, NULL, "log more"},
            {"quiet", 'q', OPT_FLAG, &o->host.quiet, NULL, "say nothing but errors"},
            {"help", 'h', OPT_FLAG, &o->help, NULL, "this text"},
            {"version", 0, OPT_FLAG, &o->version, NULL, "the version"},
            {NULL, 0, OPT_HEADING, NULL, NULL, "not supported yet:"},
            {"vram", 0, OPT_STR, &o->vram, "SIZE", "room for experts on a GPU"},
            {"file-tier", 0, OPT_STR, &o->file_tier, "DIR:SIZE", "room for experts on a fast disk"},
            {"cache", 0, OPT_STR, &o->cache, "DIR", "keep received experts on disk"},
            {"pair", 0, OPT_STR, &o->pair, "CODE", "pairing code of the coordinator"},
            OPT_END,
    };
    const struct opt *const tables[] = {table, NULL};
    int rc = opt_parse(tables, argc, argv, &o->words, err);
    if (rc == 0 && o->help) print_help(argv[0], tables);
    if (rc < 0 || o->help || !o->config) return rc;

    rc = buf_read_file(config, o->config, CONFIG_BYTES_MAX, err);
    if (rc == 0 && config->n_bytes) rc = opt_parse_ini(tables, config->bytes, o->config, err);
    if (rc == 0) rc = opt_parse(tables, argc, argv, &o->words, err);
    return rc;
}

static int check_later(const struct join_options *o, struct err *err) {
    const struct {
        const char *name, *value, *hint;
    } later[] = {
            {"vram", o->vram, "leave it out: experts are computed on the CPU"},
            {"file-tier", o->file_tier, "leave it out: experts are held in memory (--ram)"},
            {"cache", o->cache, "leave it out: experts are sent anew each time"},
            {"pair", o->pair, "leave it out: for now, connect only over networks you trust"},
    };
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (!later[i].value) continue;
        err_set(err, ERR_USAGE, "--%s is not supported yet", later[i].name);
        return err_hint(err, "%s", later[i].hint);
    }
    return 0;
}

static int check_name(const char *name, struct err *err) {
    if (!name) return 0;
    size_t n = strlen(name);
    bool printable = true;
    for (size_t i = 0; i < n; i++)
        printable = printable && (unsigned char)name[i] >= ' ' && name[i] != 0x7f;
    if (n >= 1 && n <= WIRE_NAME_MAX && printable) return 0;
    return err_set(err, ERR_USAGE, "--name takes 1 to %d printable characters", WIRE_NAME_MAX);
}

/* Checks what the tables cannot, and turns the address into what net_dial takes. */
static int check(struct join_options *o, char *address, size_t n_address, struct err *err) {
    int rc = check_later(o, err);
    if (rc == 0) rc = check_name(o->host.name, err);
    if (rc < 0) return rc;
    if (o->host.n_threads > THREADS_MAX)
        return err_set(err, ERR_USAGE, "--threads %u; up to %d are possible", o->host.n_threads,
                THREADS_MAX);
    if (o->parent > INT32_MAX) return err_set(err, ERR_USAGE, "--parent takes a process id");
    if (o->words.n == 0) {
        err_set(err, ERR_USAGE,
                "no coordinator given; looking for one on the local network is not "
                "supported yet");
        return err_hint(err, "give its address: HOST:PORT, as `potluck run --listen` prints it");
    }
    if (o->words.n > 1)
        return err_set(err, ERR_USAGE, "one address only, not also '%s'", o->words.words[1]);

    o->host.address = address;
    o->host.parent_pid = (long)o->parent;
    return net_parse_address(o->words.words[0], DEFAULT_PORT, address, n_address, err);
}

static void take_signals(void) {
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL); /* a second one ends the process at once */
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(struct join_options *o, struct err *err) {
    char address[512];
    int rc = check(o, address, sizeof address, err);
    if (rc < 0) return rc;

    log_set_level(o->host.quiet ? LOG_LEVEL_ERR : o->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
    take_signals();
    if (o->parent) host_parent_watch();
    o->host.stop = &stop_asked;

    struct net *net = NULL;
    rc = net_new(&net, err);
    if (rc < 0) return rc;
    rc = host_run(net, &o->host, err);
    net_free(net);
    return rc;
}

int join_main(int argc, char **argv) {
    struct join_options options = {0};
    struct buf config = {0};
    struct err err = ERR_INIT;
    int rc = parse(&options, argc, argv, &config, &err);
    if (rc == 0 && options.version) puts("potluck " POTLUCK_VERSION);
    if (rc == 0 && !options.help && !options.version) rc = run(&options, &err);
    buf_fini(&config);
    if (rc == 0) return 0;

    err_print(&err, strcmp(argv[0], "join") == 0 ? "potluck join" : "potluck-worker", stderr);
    return rc == ERR_USAGE ? 2 : 1;
}
