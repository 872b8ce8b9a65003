// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Keys and values of the maps of cut-through UDP sessions, shared by the programs and whoever loads them. C that is also C++. LIMPID_CUT_VERSION counts
// for them as well. Addresses and ports are in network order; IPv4 is ::ffff:a.b.c.d.
#pragma once

#include "cut_through_layout.h"

/* Value of map limpid_cut_udp, whose key is a datagram as it arrives (limpid_cut_tuple). User space inserts and deletes, and changes nothing. */
struct limpid_cut_datagrams {
  struct limpid_cut_tuple to; /* as it leaves: turned around, this is what the key's answers arrive as */
  __u64 packets;
  __u64 bytes;   /* of payload */
  __u64 last_ns; /* CLOCK_MONOTONIC: when the last one came */
  __u8 direction;
  __u8 unused[7];
};

/* Value of map limpid_cut_talk, whose key is that of the direction from the client to the target. The programs never look at it. */
struct limpid_cut_session {
  struct limpid_cut_tuple back; /* the key of the other direction */
  __u64 keeper;                 /* the process that has a socket for it; 0: nobody has, it left for good */
  __u64 bytes_before[2];        /* by direction: what came by sockets */
  __s64 started_us;             /* wall clock */
  __u64 begun_ns;               /* CLOCK_MONOTONIC: the entries were written */
  __u8 source;                  /* for the record: as relay says it */
  __u8 answered;                /* before it was cut through */
  __u8 unused[6];
};
