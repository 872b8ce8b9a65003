// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The maps of one installation, and the look-ups that every program does.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limpid_owner);
} limpid_owner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct limpid_policy);
} limpid_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} limpid_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct limpid_network);
	__type(value, __u8);
} limpid_networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct limpid_interface);
} limpid_links SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384); /* raised at load where local datagrams are in scope */
	__type(key, struct limpid_client);
	__type(value, __u64);
} limpid_served SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LIMPID_DECISIONS);
	__type(key, __u32);
	__type(value, __u64);
} limpid_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct limpid_connection);
	__type(value, __u8);
} limpid_reopened SEC(".maps");

/* By family: IPv4, IPv6. What the programs have found, for limpid_reopen, which may not look for it. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} limpid_listeners SEC(".maps");

static __always_inline const struct limpid_policy *active_policy(__u32 *slot)
{
	const __u32 zero = 0;
	const __u32 *active = bpf_map_lookup_elem(&limpid_active, &zero);
	if (!active)
		return 0;
	*slot = *active & 1;
	return bpf_map_lookup_elem(&limpid_policies, slot);
}

static __always_inline int count(int decision)
{
	const __u32 key = decision;
	__u64 *counter = bpf_map_lookup_elem(&limpid_counters, &key);
	if (counter)
		*counter += 1;
	return decision;
}

/* `port` in host order. */
static __always_inline int has_port(const __u8 *ports, __u16 port)
{
	return ports[port >> 3] >> (port & 7) & 1;
}

static __always_inline int in_networks(__u32 slot, __u8 role, const __u32 *address)
{
	struct limpid_network key = {
		.prefix_length = LIMPID_NETWORK_BITS + 128,
		.slot = slot,
		.role = role,
	};
	__builtin_memcpy(key.address, address, sizeof(key.address));
	return bpf_map_lookup_elem(&limpid_networks, &key) != 0;
}
