/* host_parent_portable.c - parent death by asking, on systems without a signal for it.
 * Owns: nothing. Does not: end the process. Runs on: any thread. */
#include "worker/host/host_parent.h"

#include <unistd.h>

void host_parent_watch(void) {
}

bool host_parent_gone(long pid) {
    return (long)getppid() != pid;
}
