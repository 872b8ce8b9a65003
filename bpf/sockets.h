// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Finds sockets: that of a packet's flow, and the listener; and asks the kernel whether an address is this host's. Callers release what they get.
#pragma once

#include "maps.h"
#include "packet.h"

#define STATE_TIME_WAIT 6
#define STATE_LISTEN 10
#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

/* What there is to know of a socket that was found. */
struct socket_facts {
	__u8 listens;         /* takes whatever begins: a TCP listener, any UDP socket */
	__u8 is_over;         /* TIME_WAIT */
	__u8 belongs_to_flow; /* a connection, or a UDP socket that is bound to the very address */
};

/* TCP, and UDP apart: the verifier wants each kind of pointer to have its own instructions. */
static __always_inline struct bpf_sock *look_up(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 length, __u8 protocol,
						const struct packet *p, const __u32 *destination, struct socket_facts *facts)
{
	const __u64 here = BPF_F_CURRENT_NETNS;
	if (protocol == IPPROTO_TCP) {
		struct bpf_sock *connection = bpf_skc_lookup_tcp(skb, tuple, length, here, 0);
		if (!connection)
			return 0;
		const __u32 state = connection->state;
		facts->listens = state == STATE_LISTEN;
		facts->is_over = state == STATE_TIME_WAIT;
		facts->belongs_to_flow = state != STATE_LISTEN;
		return connection;
	}
	struct bpf_sock *sock = bpf_sk_lookup_udp(skb, tuple, length, here, 0);
	if (!sock)
		return 0;
	facts->listens = 1;
	if (p->version == 4)
		facts->belongs_to_flow = sock->src_ip4 == destination[3];
	else
		facts->belongs_to_flow = sock->src_ip6[0] == destination[0] && sock->src_ip6[1] == destination[1] &&
					 sock->src_ip6[2] == destination[2] && sock->src_ip6[3] == destination[3];
	return sock;
}

static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb, const struct packet *p, const __u32 *source,
						    __u16 source_port, const __u32 *destination, __u16 destination_port,
						    struct socket_facts *facts)
{
	struct bpf_sock_tuple tuple = {};
	if (p->version == 4) {
		tuple.ipv4.saddr = source[3];
		tuple.ipv4.daddr = destination[3];
		tuple.ipv4.sport = source_port;
		tuple.ipv4.dport = destination_port;
		return look_up(skb, &tuple, sizeof(tuple.ipv4), p->protocol, p, destination, facts);
	}
	__builtin_memcpy(tuple.ipv6.saddr, source, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, destination, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = source_port;
	tuple.ipv6.dport = destination_port;
	return look_up(skb, &tuple, sizeof(tuple.ipv6), p->protocol, p, destination, facts);
}

/* The listener on 127.0.0.1 or ::1. */
static __always_inline struct bpf_sock *find_listener(struct __sk_buff *skb, const struct packet *p, __u16 port, struct socket_facts *facts)
{
	__u32 loopback[4] = {};
	loopback[3] = p->version == 4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
	return find_socket(skb, p, p->source, p->source_port, loopback, bpf_htons(port), facts);
}

/* Whether the kernel would deliver a packet to `destination` here. It gives the same answer where there is no route, and none where forwarding is off:
 * then the list of own addresses tells, if somebody keeps it; otherwise what may be our own counts as such. */
static __always_inline int is_own_address(struct __sk_buff *skb, const struct limpid_policy *policy, const struct packet *p, const __u32 *source,
					  const __u32 *destination)
{
	struct bpf_fib_lookup query = {};
	query.ifindex = skb->ifindex;
	query.l4_protocol = p->protocol;
	if (p->version == 4) {
		query.family = FAMILY_IPV4;
		query.ipv4_src = source[3];
		query.ipv4_dst = destination[3];
	} else {
		query.family = FAMILY_IPV6;
		__builtin_memcpy(query.ipv6_src, source, sizeof(query.ipv6_src));
		__builtin_memcpy(query.ipv6_dst, destination, sizeof(query.ipv6_dst));
	}
	const long answer = bpf_fib_lookup(skb, &query, sizeof(query), 0);
	if (answer != BPF_FIB_LKUP_RET_FWD_DISABLED && (answer != BPF_FIB_LKUP_RET_NOT_FWDED || !policy->knows_addresses))
		return answer == BPF_FIB_LKUP_RET_NOT_FWDED;
	return in_networks(LIMPID_OWN_SLOT, LIMPID_OWN, destination);
}
