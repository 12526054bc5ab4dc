/* host_parent.h - a worker that was started by a coordinator ends with it. */
#pragma once

#include <stdbool.h>

/* Asks the system to send SIGTERM to this process when its parent ends, where the system can. Main
 * thread, once. */
void host_parent_watch(void);

/* True when `pid` is not the parent any more. Any thread. */
bool host_parent_gone(long pid);
