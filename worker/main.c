/* main.c - potluck-worker: the lean program for the other machines of the house.
 * Owns: nothing. Does not: know models, HTTP or placements. Runs on: the main thread. */
#include "worker/host/join.h"

int main(int argc, char **argv) {
    return join_main(argc, argv);
}
