// RawSender is public: limpid/datagram.h. What it sends is built by net/packet.h.
#pragma once

#include "limpid/datagram.h"
#include "net/packet.h"
