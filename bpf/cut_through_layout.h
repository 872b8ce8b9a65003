// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What the cut-through programs and the program that loads them share: keys and values of the maps. C that is also C++. Whoever changes a structure
// raises LIMPID_CUT_VERSION: flows of another version cannot be adopted. Addresses and ports are in network order; IPv4 is ::ffff:a.b.c.d.
#pragma once

#include <linux/types.h>

#define LIMPID_CUT_VERSION 2
#define LIMPID_CUT_MAGIC 0x6c637574 /* "lcut" */

/* Names of maps and programs: the kernel keeps fifteen characters. */

/* On a clone that is on its way to our own socket: set and taken away within this host. */
#define LIMPID_CUT_CLONE_MARK 0x6c637574

enum { LIMPID_CUT_UP = 0, LIMPID_CUT_DOWN = 1 }; /* client to target, target to client */

/* Map limpid_cut_own: whose programs these are. */
struct limpid_cut_owner {
  __u32 magic;
  __u32 version;
  char name[32];
};

/* Key of map limpid_cut_ways: a packet as it arrives. */
struct limpid_cut_tuple {
  __u32 source[4];
  __u32 destination[4];
  __u16 source_port;
  __u16 destination_port;
  __u8 protocol;
  __u8 unused[3];
};

enum limpid_cut_phase {
  LIMPID_CUT_DRAINING = 1,  /* our sockets are still there: packets are translated, and clones of them deliver the ACKs here */
  LIMPID_CUT_ALONE = 2,     /* nothing is left in user space */
  LIMPID_CUT_LINGERING = 3, /* over and logged; late packets are still translated */
  LIMPID_CUT_RESETTING = 4, /* ended from here: whoever still sends is answered with a reset */
};

/* Value of map limpid_cut_ways. Written by user space only. */
struct limpid_cut_entry {
  __u64 flow;
  __u32 since_s; /* CLOCK_MONOTONIC: since when it is lingering or resetting */
  __u8 direction;
  __u8 phase;
  __u8 finished; /* a bit for each direction: its FIN raced the flip and was passed on by our sockets */
  __u8 recorded; /* its record has been given out */
  __u8 released; /* our sockets are gone: whatever comes up the stack is forwarded */
  __u8 unused[7];
};

/* One direction of a flow. The first part is constant, the second belongs to the programs. */
struct limpid_cut_way {
  struct limpid_cut_tuple from; /* as its packets arrive */
  struct limpid_cut_tuple to;   /* as they leave */
  __u32 seq_delta;              /* added to seq; subtracted from ack and SACK of the other direction */
  __u32 clock;                  /* TSval that our socket towards the receiver would have sent at the flip */
  __u32 rcv_nxt;                /* of our socket that faces the sender, at the flip */
  __u32 right_edge;             /* which that socket had announced */
  __u32 write_seq;              /* what the sender may acknowledge to that socket: begins as all that it had written at the flip, and follows what it sends */
  __u8 peer_scale;
  __u8 our_scale;
  __u8 unused[2];

  __u64 packets;
  __u64 edge;        /* end of the highest octet that was sent, unwrapped: begins as rcv_nxt */
  __u64 stamp_delta; /* bits 0-31: added to TSval; bit 32: fixed */
  __u32 first_stamp; /* the first TSval that left with it */
  __u32 last_ack;    /* the highest that the sender has acknowledged */
  __u32 fin_end;     /* seq behind the sender's FIN */
  __u32 limit;       /* the end of what its receiver has announced room for, in the sender's terms: begins as right_edge */
  __u32 syn_seq;     /* of the last SYN that its sender sent while the flow lived */
  __u32 unused_too;
};

/* limpid_cut_flow.happened */
#define LIMPID_CUT_FIN(direction) (1U << (direction))        /* its sender has sent a FIN */
#define LIMPID_CUT_FIN_ACKED(direction) (4U << (direction))  /* and the receiver has acknowledged it */
#define LIMPID_CUT_RST(direction) (16U << (direction))       /* its sender has reset it, it seems: whoever it went to has said nothing since */
#define LIMPID_CUT_FORGOTTEN 64U                             /* a SYN that met the ended flow: its tuples are no longer its own */
#define LIMPID_CUT_FORGOTTEN_RECORDED 128U                   /* with its record already given out */
#define LIMPID_CUT_REPLACED 256U                             /* the target knows nothing of it, and has answered a SYN */
#define LIMPID_CUT_SYN 512U                                  /* the client has sent one: syn_seq */

/* Value of map limpid_cut_flow, whose key is the flow's id. */
struct limpid_cut_flow {
  struct limpid_cut_way ways[2]; /* by direction */
  __u64 flipped_ns;              /* CLOCK_MONOTONIC */
  __u64 last_ns;                 /* when the last packet came */
  __u32 happened;
  __u8 timestamps;
  __u8 sack;
  __u8 source; /* for the record: as relay says it */
  __u8 unused;
  /* For the record: what the relay knew. The programs do not look at it. */
  struct limpid_cut_tuple dialled; /* client, original destination */
  __u32 target[4];
  __u16 target_port;
  __u16 unused_too[3];
  __u64 bytes_before[2]; /* by direction, until rcv_nxt */
  __s64 started_us;      /* wall clock */
};

/* Map limpid_cut_over is a queue of the ids of flows that seem to be over. */

/* Map limpid_cut_link, by index: those to which the programs are attached. */
struct limpid_cut_link {
  __u8 headless; /* its packets have no Ethernet header */
  __u8 clsact;
  __u8 own_clsact;
  __u8 unused;
};

/* Map limpid_cut_stat, one counter for each. */
enum limpid_cut_count {
  LIMPID_CUT_FORWARDED = 0,
  LIMPID_CUT_CLONED,        /* to our sockets, while draining */
  LIMPID_CUT_ERRORS,        /* ICMP errors that were translated */
  LIMPID_CUT_TOO_BIG,       /* answered: larger than the way out takes */
  LIMPID_CUT_EXPIRED,       /* answered: TTL or hop limit */
  LIMPID_CUT_FRAGMENTS,     /* dropped */
  LIMPID_CUT_NO_WAY,        /* dropped: no route, or not one that forwards */
  LIMPID_CUT_RESETS,        /* answered with a reset: the flow was ended from here */
  LIMPID_CUT_FAILED,        /* dropped: no memory, or a header that the kernel would not let us change */
  LIMPID_CUT_COUNTS
};
