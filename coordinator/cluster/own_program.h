/* own_program.h - where the file of this very program is, for starting it again as a worker.
 * One file for each kind of system: own_program_linux.c, own_program_portable.c. */
#pragma once

#include "proto/base/err.h"

#include <stddef.h>

/* Writes the terminated path. ERR_IO when the system does not say. Any thread. */
int own_program(char *out_path, size_t n_path, struct err *err);
