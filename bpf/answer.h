// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Answers that are made of the packet which they answer: sums, headers, a TCP reset, and the way back. Knows no map.
#pragma once

#include "packet.h"

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u32 add_words(const void *words, __u32 length, __u32 sum)
{
	return bpf_csum_diff(0, 0, (__be32 *)words, length, sum);
}

/* Of the pseudo header. */
static __always_inline __u32 pseudo_sum(const struct packet *p, __u32 length, __u8 protocol)
{
	const __be32 tail = bpf_htonl(length + protocol);
	const __u32 sum = add_words(&tail, sizeof(tail), 0);
	if (p->version == 4)
		return add_words(&p->destination[3], 4, add_words(&p->source[3], 4, sum));
	return add_words(p->destination, 16, add_words(p->source, 16, sum));
}

/* Sends the packet back: out of the interface where it came in, or in where it would have gone out. */
static __always_inline int send_back(struct __sk_buff *skb, int is_ingress, int headless)
{
	if (!headless) {
		__u8 addresses[12];
		if (bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) || bpf_skb_store_bytes(skb, 0, addresses + 6, 6, 0) ||
		    bpf_skb_store_bytes(skb, 6, addresses, 6, 0))
			return -1;
		/* What arrives must be addressed to where it arrives. At egress, our own address is the source. */
	}
	return bpf_redirect(skb->ifindex, is_ingress ? 0 : BPF_F_INGRESS);
}

static __always_inline void answer_header_ipv4(struct iphdr *ip, const struct packet *p, __u16 length, __u8 protocol)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(length);
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = p->destination[3];
	ip->daddr = p->source[3];
	ip->check = ~fold(add_words(ip, sizeof(*ip), 0));
}

static __always_inline void answer_header_ipv6(struct ipv6hdr *ip, const struct packet *p, __u16 payload, __u8 protocol)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = 64;
	__builtin_memcpy(&ip->saddr, p->destination, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, p->source, sizeof(ip->daddr));
}

static __always_inline int reset_connection(struct __sk_buff *skb, const struct packet *p, __u32 link)
{
	struct tcphdr old;
	if (load(skb, p->transport, &old, sizeof(old)) || old.rst)
		return -1;
	const __u32 segment = p->length - p->transport;
	const int unfinished = old.check == fold(pseudo_sum(p, segment, IPPROTO_TCP));
	struct tcphdr tcp = {};
	tcp.source = old.dest;
	tcp.dest = old.source;
	tcp.doff = sizeof(tcp) / 4;
	tcp.rst = 1;
	if (old.ack) {
		tcp.seq = old.ack_seq;
	} else {
		tcp.ack = 1;
		tcp.ack_seq = bpf_htonl(bpf_ntohl(old.seq) + old.syn + old.fin + segment - old.doff * 4);
	}
	const __u32 pseudo = pseudo_sum(p, sizeof(tcp), IPPROTO_TCP); /* the same for both directions */
	tcp.check = unfinished ? fold(pseudo) : (__u16)~fold(add_words(&tcp, sizeof(tcp), pseudo));
	if (p->version == 4) {
		struct iphdr ip = {};
		answer_header_ipv4(&ip, p, sizeof(ip) + sizeof(tcp), IPPROTO_TCP);
		return bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(tcp), 0) || bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), 0) ||
		       bpf_skb_store_bytes(skb, link + sizeof(ip), &tcp, sizeof(tcp), 0);
	}
	struct ipv6hdr ip = {};
	answer_header_ipv6(&ip, p, sizeof(tcp), IPPROTO_TCP);
	return bpf_skb_change_tail(skb, link + sizeof(ip) + sizeof(tcp), 0) || bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), 0) ||
	       bpf_skb_store_bytes(skb, link + sizeof(ip), &tcp, sizeof(tcp), 0);
}
