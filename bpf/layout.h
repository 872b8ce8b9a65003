// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What the eBPF programs and the program that loads them share: the values of the maps, and the decisions. C that is also C++. Whoever changes
// a structure raises LIMPID_BPF_VERSION: programs and maps of another version are replaced as a whole.
#pragma once

#include <linux/types.h>

#define LIMPID_BPF_VERSION 2
#define LIMPID_BPF_MAGIC 0x6c696d70 /* "limp" */
#define LIMPID_PORT_BYTES 8192      /* a bit for each port */
#define LIMPID_MAX_IDS 32
#define LIMPID_MAX_CGROUPS 16
#define LIMPID_MAX_INTERFACES 64
#define LIMPID_SENT_HERE 1 /* a question to limpid_decide */
#define LIMPID_NETWORK_BITS 32 /* of limpid_network that come before the address */

/* Map limpid_owner: says whose programs these are, and how to undo everything. Never changes. */
struct limpid_owner {
  __u32 magic;
  __u32 version;
  char name[32];
  char comment[192]; /* what an nft table's comment would say */
};

struct limpid_ids {
  __u32 first;
  __u32 last;
};

struct limpid_cgroup {
  __u64 id;
  __u32 level; /* 1: below the root */
  __u32 unused;
};

/* Some of this host's programs. */
struct limpid_programs {
  __u32 user_count;
  __u32 cgroup_count;
  struct limpid_ids users[LIMPID_MAX_IDS];
  struct limpid_cgroup cgroups[LIMPID_MAX_CGROUPS];
};

/* Map limpid_policies: two slots, of which map limpid_active names the one that holds. */
struct limpid_policy {
  __u32 mark_mask;
  __u32 mark_intercept;
  __u32 mark_bypass;
  __u16 listener; /* host order, as all ports here */
  __u16 client_ports_first;
  __u16 client_ports_last;
  __u8 fail_closed;
  __u8 draining;
  __u8 ipv4;
  __u8 ipv6;
  __u8 forwarded;
  __u8 local;
  __u8 guards_listener;
  __u8 has_destinations; /* only to networks of the role LIMPID_TO */
  __u8 has_sources;      /* only from selected interfaces, or networks of the role LIMPID_FROM */
  __u8 knows_addresses; /* somebody keeps the networks of LIMPID_OWN up to date */
  __u8 unused[6];
  char sources[LIMPID_MAX_INTERFACES][16]; /* the interfaces that --from names: for those who read it, the programs look at limpid_links */
  struct limpid_programs only;
  struct limpid_programs never;
  __u8 tcp[LIMPID_PORT_BYTES];
  __u8 udp[LIMPID_PORT_BYTES];
};

enum limpid_role { LIMPID_FROM = 1, LIMPID_TO = 2, LIMPID_EXCLUDED = 3, LIMPID_OWN = 4 };

/* The slot of LIMPID_OWN, which are no part of a policy: this host's own addresses. */
#define LIMPID_OWN_SLOT 2

/* Map limpid_networks, a longest-prefix trie: all roles of both slots. IPv4 is written ::ffff:a.b.c.d. */
struct limpid_network {
  __u32 prefix_length; /* LIMPID_NETWORK_BITS, and those of the address */
  __u8 slot;
  __u8 role;
  __u8 unused[2];
  __u32 address[4];
};

/* Map limpid_links, by index: those to which the programs are attached. As limpid_owner, read across versions (own_clsact: what to take away again),
 * so it never changes. */
struct limpid_interface {
  __u8 selected;  /* --from names it */
  __u8 headless;  /* its packets have no Ethernet header */
  __u8 clsact;    /* attached by a filter, not by tcx */
  __u8 own_clsact; /* and the qdisc was made for it */
};

/* Map limpid_served: who has written to a UDP server of this host, and when (nanoseconds since the start). */
struct limpid_client {
  __u32 address[4];
  __u16 client_port; /* network order */
  __u16 server_port;
};

/* Map limpid_reopened: SYNs that are on their way to a socket in TIME_WAIT, which will ask for a listener. Ports in network order. */
struct limpid_connection {
  __u32 remote[4];
  __u32 local[4];
  __u16 remote_port;
  __u16 local_port;
};

/* What becomes of a packet; map limpid_counters counts each. Those from LIMPID_DIVERTED on are taken. */
enum limpid_decision {
  LIMPID_OTHER_PROTOCOL = 0,  /* neither TCP nor UDP nor an error about them */
  LIMPID_TAGGED,              /* a VLAN's interface decides about its frames */
  LIMPID_NOT_ADDRESSED,       /* broadcast, multicast, or somebody else's frame */
  LIMPID_MALFORMED,
  LIMPID_OWN_SOCKET,          /* the bypass mark, or another's */
  LIMPID_OTHER_FAMILY,
  LIMPID_OTHER_PORT,
  LIMPID_UNKNOWN_CONNECTION,  /* not its first packet, and not of a flow */
  LIMPID_LOCAL_DESTINATION,
  LIMPID_EXCLUDED_DESTINATION,
  LIMPID_OTHER_DESTINATION,
  LIMPID_OTHER_SOURCE,
  LIMPID_OTHER_PROGRAM,
  LIMPID_ANSWER,              /* of a UDP server here */
  LIMPID_FRAGMENT,            /* fail-open: goes its way */
  LIMPID_NOBODY_LISTENS,      /* fail-open: goes its way */
  LIMPID_DIVERTED = 32,       /* to the socket of its flow */
  LIMPID_INTERCEPTED,         /* to the listener */
  LIMPID_TO_LOOPBACK,         /* this host's own, on its way to the listener */
  LIMPID_REJECTED,
  LIMPID_DROPPED,
  LIMPID_DECISIONS
};
