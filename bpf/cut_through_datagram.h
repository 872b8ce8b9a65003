// SPDX-License-Identifier: MIT OR GPL-2.0-only
// UDP sessions that are cut through: a datagram gets the other leg's addresses and ports and is forwarded. Nothing else differs, so there are no phases.
// Whatever cannot be done here is left to the kernel and the relay, which do it as they do for every other session: fragments, packets that must become
// fragments, hop limits that end here, ways that lead nowhere.
#pragma once

#include "cut_through_datagram_layout.h"
#include "cut_through_errors.h"
#include "cut_through_forward.h"
#include "cut_through_maps.h"
#include "cut_through_translate.h"

#define DO_NOT_FRAGMENT 0x4000

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072); /* set at load */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct limpid_cut_tuple);
	__type(value, struct limpid_cut_datagrams);
} limpid_cut_udp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set at load */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct limpid_cut_tuple);
	__type(value, struct limpid_cut_session);
} limpid_cut_talk SEC(".maps");

/* 0 is "no checksum" (RFC 768) and stays it; a sum of 0 is written as 0xffff. */
static __always_inline int fix_datagram_checksum(struct __sk_buff *skb, __u32 at, __u8 version, __u32 sum, __u32 pseudo)
{
	const __u64 flags = BPF_F_MARK_MANGLED_0;
	if (fold(sum) != 0 && fold(sum) != 0xffff && bpf_l4_csum_replace(skb, at, 0, sum, flags))
		return -1;
	if (fold(pseudo) == 0 || fold(pseudo) == 0xffff)
		return 0;
	if (version == 6 && bpf_l4_csum_replace(skb, at, 0, pseudo, flags | BPF_F_PSEUDO_HDR | CSUM_OF_IPV6) == 0)
		return 0;
	return bpf_l4_csum_replace(skb, at, 0, pseudo, flags | BPF_F_PSEUDO_HDR) ? -1 : 0;
}

/* 0: done. Otherwise the packet is spoilt. */
static __always_inline int translate_datagram(struct __sk_buff *skb, __u32 link, const struct packet *p, const struct limpid_cut_tuple *to)
{
	__u32 at = link + p->transport;
	__u32 pseudo = 0;
	asm volatile("" : "+r"(at));
	if (at > 1024 || have_linear(skb, at + sizeof(struct udphdr)) || translate_ip(skb, link, p->version, to->source, to->destination, 1, &pseudo))
		return -1;
	struct udphdr *udp = (void *)(long)skb->data + at;
	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		return -1;
	__be16 old[2] = {udp->source, udp->dest};
	__be16 new[2] = {to->source_port, to->destination_port};
	const __u32 sum = bpf_csum_diff((__be32 *)old, sizeof(old), (__be32 *)new, sizeof(new), 0);
	udp->source = to->source_port;
	udp->dest = to->destination_port;
	return fix_datagram_checksum(skb, at + offsetof(struct udphdr, check), p->version, sum, pseudo);
}

/* Whether its sender lets routers make fragments of it. */
static __always_inline int may_be_fragmented(struct __sk_buff *skb, const struct packet *p)
{
	__be16 flags;
	return p->version == 4 && load(skb, offsetof(struct iphdr, frag_off), &flags, sizeof(flags)) == 0 && !(flags & bpf_htons(DO_NOT_FRAGMENT));
}

static __always_inline int handle_datagram(struct __sk_buff *skb, const struct packet *p, const __u32 link)
{
	struct limpid_cut_tuple tuple;
	struct udphdr udp;
	__u8 hops;
	tuple_of(p, &tuple);
	struct limpid_cut_datagrams *way = bpf_map_lookup_elem(&limpid_cut_udp, &tuple);
	if (!way || load(skb, p->transport, &udp, sizeof(udp)) ||
	    load(skb, p->version == 4 ? offsetof(struct iphdr, ttl) : offsetof(struct ipv6hdr, hop_limit), &hops, 1))
		return ACTION_NEXT;
	const __u32 length = bpf_ntohs(udp.len);
	if (hops <= 1 || length < sizeof(udp) || p->transport + length > p->length || p->length > skb->len - link)
		return ACTION_NEXT;
	const __u32 payload = length - sizeof(udp);
	/* Several of one size in one buffer (UDP_SEGMENT, GRO) leave one by one. */
	const __u32 bytes = p->transport + sizeof(udp) + (skb->gso_size && skb->gso_size < payload ? skb->gso_size : payload);
	struct way_out out = {};
	const long code = find_way_out(skb, p->version, way->to.source, way->to.destination, IPPROTO_UDP, way->to.source_port, way->to.destination_port,
				       bytes, skb->ifindex, way->direction == LIMPID_CUT_UP ? limpid_cut_mark : 0, &out);
	if (code == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return may_be_fragmented(skb, p) ? ACTION_NEXT : answer_too_big(skb, p, link, out.mtu);
	if (code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH)
		return ACTION_NEXT;
	__sync_fetch_and_add(&way->packets, skb->gso_segs > 1 ? skb->gso_segs : 1);
	__sync_fetch_and_add(&way->bytes, payload);
	way->last_ns = bpf_ktime_get_ns();
	if (translate_datagram(skb, link, p, &way->to)) {
		count(LIMPID_CUT_FAILED);
		return ACTION_DROP;
	}
	return send_out(skb, link, &out);
}

/* `p` is the quoted packet: one that was translated, or that our socket has sent in the same terms. */
static __always_inline int handle_datagram_error(struct __sk_buff *skb, const struct packet *p, const __u32 link)
{
	struct limpid_cut_tuple quoted;
	struct limpid_cut_tuple answers;
	struct limpid_cut_tuple from;
	tuple_of(p, &quoted);
	turn_around(&quoted, &answers);
	const struct limpid_cut_datagrams *back = bpf_map_lookup_elem(&limpid_cut_udp, &answers);
	if (!back)
		return ACTION_NEXT;
	turn_around(&back->to, &from);
	return pass_error_on(skb, p, link, &from, 0);
}
