/* arm.c - the list of aarch64 tables and which of them run here.
 * Owns: nothing. Does not: choose for the user (kernels/kern.c does). Runs on: any thread. */
#include "kernels/arm/arm.h"

#include "kernels/arm/arm_probe.h"
#include "kernels/arm/neon_set.h"
#include "proto/base/checked.h"

#include <string.h>

static const struct {
    const struct kern_ops *ops;
    unsigned needs;
} tables[] = {
        {&kern_ops_neon_dot, ARM_DOT},
        {&kern_ops_neon_plain, 0},
};

const struct kern_ops *kern_arm_at(unsigned index) {
    unsigned have = arm_probe();
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        if ((tables[i].needs & ~have) == 0 && index-- == 0) return tables[i].ops;
    return NULL;
}

const struct kern_ops *kern_arm_find(const char *name) {
    const struct kern_ops *ops;
    for (unsigned i = 0; (ops = kern_arm_at(i)) != NULL; i++)
        if (strcmp(ops->name, name) == 0) return ops;
    return NULL;
}
