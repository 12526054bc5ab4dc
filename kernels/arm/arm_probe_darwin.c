/* arm_probe_darwin.c - the features that macOS reports. A name that a version of it does not know reads
 * as a feature that is not there.
 * Owns: nothing. Does not: choose kernels. Runs on: any thread. */
#include "kernels/arm/arm_probe.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <sys/sysctl.h>

static bool has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value != 0;
}

unsigned arm_probe(void) {
    return has("hw.optional.arm.FEAT_DotProd") ? ARM_DOT : 0;
}
