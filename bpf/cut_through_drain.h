// SPDX-License-Identifier: MIT OR GPL-2.0-only
// While a flow drains, our two sockets still wait for their peers to acknowledge what they sent. Every packet with an ACK is cloned, comes in once more
// with a mark, and is made into something that the socket takes as an ACK and nothing else: no payload, no FIN, and sequence numbers that it accepts.
//
// seq: the right edge of the window that the socket announced. That is acceptable whatever the socket has received in the meantime (tcp_sequence() in
//   net/ipv4/tcp_input.c), a segment without payload moves nothing, and the edge never retreats.
// ack: at most what the socket has sent. The peer acknowledges also what the other end sent past our socket, and a socket discards a segment that
//   acknowledges what it has not sent (tcp_ack()). Its snd_nxt is not enough: it is raised only after the segment has been passed on (tcp_write_xmit()
//   in net/ipv4/tcp_output.c), and an acknowledgement may be back before that. So what it sends is seen on its way out.
#pragma once

#include <stddef.h>

#include "answer.h"
#include "cut_through_maps.h"
#include "cut_through_translate.h"

#define CURRENT_NAMESPACE (-1)

static __always_inline __u32 later(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0 ? a : b;
}

/* What the socket has received and sent, from itself where it is to be found: it may have gone on since the flip. */
static __always_inline void look_at_socket(struct __sk_buff *skb, const struct packet *p, __u32 *rcv_nxt, __u32 *snd_nxt)
{
	struct bpf_sock_tuple tuple = {};
	if (p->version == 4) {
		tuple.ipv4.saddr = p->source[3];
		tuple.ipv4.daddr = p->destination[3];
		tuple.ipv4.sport = p->source_port;
		tuple.ipv4.dport = p->destination_port;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, p->source, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, p->destination, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->source_port;
		tuple.ipv6.dport = p->destination_port;
	}
	struct bpf_sock *sock = p->version == 4 ? bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), CURRENT_NAMESPACE, 0)
						: bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), CURRENT_NAMESPACE, 0);
	if (!sock)
		return;
	const struct bpf_tcp_sock *tcp = bpf_tcp_sock(sock);
	if (tcp) {
		*rcv_nxt = later(tcp->rcv_nxt, *rcv_nxt);
		*snd_nxt = later(tcp->snd_nxt, *snd_nxt);
	}
	bpf_sk_release(sock);
}

