// SPDX-License-Identifier: MIT OR GPL-2.0-only
// What arrives: finds the socket of its flow, or gives it to the listener, and marks it so that policy routing delivers it here (tc ingress, on every
// interface). The path is that of the nft table in src/intercept/nft_table.cc. limpid_decide is the same without acting: for tests and `limpid explain`.
#include "layout.h"
#include "local.h"
#include "maps.h"
#include "packet.h"
#include "reject.h"
#include "reopen.h"
#include "scope.h"
#include "sockets.h"

#define LOOPBACK 1 /* LOOPBACK_IFINDEX in include/net/flow.h */
#define ACTION_NEXT (-1)
#define ACTION_DROP 2

static __always_inline void mark_for_delivery(struct __sk_buff *skb, const struct limpid_policy *policy)
{
	if ((skb->mark & policy->mark_mask) != policy->mark_mask) /* this host's own packets keep theirs */
		skb->mark = (skb->mark & ~policy->mark_mask) | policy->mark_intercept;
}

/* Gives a packet to the socket of its flow, if there is one. An error (ICMP) needs the mark only: the kernel finds the socket by itself. */
static __always_inline int divert(struct __sk_buff *skb, const struct limpid_policy *policy, const struct packet *p, int act)
{
	int decision = LIMPID_UNKNOWN_CONNECTION;
	struct socket_facts facts = {};
	const __u32 *local = p->is_error ? p->source : p->destination;
	const __u32 *remote = p->is_error ? p->destination : p->source;
	struct bpf_sock *sock = p->is_error ? find_socket(skb, p, remote, p->destination_port, local, p->source_port, &facts)
					    : find_socket(skb, p, remote, p->source_port, local, p->destination_port, &facts);
	if (!sock)
		return decision;
	/* A SYN that meets the end of an older connection begins a new one. */
	const int is_over = facts.is_over && !p->is_error && is_first_packet(p);
	if (facts.belongs_to_flow && !is_over && !is_special(p, local)) {
		/* One that is bound to an address of this host needs no help. */
		if (skb->ifindex != LOOPBACK && is_own_address(skb, policy, p, remote, local))
			decision = LIMPID_LOCAL_DESTINATION;
		else if (!act || p->is_error || bpf_sk_assign(skb, sock, 0) == 0)
			decision = LIMPID_DIVERTED;
	}
	bpf_sk_release(sock);
	if (act && decision == LIMPID_DIVERTED)
		mark_for_delivery(skb, policy);
	return decision;
}

/* Nobody takes it. */
static __always_inline int fail(const struct limpid_policy *policy)
{
	return policy->fail_closed ? LIMPID_REJECTED : LIMPID_NOBODY_LISTENS;
}

static __always_inline int give_to_listener(struct __sk_buff *skb, const struct limpid_policy *policy, const struct packet *p, int act)
{
	int decision = fail(policy);
	if (policy->draining)
		return decision;
	struct socket_facts facts = {};
	struct bpf_sock *sock = find_listener(skb, p, policy->listener, &facts);
	if (!sock)
		return decision;
	if (facts.listens) {
		if (!act || (p->protocol == IPPROTO_TCP && is_first_packet(p) && give_to_time_wait(skb, p, sock) == 0) || bpf_sk_assign(skb, sock, 0) == 0)
			decision = LIMPID_INTERCEPTED;
	}
	bpf_sk_release(sock);
	if (act && decision == LIMPID_INTERCEPTED)
		mark_for_delivery(skb, policy);
	return decision;
}

/* Whoever dials the listener itself: it would dial itself, for ever. */
static __always_inline int dials_listener(struct __sk_buff *skb, const struct limpid_policy *policy, const struct packet *p)
{
	return policy->guards_listener && p->protocol == IPPROTO_TCP && is_first_packet(p) &&
	       p->destination_port == bpf_htons(policy->listener) &&
	       (skb->ifindex == LOOPBACK || is_own_address(skb, policy, p, p->source, p->destination));
}

