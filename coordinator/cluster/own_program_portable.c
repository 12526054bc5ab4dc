/* own_program_portable.c - the program's file where there is no /proc: macOS tells, elsewhere only
 * --transport inproc has local workers. Owns: nothing. Runs on: any thread. */
#include "coordinator/cluster/own_program.h"

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

int own_program(char *out_path, size_t n_path, struct err *err) {
#if defined(__APPLE__)
    uint32_t n = (uint32_t)n_path;
    if (_NSGetExecutablePath(out_path, &n) == 0) return 0;
#else
    (void)out_path;
    (void)n_path;
#endif
    int rc = err_set(err, ERR_IO, "cannot find the program's own file on this system");
    err_hint(err, "use --transport inproc, which runs local workers as threads");
    return rc;
}
