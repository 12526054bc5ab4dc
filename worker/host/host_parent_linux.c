/* host_parent_linux.c - parent death by signal, and by asking. Owns: nothing. Does not: end the
 * process. Runs on: any thread. */
#include "worker/host/host_parent.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

void host_parent_watch(void) {
    (void)prctl(
            PR_SET_PDEATHSIG, SIGTERM); /* without it host_parent_gone() notices, a little later */
}

bool host_parent_gone(long pid) {
    return (long)getppid() != pid;
}
