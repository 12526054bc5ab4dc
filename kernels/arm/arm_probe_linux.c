/* arm_probe_linux.c - the features that the kernel reports to programs.
 * Owns: nothing. Does not: choose kernels. Runs on: any thread. */
#include "kernels/arm/arm_probe.h"

#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned arm_probe(void) {
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? ARM_DOT : 0;
}
