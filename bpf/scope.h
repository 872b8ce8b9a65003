// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Whether a packet is in scope, by what it is: ports, networks, where it comes from, which program sends it. Knows no sockets but the sender's.
#pragma once

#include "maps.h"
#include "packet.h"
#include "sockets.h"

static __always_inline int has_protocol_port(const struct limpid_policy *policy, __u8 protocol, __u16 port)
{
	return has_port(protocol == IPPROTO_TCP ? policy->tcp : policy->udp, bpf_ntohs(port));
}

/* LIMPID_INTERCEPTED, or why not. */
static __always_inline int check_destination(const struct limpid_policy *policy, __u32 slot, const struct packet *p)
{
	if (!(p->version == 4 ? policy->ipv4 : policy->ipv6))
		return LIMPID_OTHER_FAMILY;
	if (is_special(p, p->destination))
		return LIMPID_LOCAL_DESTINATION;
	if (in_networks(slot, LIMPID_EXCLUDED, p->destination))
		return LIMPID_EXCLUDED_DESTINATION;
	if (policy->has_destinations && !in_networks(slot, LIMPID_TO, p->destination))
		return LIMPID_OTHER_DESTINATION;
	return LIMPID_INTERCEPTED;
}

/* An interface that was moved to another network namespace takes the programs along; there they have nothing to say. Its index was forgotten here. */
static __always_inline int is_ours(const struct __sk_buff *skb)
{
	const __u32 index = skb->ifindex;
	return bpf_map_lookup_elem(&limpid_links, &index) != 0;
}

static __always_inline int check_source(struct __sk_buff *skb, const struct limpid_policy *policy, __u32 slot, const struct packet *p)
{
	const __u32 index = skb->ifindex;
	if (!policy->has_sources)
		return LIMPID_INTERCEPTED;
	const struct limpid_interface *interface = bpf_map_lookup_elem(&limpid_links, &index);
	if (interface && interface->selected)
		return LIMPID_INTERCEPTED;
	return in_networks(slot, LIMPID_FROM, p->source) ? LIMPID_INTERCEPTED : LIMPID_OTHER_SOURCE;
}

static __always_inline int is_among(struct __sk_buff *skb, const struct limpid_programs *programs, __u32 user)
{
	for (__u32 i = 0; i < LIMPID_MAX_IDS; i++) {
		if (i >= programs->user_count)
			break;
		if (user >= programs->users[i].first && user <= programs->users[i].last)
			return 1;
	}
	for (__u32 i = 0; i < LIMPID_MAX_CGROUPS; i++) {
		if (i >= programs->cgroup_count)
			break;
		if (bpf_skb_ancestor_cgroup_id(skb, programs->cgroups[i].level) == programs->cgroups[i].id)
			return 1;
	}
	return 0;
}

/* Of a packet that this host sends, in the name of `user`. */
static __always_inline int check_program(struct __sk_buff *skb, const struct limpid_policy *policy, __u32 user)
{
	if (is_among(skb, &policy->never, user))
		return LIMPID_OTHER_PROGRAM;
	if (policy->only.user_count == 0 && policy->only.cgroup_count == 0)
		return LIMPID_TO_LOOPBACK;
	return is_among(skb, &policy->only, user) ? LIMPID_TO_LOOPBACK : LIMPID_OTHER_PROGRAM;
}

/* Fragments have no ports but the first, and nothing puts them together here. So the networks alone decide, and only what is fail-closed can be
 * held back. */
static __always_inline int decide_fragment(struct __sk_buff *skb, const struct limpid_policy *policy, __u32 slot, const struct packet *p)
{
	if ((p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP && !p->too_deep) || !policy->fail_closed || !policy->forwarded)
		return LIMPID_FRAGMENT;
	if (check_destination(policy, slot, p) != LIMPID_INTERCEPTED || check_source(skb, policy, slot, p) != LIMPID_INTERCEPTED ||
	    is_own_address(skb, policy, p, p->source, p->destination))
		return LIMPID_FRAGMENT;
	return LIMPID_DROPPED;
}
