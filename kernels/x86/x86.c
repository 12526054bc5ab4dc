/* x86.c - the list of x86-64 tables and which of them run here.
 * Owns: nothing. Does not: choose for the user (kernels/kern.c does). Runs on: any thread. */
#include "kernels/x86/x86.h"

#include "kernels/kern.h"
#include "kernels/x86/cpu_probe.h"
#include "proto/base/checked.h"

#include <string.h>

extern const struct kern_ops kern_ops_avx512_vnni, kern_ops_avx512, kern_ops_avx2_vnni,
        kern_ops_avx2;

static const struct {
    const struct kern_ops *ops;
    unsigned needs;
} tables[] = {
        {&kern_ops_avx512_vnni, CPU_AVX512_VNNI},
        {&kern_ops_avx512, CPU_AVX512},
        {&kern_ops_avx2_vnni, CPU_AVX2_VNNI},
        {&kern_ops_avx2, CPU_AVX2},
};

const struct kern_ops *kern_x86_at(unsigned index) {
    unsigned have = cpu_probe();
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        if ((tables[i].needs & ~have) == 0 && index-- == 0) return tables[i].ops;
    return NULL;
}

const struct kern_ops *kern_x86_find(const char *name) {
    const struct kern_ops *ops;
    for (unsigned i = 0; (ops = kern_x86_at(i)) != NULL; i++)
        if (strcmp(ops->name, name) == 0) return ops;
    return NULL;
}
