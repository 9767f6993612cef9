/* hark/hark.h: all public headers. */
#ifndef HARK_HARK_H
#define HARK_HARK_H

#include <hark/bus.h>
#include <hark/error.h>
#include <hark/event.h>
#include <hark/http.h>
#include <hark/json.h>
#include <hark/middleware.h>
#include <hark/operate.h>
#include <hark/store.h>
#include <hark/stream.h>
#include <hark/supervise.h>
#include <hark/tx.h>
#include <hark/version.h>
#include <hark/versions.h>

#endif
