/* report.h - the parts of --json and of the tables that several commands print. Main thread. */
#pragma once

#include "coordinator/cli/app.h"

#include <jansson.h>

/* Each returns a new reference, NULL without memory. */
json_t *report_workers(const struct cluster *cluster);
json_t *report_wire(const struct cluster *cluster);

/* step_ms: means per step. */
json_t *report_steps(const struct engine_times *times);
json_t *report_ids(const int32_t *ids, size_t n);

/* Dumps the object as one line on stdout and drops it. ERR_NO_MEMORY, ERR_IO. */
int report_print(json_t *object, struct err *err);

/* A table of who holds what and did what, and one of where a step's time went, on stderr. */
void report_show_workers(const struct cluster *cluster);
void report_show_steps(const struct engine_times *times);
