// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Fail-closed: turns a packet into its refusal (a TCP reset, or ICMP "port unreachable") and sends it back to where it came from. What cannot be
// refused in so simple a way (IP options, extension headers) is dropped.
//
// Checksums: the packet's own may be unfinished (CHECKSUM_PARTIAL: it holds the sum of the pseudo header, and the device adds the rest from the
// transport header on). Nothing tells a program whether it is, so that is seen from the value. The device will then add the rest to ours: a reset
// has its checksum at the same place; of an ICMP error, octets 6 and 7 (unused) take it instead.
#pragma once

#include "answer.h"
#include "maps.h"
#include "packet.h"

/* <linux/icmp.h> leads to headers of the C library, which are none of ours. */
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4

static __always_inline int refuse_datagram(struct __sk_buff *skb, const struct packet *p, __u32 link)
{
	struct udphdr udp;
	if (load(skb, p->transport, &udp, sizeof(udp)))
		return -1;
	const int unfinished = udp.check == fold(pseudo_sum(p, p->length - p->transport, IPPROTO_UDP));
	if (p->version == 4) {
		struct {
			__u8 type;
			__u8 code;
			__u16 check;
			__u32 unused;
			__u8 quoted[sizeof(struct iphdr) + sizeof(struct udphdr)];
		} message = {};
		struct iphdr ip = {};
		message.type = ICMP_DEST_UNREACH;
		message.code = ICMP_PORT_UNREACH;
		if (load(skb, 0, message.quoted, sizeof(message.quoted)))
			return -1;
		if (!unfinished)
			message.check = ~fold(add_words(&message, sizeof(message), 0));
		answer_header_ipv4(&ip, p, sizeof(ip) + sizeof(message), IPPROTO_ICMP);
		return bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(message), 0) ||
		       bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), 0) ||
		       bpf_skb_store_bytes(skb, link + sizeof(ip), &message, sizeof(message), 0);
	}
	struct {
		__u8 type;
		__u8 code;
		__u16 check;
		__u16 unused;
		__u16 rest; /* octets 6 and 7 */
		__u8 quoted[sizeof(struct ipv6hdr) + sizeof(struct udphdr)];
	} message = {};
	struct ipv6hdr ip = {};
	message.type = ICMPV6_DEST_UNREACH;
	message.code = ICMPV6_PORT_UNREACH;
	if (load(skb, 0, message.quoted, sizeof(message.quoted)))
		return -1;
	const __u32 pseudo = pseudo_sum(p, sizeof(message), IPPROTO_ICMPV6);
	if (unfinished)
		message.rest = fold(pseudo);
	else
		message.check = ~fold(add_words(&message, sizeof(message), pseudo));
	answer_header_ipv6(&ip, p, sizeof(message), IPPROTO_ICMPV6);
	return bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(message), 0) || bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), 0) ||
	       bpf_skb_store_bytes(skb, link + sizeof(ip), &message, sizeof(message), 0);
}

/* The action for the packet: TC_ACT_REDIRECT, or TC_ACT_SHOT. */
static __always_inline int reject(struct __sk_buff *skb, const struct packet *p, int is_ingress)
{
	const __u32 index = skb->ifindex;
	const struct limpid_interface *interface = bpf_map_lookup_elem(&limpid_links, &index);
	const int headless = interface && interface->headless;
	const __u32 link = headless ? 0 : ETH_HLEN;
	if (p->transport != (p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) || p->length <= p->transport)
		return 2; /* TC_ACT_SHOT */
	if (p->protocol == IPPROTO_TCP ? reset_connection(skb, p, link) : refuse_datagram(skb, p, link))
		return 2;
	const int sent = send_back(skb, is_ingress, headless);
	return sent < 0 ? 2 : sent;
}
