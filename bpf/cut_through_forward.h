// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The way out of a translated packet: route, MTU, TTL, neighbour, link header. Everything is asked for anew with each packet, so routes, interfaces and
// neighbours may change while a flow is cut through. The neighbour is left to the kernel's output path: it probes those that have become stale.
#pragma once

#include "answer.h"
#include "cut_through_maps.h"

#define ACTION_NEXT (-1)
#define ACTION_DROP 2
#define AF_INET 2
#define AF_INET6 10

#define ICMP_TYPE_UNREACHABLE 3
#define ICMP_CODE_FRAGMENTATION_NEEDED 4
#define ICMP_TYPE_EXPIRED 11
#define ICMPV6_TYPE_TOO_BIG 2
#define ICMPV6_TYPE_EXPIRED 3

struct way_out {
	__u32 link;
	__u32 mtu; /* where the packet is too big */
	struct bpf_redir_neigh next_hop;
};

/* A BPF_FIB_LKUP_RET; `bytes` of the largest packet that it will leave as; `mark` for policy routing. */
static __always_inline long find_way_out(struct __sk_buff *skb, __u8 version, const __u32 *source, const __u32 *destination, __u8 protocol,
					 __u16 source_port, __u16 destination_port, __u32 bytes, __u32 from_link, __u32 mark, struct way_out *out)
{
	struct bpf_fib_lookup fib = {};
	fib.l4_protocol = protocol;
	fib.sport = source_port;
	fib.dport = destination_port;
	fib.tot_len = bytes > 0xffff ? 0xffff : bytes;
	fib.ifindex = from_link;
	if (version == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = source[3];
		fib.ipv4_dst = destination[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, source, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, destination, sizeof(fib.ipv6_dst));
	}
	if (mark)
		__builtin_memcpy(fib.smac, &mark, sizeof(mark)); /* a union with `mark` since Linux 6.10 */
	const long code = bpf_fib_lookup(skb, &fib, sizeof(fib), mark ? limpid_cut_mark_flag : 0);
	out->link = fib.ifindex;
	out->mtu = fib.mtu_result;
	out->next_hop.nh_family = fib.family;
	__builtin_memcpy(out->next_hop.ipv6_nh, fib.ipv6_dst, sizeof(fib.ipv6_dst));
	return code;
}

static __always_inline int is_headless(__u32 link)
{
	const struct limpid_cut_link *known = bpf_map_lookup_elem(&limpid_cut_link, &link);
	return known && known->headless;
}

/* `link`: octets of link header that the packet has. */
static __always_inline int send_out(struct __sk_buff *skb, __u32 link, struct way_out *out)
{
	count(LIMPID_CUT_FORWARDED);
	if (is_headless(out->link))
		return bpf_redirect(out->link, 0);
	if (link == 0) {
		/* bpf_redirect_neigh() takes a link header off before it writes its own. */
		if (bpf_skb_change_head(skb, ETH_HLEN, 0))
			return ACTION_DROP;
	}
	return bpf_redirect_neigh(out->link, &out->next_hop, sizeof(out->next_hop), 0);
}

/* Makes an ICMP error of the packet, before it is translated, and sends it back. It quotes what its sender knows. Its source is who was written to:
   an address of ours would be one more look-up, and the sender goes by the quotation. Where the packet's checksum was left to the device
   (CHECKSUM_PARTIAL), so is the answer's, and its receiver takes it unseen: that is for packets of this machine's own guests. */
static __always_inline int answer_with_error(struct __sk_buff *skb, const struct packet *p, __u32 link, __u8 type, __u8 code, __u32 rest)
{
	if (p->version == 4) {
		struct {
			__u8 type;
			__u8 code;
			__u16 check;
			__be32 rest;
			__u8 quoted[sizeof(struct iphdr) + 8];
		} message = {};
		struct iphdr ip = {};
		if (p->transport != sizeof(struct iphdr) || load(skb, 0, message.quoted, sizeof(message.quoted)))
			return ACTION_DROP;
		message.type = type;
		message.code = code;
		message.rest = bpf_htonl(rest);
		message.check = ~fold(add_words(&message, sizeof(message), 0));
		answer_header_ipv4(&ip, p, sizeof(ip) + sizeof(message), IPPROTO_ICMP);
		if (bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(message), 0) || bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ||
		    bpf_skb_store_bytes(skb, link + sizeof(ip), &message, sizeof(message), BPF_F_RECOMPUTE_CSUM))
			return ACTION_DROP;
	} else {
		struct {
			__u8 type;
			__u8 code;
			__u16 check;
			__be32 rest;
			__u8 quoted[sizeof(struct ipv6hdr) + 8];
		} message = {};
		struct ipv6hdr ip = {};
		if (p->transport != sizeof(struct ipv6hdr) || load(skb, 0, message.quoted, sizeof(message.quoted)))
			return ACTION_DROP;
		message.type = type;
		message.code = code;
		message.rest = bpf_htonl(rest);
		message.check = ~fold(add_words(&message, sizeof(message), pseudo_sum(p, sizeof(message), IPPROTO_ICMPV6)));
		answer_header_ipv6(&ip, p, sizeof(message), IPPROTO_ICMPV6);
		if (bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(message), 0) || bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ||
		    bpf_skb_store_bytes(skb, link + sizeof(ip), &message, sizeof(message), BPF_F_RECOMPUTE_CSUM))
			return ACTION_DROP;
	}
	const int sent = send_back(skb, 1, link == 0);
	return sent < 0 ? ACTION_DROP : sent;
}

static __always_inline int answer_too_big(struct __sk_buff *skb, const struct packet *p, __u32 link, __u32 mtu)
{
	count(LIMPID_CUT_TOO_BIG);
	return p->version == 4 ? answer_with_error(skb, p, link, ICMP_TYPE_UNREACHABLE, ICMP_CODE_FRAGMENTATION_NEEDED, mtu)
			       : answer_with_error(skb, p, link, ICMPV6_TYPE_TOO_BIG, 0, mtu);
}

static __always_inline int answer_expired(struct __sk_buff *skb, const struct packet *p, __u32 link)
{
	count(LIMPID_CUT_EXPIRED);
	return p->version == 4 ? answer_with_error(skb, p, link, ICMP_TYPE_EXPIRED, 0, 0) : answer_with_error(skb, p, link, ICMPV6_TYPE_EXPIRED, 0, 0);
}
