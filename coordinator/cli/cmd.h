/* cmd.h - the sub-commands of potluck. Each gets the command line from its own name on, prints its
 * own errors and returns the exit code: 0 fine, 1 failed, 2 wrong usage. */
#pragma once

int cmd_run(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
