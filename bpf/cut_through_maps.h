// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The maps of cut-through, and the look-ups in them. They stay with the programs when the process that loaded them is gone.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cut_through_layout.h"
#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limpid_cut_owner);
} limpid_cut_own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072); /* set at load */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct limpid_cut_tuple);
	__type(value, struct limpid_cut_entry);
} limpid_cut_ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set at load */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct limpid_cut_flow);
} limpid_cut_flow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct limpid_cut_link);
} limpid_cut_link SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LIMPID_CUT_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} limpid_cut_stat SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 65536);
	__type(value, __u64);
} limpid_cut_over SEC(".maps");

/* Set at load. */
const volatile __u32 limpid_cut_mark;      /* of packets to targets, for look-ups of routes: as our sockets' packets have it */
const volatile __u32 limpid_cut_netfilter; /* 1: packets of flows without sockets pass through the kernel's own forwarding */
const volatile __u32 limpid_cut_mark_flag; /* BPF_FIB_LOOKUP_MARK, where the kernel has it */

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&limpid_cut_stat, &what);
	if (counter)
		*counter += 1;
}

/* Something has happened to a flow that user space wants to know. When nobody listens, the oldest news goes: whoever comes looks at all flows. */
static __always_inline void tell(__u64 flow)
{
	bpf_map_push_elem(&limpid_cut_over, &flow, BPF_EXIST);
}

static __always_inline void tuple_of(const struct packet *p, struct limpid_cut_tuple *tuple)
{
	__builtin_memcpy(tuple->source, p->source, sizeof(tuple->source));
	__builtin_memcpy(tuple->destination, p->destination, sizeof(tuple->destination));
	tuple->source_port = p->source_port;
	tuple->destination_port = p->destination_port;
	tuple->protocol = p->protocol;
	__builtin_memset(tuple->unused, 0, sizeof(tuple->unused));
}

/* As the answers to `tuple` come. */
static __always_inline void turn_around(const struct limpid_cut_tuple *tuple, struct limpid_cut_tuple *answers)
{
	__builtin_memcpy(answers->source, tuple->destination, sizeof(answers->source));
	__builtin_memcpy(answers->destination, tuple->source, sizeof(answers->destination));
	answers->source_port = tuple->destination_port;
	answers->destination_port = tuple->source_port;
	answers->protocol = tuple->protocol;
	__builtin_memset(answers->unused, 0, sizeof(answers->unused));
}
