/* join.h - the command line of a worker: the program potluck-worker, and `potluck join`. */
#pragma once

/* Parses options, runs the worker on this thread until it leaves, prints what went wrong. argv[0] is
 * "join" or the program's own name. Returns the exit code: 0 fine, 1 failed, 2 wrong usage. Main
 * thread, once: it takes over SIGINT and SIGTERM. */
int join_main(int argc, char **argv);