/* The clone has come in. Written with BPF_F_RECOMPUTE_CSUM, so that what the device has summed up stays right. */
static __always_inline int make_bare_ack(struct __sk_buff *skb, const struct packet *p, __u32 link, const struct segment *s, const struct limpid_cut_way *way)
{
	__u8 header[60] = {};
	__u32 bytes = s->header_bytes;
	__u32 rcv_nxt = way->right_edge;
	__u32 snd_nxt = way->write_seq;
	struct option_walk walk = {.at = s->at + sizeof(struct tcphdr), .end = s->at + bytes, .limits = 1};
	asm volatile("" : "+r"(bytes));
	if (bytes < sizeof(struct tcphdr) || bytes > sizeof(header) || s->at > 1024)
		return -1;
	if (skb->len > s->at + bytes && bpf_skb_change_tail(skb, s->at + bytes, 0))
		return -1;
	look_at_socket(skb, p, &rcv_nxt, &snd_nxt);
	walk.sack_limit = snd_nxt;
	if (walk_options(skb, &walk))
		return -1;
	if (bpf_skb_load_bytes(skb, s->at, header, bytes))
		return -1;
	struct tcphdr *tcp = (void *)header;
	tcp->seq = bpf_htonl(rcv_nxt);
	if ((__s32)(s->ack - snd_nxt) > 0)
		tcp->ack_seq = bpf_htonl(snd_nxt);
	tcp->syn = 0;
	tcp->fin = 0;
	tcp->psh = 0;
	tcp->urg = 0;
	tcp->urg_ptr = 0;
	tcp->check = 0;
	const __be32 tail = bpf_htonl(bytes + IPPROTO_TCP);
	__u32 sum = add_words(&tail, sizeof(tail), 0);
	if (p->version == 4)
		sum = add_words(&p->destination[3], 4, add_words(&p->source[3], 4, sum));
	else
		sum = add_words(p->destination, 16, add_words(p->source, 16, sum));
	bytes = (bytes / 4 * 4) & 63;
	tcp->check = ~fold(bpf_csum_diff(0, 0, (__be32 *)header, bytes, sum));
	if (bytes < sizeof(struct tcphdr) || bpf_skb_store_bytes(skb, s->at, header, bytes, BPF_F_RECOMPUTE_CSUM))
		return -1;
	if (p->version == 6) {
		const __be16 payload = bpf_htons(p->transport + bytes - sizeof(struct ipv6hdr));
		return bpf_skb_store_bytes(skb, link + offsetof(struct ipv6hdr, payload_len), &payload, sizeof(payload), BPF_F_RECOMPUTE_CSUM);
	}
	struct iphdr ip;
	if (load(skb, 0, &ip, sizeof(ip)))
		return -1;
	const __be32 old = bpf_htonl(bpf_ntohs(ip.tot_len));
	const __be32 new = bpf_htonl(p->transport + bytes);
	const __u32 difference = bpf_csum_diff((__be32 *)&old, 4, (__be32 *)&new, 4, ~ip.check & 0xffff);
	ip.tot_len = bpf_htons(p->transport + bytes);
	ip.check = ~fold(difference);
	return bpf_skb_store_bytes(skb, link, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* The packet itself goes on. The kernel makes it writable again (bpf_clone_redirect() in net/core/filter.c). */
static __always_inline void clone_for_socket(struct __sk_buff *skb)
{
	const __u32 mark = skb->mark;
	skb->mark = LIMPID_CUT_CLONE_MARK;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = mark;
	count(LIMPID_CUT_CLONED);
}

/* At tc egress: whether the socket that the packet belongs to has made it, as it is. A packet that was forwarded from another network namespace still
   belongs to its sender there, but was translated. */
static __always_inline int is_as_sent(struct __sk_buff *skb, const struct segment *s)
{
	struct bpf_sock *sock = skb->sk;
	if (!sock)
		return 0;
	sock = bpf_sk_fullsock(sock);
	if (!sock)
		return 0;
	const struct bpf_tcp_sock *tcp = bpf_tcp_sock(sock);
	return tcp && tcp->rcv_nxt == s->ack && (__s32)(s->seq - tcp->snd_nxt) <= 0 && (__s32)(s->seq - tcp->snd_una) >= -1;
}

/* What our socket still sends while its flow drains, for the acknowledgement to be believed. Its transmissions come one by one. */
static __always_inline void remember_sent(struct limpid_cut_way *way, const struct segment *s)
{
	way->write_seq = later(s->seq + s->payload_bytes + ((s->flags & TCP_FIN) != 0), way->write_seq);
}

/* Our socket does not hear of what its peer sends past it, so what it acknowledges gets old, and a peer takes no data
   whose acknowledgement is older than a window (RFC 5961, section 5.2; tcp_ack()). It gets the latest that the other end has acknowledged to that peer. */
static __always_inline void renew_acknowledgement(struct __sk_buff *skb, const struct segment *s, const struct limpid_cut_flow *flow,
						  const struct limpid_cut_way *way, const struct limpid_cut_way *back, int direction)
{
	const __u32 ack = back->last_ack - way->seq_delta;
	const __u32 sent = later((__u32)way->edge + ((flow->happened & LIMPID_CUT_FIN(direction)) != 0), way->right_edge);
	if ((__s32)(ack - s->ack) <= 0 || (__s32)(ack - sent) > 0)
		return;
	const __be32 old = bpf_htonl(s->ack);
	const __be32 renewed = bpf_htonl(ack);
	if (bpf_l4_csum_replace(skb, s->at + offsetof(struct tcphdr, check), old, renewed, sizeof(renewed)) == 0)
		bpf_skb_store_bytes(skb, s->at + offsetof(struct tcphdr, ack_seq), &renewed, sizeof(renewed), 0);
}
