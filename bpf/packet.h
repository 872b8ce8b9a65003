// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Reads a packet's headers: IPv4 and IPv6 with extension headers, TCP, UDP, and the packet that an ICMP error quotes. Copies with bounds, so a
// truncated or hostile packet is only ever "malformed". Never changes anything.
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_EXTENSION_HEADERS 8
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Addresses and ports in network order; IPv4 as ::ffff:a.b.c.d. */
struct packet {
	__u32 source[4];
	__u32 destination[4];
	__u32 transport; /* offset of the transport header from the IP header */
	__u32 length;    /* of the whole packet, as the IP header says */
	__u16 source_port;
	__u16 destination_port;
	__u8 version; /* 4 or 6 */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 is_fragment;
	__u8 is_error; /* of ICMP; addresses and ports are then those of the quoted packet */
	__u8 too_deep; /* more extension headers than are looked at */
};

static __always_inline int load(struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET);
}

static __always_inline void map_ipv4(__u32 *address, __u32 ipv4)
{
	address[0] = 0;
	address[1] = 0;
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

static __always_inline int read_ipv4(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	struct iphdr ip;
	if (load(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	p->version = 4;
	p->protocol = ip.protocol;
	p->is_fragment = (ip.frag_off & bpf_htons(0x3fff)) != 0; /* an offset, or more to come */
	p->transport = at + ip.ihl * 4;
	p->length = bpf_ntohs(ip.tot_len);
	map_ipv4(p->source, ip.saddr);
	map_ipv4(p->destination, ip.daddr);
	return 0;
}

static __always_inline int read_ipv6(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	struct ipv6hdr ip;
	if (load(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return -1;
	p->version = 6;
	p->length = bpf_ntohs(ip.payload_len) + sizeof(ip);
	__builtin_memcpy(p->source, &ip.saddr, sizeof(p->source));
	__builtin_memcpy(p->destination, &ip.daddr, sizeof(p->destination));
	__u8 next = ip.nexthdr;
	__u32 offset = at + sizeof(ip);
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		__u8 header[4];
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_AH) {
			p->protocol = next;
			p->transport = offset;
			return 0;
		}
		if (load(skb, offset, header, sizeof(header)))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			/* Offset and M. An "atomic" fragment (RFC 6946) is a whole packet. */
			if ((header[2] | (header[3] & 0xf9)) != 0)
				p->is_fragment = 1;
			offset += 8;
		} else if (next == IPPROTO_AH) {
			offset += (header[1] + 2) * 4;
		} else {
			offset += (header[1] + 1) * 8;
		}
		next = header[0];
		if (p->is_fragment) {
			/* What follows in a later fragment is no header. */
			p->protocol = next;
			p->transport = offset;
			return 0;
		}
	}
	p->protocol = next;
	p->too_deep = 1;
	return 0;
}

static __always_inline int read_ports(struct __sk_buff *skb, struct packet *p)
{
	__u16 ports[2];
	if (load(skb, p->transport, ports, sizeof(ports)))
		return -1;
	p->source_port = ports[0];
	p->destination_port = ports[1];
	return 0;
}

/* Whether an ICMP message quotes a packet. */
static __always_inline int is_icmp_error(__u8 version, __u8 type)
{
	return version == 4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

/* 0: read, as far as it is of interest (see `protocol`); -1: malformed. */
static __always_inline int read_packet(struct __sk_buff *skb, struct packet *p)
{
	const int is_ipv4 = skb->protocol == bpf_htons(ETH_P_IP);
	if (is_ipv4 ? read_ipv4(skb, 0, p) : read_ipv6(skb, 0, p))
		return -1;
	if (p->is_fragment || p->too_deep)
		return 0;
	if (p->protocol == (is_ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		__u8 type;
		if (load(skb, p->transport, &type, sizeof(type)))
			return -1;
		if (!is_icmp_error(p->version, type))
			return 0;
		const __u32 quoted = p->transport + 8;
		if (is_ipv4 ? read_ipv4(skb, quoted, p) : read_ipv6(skb, quoted, p))
			return -1;
		p->is_error = 1;
		if (p->is_fragment || p->too_deep || (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP))
			return 0;
		return read_ports(skb, p);
	}
	if (p->protocol == IPPROTO_UDP)
		return load(skb, p->transport + sizeof(struct udphdr) - 1, &p->tcp_flags, 1) ? -1 : read_ports(skb, p);
	if (p->protocol != IPPROTO_TCP)
		return 0;
	/* A whole TCP header, or it is none. */
	if (load(skb, p->transport + 13, &p->tcp_flags, 1) || read_ports(skb, p))
		return -1;
	__u8 last;
	return load(skb, p->transport + sizeof(struct tcphdr) - 1, &last, 1) ? -1 : 0;
}

static __always_inline int is_first_packet(const struct packet *p)
{
	return p->protocol != IPPROTO_TCP || (p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

/* Never intercepted, whoever asks: this network, loopback, link-local, multicast, broadcast. */
static __always_inline int is_special(const struct packet *p, const __u32 *address)
{
	if (p->version == 4) {
		const __u32 host = bpf_ntohl(address[3]);
		return host >> 24 == 0 || host >> 24 == 127 || host >> 16 == 0xa9fe || host >= 0xe0000000;
	}
	const __u32 first = bpf_ntohl(address[0]);
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 ||
	       (address[0] == 0 && address[1] == 0 && address[2] == 0 && (address[3] == 0 || address[3] == bpf_htonl(1)));
}
