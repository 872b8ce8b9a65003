// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What this host's own programs send (tc egress, on every interface): a packet in scope gets the mark of local traffic and comes in again through the
// loopback interface, where limpid_ingress gives it to the socket of its flow or to the listener. Nothing need be remembered: later packets of
// a connection are known by the proxy's socket, and what nobody takes has not left its way.
#pragma once

#include "maps.h"
#include "packet.h"
#include "scope.h"
#include "sockets.h"

#define SERVED_NANOSECONDS 300000000000ULL

/* A datagram does not say whether it is a question or an answer. So we remember who has written to a socket of this host, unless on a port from which
 * clients call: somebody outside who guesses the port of a question must not make it pass us by. */
static __always_inline void remember_client(struct __sk_buff *skb, const struct limpid_policy *policy, const struct packet *p)
{
	const __u16 port = bpf_ntohs(p->destination_port);
	if (!has_port(policy->udp, bpf_ntohs(p->source_port)) || (port >= policy->client_ports_first && port <= policy->client_ports_last))
		return;
	struct socket_facts facts = {};
	struct bpf_sock *sock = find_socket(skb, p, p->source, p->source_port, p->destination, p->destination_port, &facts);
	if (!sock)
		return;
	bpf_sk_release(sock);
	struct limpid_client client = { .client_port = p->source_port, .server_port = p->destination_port };
	__builtin_memcpy(client.address, p->source, sizeof(client.address));
	const __u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&limpid_served, &client, &now, BPF_ANY);
}

static __always_inline int is_answer(const struct packet *p)
{
	struct limpid_client client = { .client_port = p->destination_port, .server_port = p->source_port };
	__builtin_memcpy(client.address, p->destination, sizeof(client.address));
	const __u64 *when = bpf_map_lookup_elem(&limpid_served, &client);
	return when && bpf_ktime_get_ns() - *when < SERVED_NANOSECONDS;
}

static __always_inline int decide_local(struct __sk_buff *skb, struct packet *p, __u32 user)
{
	__u32 slot = 0;
	const struct limpid_policy *policy = active_policy(&slot);
	if (!policy || !policy->local)
		return LIMPID_OTHER_PROTOCOL;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return LIMPID_OTHER_PROTOCOL;
	/* A VLAN's interface has decided already. */
	if (skb->vlan_present)
		return LIMPID_TAGGED;
	/* Only the privileged can set a mark, and it says that somebody has decided about the packet's way. */
	if (skb->mark != 0)
		return LIMPID_OWN_SOCKET;
	if (!skb->sk)
		return LIMPID_OTHER_PROGRAM;
	if (read_packet(skb, p))
		return LIMPID_MALFORMED;
	if (p->is_error || (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP))
		return LIMPID_OTHER_PROTOCOL;
	if (p->is_fragment || p->too_deep) {
		if (!policy->fail_closed || check_destination(policy, slot, p) != LIMPID_INTERCEPTED ||
		    check_program(skb, policy, user) != LIMPID_TO_LOOPBACK)
			return LIMPID_FRAGMENT;
		return LIMPID_DROPPED;
	}
	const int is_first = is_first_packet(p);
	if (p->protocol == IPPROTO_TCP) {
		struct socket_facts facts = {};
		struct bpf_sock *sock = find_socket(skb, p, p->source, p->source_port, p->destination, p->destination_port, &facts);
		if (sock) {
			const int is_flow = facts.belongs_to_flow && !(is_first && facts.is_over);
			bpf_sk_release(sock);
			if (is_flow && !is_special(p, p->destination))
				goto redirect;
		}
		if (!is_first)
			return LIMPID_UNKNOWN_CONNECTION;
	}
	if (!has_protocol_port(policy, p->protocol, p->destination_port))
		return LIMPID_OTHER_PORT;
	int decision = check_destination(policy, slot, p);
	if (decision != LIMPID_INTERCEPTED)
		return decision;
	if (p->protocol == IPPROTO_UDP && is_answer(p))
		return LIMPID_ANSWER;
	decision = check_program(skb, policy, user);
	if (decision != LIMPID_TO_LOOPBACK)
		return decision;
	/* A socket that is bound to an interface would never hear what comes back through lo. */
	struct bpf_sock *sender = skb->sk;
	sender = sender ? bpf_sk_fullsock(sender) : 0;
	if (sender && sender->bound_dev_if)
		return policy->fail_closed ? LIMPID_DROPPED : LIMPID_OTHER_PROGRAM;
	decision = policy->fail_closed ? LIMPID_REJECTED : LIMPID_NOBODY_LISTENS;
	if (policy->draining)
		return decision;
	struct socket_facts facts = {};
	struct bpf_sock *listener = find_listener(skb, p, policy->listener, &facts);
	if (!listener)
		return decision;
	bpf_sk_release(listener);
	if (!facts.listens)
		return decision;
redirect:
	skb->mark = policy->mark_mask;
	return LIMPID_TO_LOOPBACK;
}

static __always_inline int send_through_loopback(struct __sk_buff *skb)
{
	const __u32 index = skb->ifindex;
	const struct limpid_interface *interface = bpf_map_lookup_elem(&limpid_links, &index);
	/* eth_type_trans() compares with the address of lo, which is zero. */
	struct ethhdr header = { .h_proto = skb->protocol };
	if (interface && interface->headless && bpf_skb_change_head(skb, sizeof(header), 0))
		return 2; /* TC_ACT_SHOT */
	if (bpf_skb_store_bytes(skb, 0, &header, sizeof(header), 0))
		return 2;
	return bpf_redirect(1 /* lo */, BPF_F_INGRESS);
}
