/* placement.c - the table of who holds what. Owns: its bit sets. Runs on: the owner's thread. */
#include "coordinator/moe/placement.h"

#include <stdlib.h>

int placement_init(
        struct placement *placement, uint32_t n_layer, uint32_t n_expert, struct err *err) {
    *placement = (struct placement){.n_layer = n_layer, .n_expert = n_expert};
    placement->holders = calloc((size_t)n_layer * n_expert + 1, sizeof *placement->holders);
    if (!placement->holders)
        return err_set(err, ERR_NO_MEMORY, "no memory for the placement of %u x %u experts",
                n_layer, n_expert);
    return 0;
}

void placement_fini(struct placement *placement) {
    free(placement->holders);
    *placement = (struct placement){0};
}
