// SPDX-License-Identifier: MIT OR GPL-2.0-only
// ICMP errors about packets of a cut-through flow: they come to where the translated packet came from, and quote it. Translated back, they reach the
// one who sent the original, and quote that. It learns of a smaller MTU, or that nobody is there.
#pragma once

#include "cut_through_forward.h"
#include "cut_through_maps.h"
#include "cut_through_translate.h"

/* As the sum of a datagram was before its addresses and ports were translated. 0 is none. */
static __always_inline __u16 checksum_before(const struct packet *p, const struct limpid_cut_tuple *from, __u16 check)
{
	__be16 old[2] = {p->source_port, p->destination_port};
	__be16 new[2] = {from->source_port, from->destination_port};
	if (!check)
		return 0;
	__u32 sum = bpf_csum_diff((__be32 *)old, sizeof(old), (__be32 *)new, sizeof(new), ~check & 0xffff);
	sum = bpf_csum_diff((__be32 *)p->source, 16, (__be32 *)from->source, 16, fold(sum));
	sum = bpf_csum_diff((__be32 *)p->destination, 16, (__be32 *)from->destination, 16, fold(sum));
	const __u16 before = ~fold(sum);
	return before ? before : 0xffff;
}

/* Of the quoted transport header only the first eight octets are sure to be there: ports and seq; all of UDP's. */
static __always_inline int translate_quotation(struct __sk_buff *skb, const struct packet *p, __u32 link, __u32 icmp, const struct limpid_cut_tuple *from_tuple,
					       __u32 seq_delta)
{
	const __u32 quoted = icmp + 8;
	__be32 old[2];
	if (load(skb, p->transport, old, sizeof(old)))
		return -1;
	__be32 new[2];
	__u16 *ports = (__u16 *)new;
	ports[0] = from_tuple->source_port;
	ports[1] = from_tuple->destination_port;
	if (p->protocol == IPPROTO_TCP) {
		new[1] = bpf_htonl(bpf_ntohl(old[1]) - seq_delta);
	} else {
		new[1] = old[1];
		ports[3] = checksum_before(p, from_tuple, ports[3]);
	}
	__u32 sum = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);
	if (bpf_skb_store_bytes(skb, link + p->transport, new, sizeof(new), 0))
		return -1;
	if (p->version == 4) {
		struct iphdr ip;
		if (load(skb, quoted, &ip, sizeof(ip)))
			return -1;
		__be32 from[2] = {ip.saddr, ip.daddr};
		__be32 to[2] = {from_tuple->source[3], from_tuple->destination[3]};
		/* The quoted header's checksum takes in what its addresses gain: the message's own sees no difference. */
		ip.check = ~fold(bpf_csum_diff(from, sizeof(from), to, sizeof(to), ~ip.check & 0xffff));
		ip.saddr = to[0];
		ip.daddr = to[1];
		if (bpf_skb_store_bytes(skb, link + quoted, &ip, sizeof(ip), 0))
			return -1;
	} else {
		__be32 from[8];
		__be32 to[8];
		const __u32 at = quoted + offsetof(struct ipv6hdr, saddr);
		if (load(skb, at, from, sizeof(from)))
			return -1;
		__builtin_memcpy(to, from_tuple->source, 16);
		__builtin_memcpy(to + 4, from_tuple->destination, 16);
		sum = bpf_csum_diff(from, sizeof(from), to, sizeof(to), sum);
		if (bpf_skb_store_bytes(skb, link + at, to, sizeof(to), 0))
			return -1;
	}
	return fix_checksum(skb, link + icmp + 2, p->version, sum, 0);
}

static __always_inline int same_address(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* `p` is the quoted packet; `from` what it was before it was translated. */
static __always_inline int pass_error_on(struct __sk_buff *skb, const struct packet *p, const __u32 link, const struct limpid_cut_tuple *from, __u32 seq_delta)
{
	__u32 source[4];
	__u32 icmp;
	__u8 hops;
	if (p->version == 4) {
		struct iphdr ip;
		if (load(skb, 0, &ip, sizeof(ip)))
			return ACTION_NEXT;
		icmp = ip.ihl * 4;
		hops = ip.ttl;
		map_ipv4(source, ip.saddr);
	} else {
		struct ipv6hdr ip;
		if (load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6)
			return ACTION_NEXT;
		icmp = sizeof(ip);
		hops = ip.hop_limit;
		__builtin_memcpy(source, &ip.saddr, sizeof(source));
	}
	/* Nobody is told of an error about an error. */
	if (hops <= 1)
		return ACTION_DROP;
	if (same_address(source, p->destination))
		__builtin_memcpy(source, from->destination, sizeof(source));
	struct way_out out = {};
	const long code = find_way_out(skb, p->version, source, from->source, p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0, 0, 0, skb->ifindex, 0, &out);
	if (code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH) {
		count(LIMPID_CUT_NO_WAY);
		return ACTION_DROP;
	}
	__u32 pseudo = 0;
	if (translate_quotation(skb, p, link, icmp, from, seq_delta) ||
	    have_linear(skb, link + icmp) || translate_ip(skb, link, p->version, source, from->source, 1, &pseudo) ||
	    (p->version == 6 && fix_checksum(skb, link + icmp + 2, 6, 0, pseudo))) {
		count(LIMPID_CUT_FAILED);
		return ACTION_DROP;
	}
	count(LIMPID_CUT_ERRORS);
	return send_out(skb, link, &out);
}

/* `p` is the quoted packet. */
static __always_inline int handle_error(struct __sk_buff *skb, const struct packet *p, const __u32 link)
{
	struct limpid_cut_tuple quoted;
	struct limpid_cut_tuple answers;
	if (p->protocol != IPPROTO_TCP || p->is_fragment || p->too_deep)
		return ACTION_NEXT;
	tuple_of(p, &quoted);
	turn_around(&quoted, &answers);
	const struct limpid_cut_entry *entry = bpf_map_lookup_elem(&limpid_cut_ways, &answers);
	/* While our sockets are there, what they sent may be meant. */
	if (!entry || entry->phase == LIMPID_CUT_DRAINING || entry->phase == LIMPID_CUT_RESETTING)
		return ACTION_NEXT;
	const struct limpid_cut_flow *flow = bpf_map_lookup_elem(&limpid_cut_flow, &entry->flow);
	if (!flow)
		return ACTION_NEXT;
	const struct limpid_cut_way *way = entry->direction == LIMPID_CUT_DOWN ? &flow->ways[LIMPID_CUT_UP] : &flow->ways[LIMPID_CUT_DOWN];
	return pass_error_on(skb, p, link, &way->from, way->seq_delta);
}