static __always_inline int decide(struct __sk_buff *skb, struct packet *p, int act)
{
	__u32 slot = 0;
	const struct limpid_policy *policy = active_policy(&slot);
	if (!policy || (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)))
		return skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD) ? LIMPID_TAGGED : LIMPID_OTHER_PROTOCOL;
	if (skb->vlan_present)
		return LIMPID_TAGGED;
	if (skb->pkt_type != 0 /* PACKET_HOST */)
		return LIMPID_NOT_ADDRESSED;
	if (read_packet(skb, p))
		return LIMPID_MALFORMED;
	const __u32 mark = skb->mark & policy->mark_mask;
	if (skb->ifindex == LOOPBACK && act) {
		if (policy->local && mark == policy->mark_mask && !p->is_fragment) {
			const int decision = divert(skb, policy, p, act);
			return decision == LIMPID_DIVERTED ? decision : give_to_listener(skb, policy, p, act);
		}
		return mark == 0 && dials_listener(skb, policy, p) ? LIMPID_REJECTED : LIMPID_LOCAL_DESTINATION;
	}
	if (p->is_fragment || p->too_deep)
		return p->is_error ? LIMPID_OTHER_PROTOCOL : decide_fragment(skb, policy, slot, p);
	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return LIMPID_OTHER_PROTOCOL;
	if (policy->local && act && p->protocol == IPPROTO_UDP && !p->is_error)
		remember_client(skb, policy, p);
	if (!(p->protocol == IPPROTO_TCP && !p->is_error && is_first_packet(p))) {
		const int decision = divert(skb, policy, p, act);
		if (decision != LIMPID_UNKNOWN_CONNECTION || p->is_error)
			return decision;
	}
	if (mark != 0 && mark == policy->mark_bypass)
		return LIMPID_OWN_SOCKET;
	if (dials_listener(skb, policy, p))
		return LIMPID_REJECTED;
	if (!policy->forwarded)
		return LIMPID_OTHER_SOURCE;
	if (!policy->fail_closed && !is_first_packet(p))
		return LIMPID_UNKNOWN_CONNECTION;
	if (!has_protocol_port(policy, p->protocol, p->destination_port))
		return LIMPID_OTHER_PORT;
	int decision = check_destination(policy, slot, p);
	if (decision == LIMPID_INTERCEPTED)
		decision = check_source(skb, policy, slot, p);
	if (decision != LIMPID_INTERCEPTED)
		return decision;
	if (is_own_address(skb, policy, p, p->source, p->destination))
		return LIMPID_LOCAL_DESTINATION;
	if (p->protocol == IPPROTO_TCP && is_first_packet(p)) {
		decision = divert(skb, policy, p, act);
		if (decision == LIMPID_DIVERTED)
			return decision;
	}
	return give_to_listener(skb, policy, p, act);
}

SEC("tc")
int limpid_ingress(struct __sk_buff *skb)
{
	struct packet p = {};
	const int decision = decide(skb, &p, 1);
	if ((decision == LIMPID_REJECTED || decision == LIMPID_DROPPED) && !is_ours(skb))
		return ACTION_NEXT;
	count(decision);
	if (decision == LIMPID_REJECTED)
		return reject(skb, &p, 1);
	return decision == LIMPID_DROPPED ? ACTION_DROP : ACTION_NEXT;
}

/* What limpid_ingress would decide, as the return value of BPF_PROG_TEST_RUN; or limpid_egress, with LIMPID_SENT_HERE in cb[0] and the user in cb[1].
 * The socket of such a run is in the cgroup of the one who asks. */
SEC("tc")
int limpid_decide(struct __sk_buff *skb)
{
	struct packet p = {};
	if (skb->cb[0] == LIMPID_SENT_HERE)
		return decide_local(skb, &p, skb->cb[1]);
	return decide(skb, &p, 0);
}

SEC("tc")
int limpid_egress(struct __sk_buff *skb)
{
	struct packet p = {};
	if (!is_ours(skb))
		return ACTION_NEXT;
	const int decision = count(decide_local(skb, &p, bpf_get_socket_uid(skb)));
	if (decision == LIMPID_TO_LOOPBACK)
		return send_through_loopback(skb);
	if (decision == LIMPID_REJECTED)
		return reject(skb, &p, 0);
	return decision == LIMPID_DROPPED ? ACTION_DROP : ACTION_NEXT;
}

/* bpf_skc_lookup_tcp() and others are for programs under a licence that is compatible with the GPL. */
char limpid_license[] SEC("license") = "Dual MIT/GPL";
