/* main.c - the potluck program: finds the sub-command and hands over. */
#include "coordinator/cli/cmd.h"
#include "worker/host/join.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
        {"run", cmd_run, "one answer on this machine, plus any workers"},
        {"join", join_main, "make this machine a worker of a coordinator"},
        {"eval", cmd_eval, "perplexity and logits of a text"},
        {"bench", cmd_bench, "speed tables"},
        {"inspect", cmd_inspect, "what is in a model file"},
        {"tokenize", cmd_tokenize, "text to token ids and back"},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *to) {
    fputs("potluck - mixture-of-experts models on the machines a household already owns\n\n"
          "usage: potluck COMMAND [OPTIONS]     (potluck COMMAND --help tells more)\n\n",
            to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nexamples:\n"
          "  potluck run model.gguf -p \"What is a bridge?\"\n"
          "  potluck run model.gguf -p \"Hello\" --local-workers 3\n"
          "  potluck run model.gguf --listen 0.0.0.0:7777 --wait-workers 2 -p \"Hello\"\n"
          "  potluck join 192.168.1.10:7777\n",
            to);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away shows as a write error */

    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
            strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("potluck " POTLUCK_VERSION);
        return 0;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);

    fprintf(stderr, "potluck: there is no command '%s'\n\n", argv[1]);
    print_help(stderr);
    return 2;
}
