/* bus: threads and queues behind <hark/bus.h>. This front header has what other folders need beyond
 * the public API: nothing yet. May use base, event, delivery and store's front header. */
#ifndef HK_BUS_H
#define HK_BUS_H

#include <hark/bus.h>

#endif
