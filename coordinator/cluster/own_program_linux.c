/* own_program_linux.c - the program's file by /proc. Owns: nothing. Runs on: any thread. */
#include "coordinator/cluster/own_program.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int own_program(char *out_path, size_t n_path, struct err *err) {
    ssize_t n = readlink("/proc/self/exe", out_path, n_path - 1);
    if (n <= 0 || (size_t)n >= n_path - 1)
        return err_set(err, ERR_IO, "cannot find the program's own file: %s", strerror(errno));
    out_path[n] = 0;
    return 0;
}
