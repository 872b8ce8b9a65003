// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Cut-through, at tc ingress of every interface and before everybody else: packets of a TCP flow about which nothing is left to decide are translated
// from one leg to the other and forwarded, datagrams too (cut_through_datagram.h); all others go on. limpid_cut_in is for interfaces with Ethernet headers, limpid_cut_ip for those without.
//
// The two connections of a relayed flow carry the same octets, so they differ by constants, which user space reads off our two sockets and writes into
// the maps (the algebra and the states are in docs/cut-through.md):
//
//   seq of a direction               + seq_delta
//   ack, and SACK blocks             - seq_delta of the other direction
//   window                           (field << the sender's scale) >> the scale that our socket announced on the other leg
//   TSval                            + stamp_delta, fixed at the direction's first packet by the clock of our socket
//   TSecr                            - stamp_delta of the other direction
//   addresses and ports              as the other leg has them
//
// draining: our sockets are still there, and get ACKs by clones. alone: nothing is left in user space. lingering: over, for late packets.
// resetting: ended from here, whoever still sends is answered with a reset.
#include <stddef.h>

#include "cut_through_datagram.h"
#include "cut_through_drain.h"
#include "cut_through_errors.h"
#include "cut_through_forward.h"
#include "cut_through_maps.h"
#include "cut_through_translate.h"

/* The packet's lengths; -1: not as IP and TCP have them. */
static __always_inline int read_segment(struct __sk_buff *skb, const struct packet *p, __u32 link, struct segment *s)
{
	struct tcphdr tcp;
	__u32 length = p->length;
	const __u32 there = skb->len - link;
	if (p->version == 4 ? length == 0 : length == sizeof(struct ipv6hdr)) /* more than 64 KiB, of GRO ("BIG TCP") */
		length = there;
	if (length > there || load(skb, p->transport, &tcp, sizeof(tcp)))
		return -1;
	s->at = link + p->transport;
	s->header_bytes = tcp.doff * 4;
	if (s->header_bytes < sizeof(tcp) || p->transport + s->header_bytes > length)
		return -1;
	s->payload_bytes = length - p->transport - s->header_bytes;
	s->seq = bpf_ntohl(tcp.seq);
	s->ack = bpf_ntohl(tcp.ack_seq);
	s->window = tcp.window;
	s->flags = p->tcp_flags;
	return 0;
}

/* What nobody knows who merely knows addresses and ports: a segment has to fit into both directions at once (RFC 5961, section 5.2), where each has room
   for what passed unseen. Unseen are octets that raced the flip, by our sockets; what our sockets announced room for while they drained; what was lost
   before it came here. Whatever is not believed is forwarded all the same, for the ends to judge. */
#define UNSEEN (1 << 20)
#define LATE (16 << 20)

static __always_inline int is_plausible(const struct limpid_cut_way *way, const struct limpid_cut_way *back, const struct segment *s, __u32 sent)
{
	const __u32 end = s->seq + s->payload_bytes;
	if (!(s->flags & TCP_ACK) || (s->flags & (TCP_RST | TCP_SYN)))
		return 0;
	if ((__s32)(end - later(way->limit, way->edge)) > UNSEEN || (__s32)(s->seq - (back->last_ack - way->seq_delta)) < -LATE)
		return 0;
	return (__s32)(s->ack - back->seq_delta - sent) <= UNSEEN && (__s32)(s->ack - way->last_ack) >= -LATE;
}

/* The highest octet goes up only: two processors may have a segment each. Nonzero: it went up. */
static __always_inline int raise_edge(struct limpid_cut_way *way, __u32 end)
{
	for (int i = 0; i < 8; i++) {
		const __u64 edge = way->edge;
		const __s32 ahead = end - (__u32)edge;
		if (ahead <= 0)
			return 0;
		if (__sync_val_compare_and_swap(&way->edge, edge, edge + ahead) == edge)
			return 1;
	}
	return 0;
}

/* What a receiver acknowledges, and how much room it announces. Two at once may lose one of the two: the next has it. */
static __always_inline void take_notice_of_ack(const struct limpid_cut_entry *entry, struct limpid_cut_flow *flow, struct limpid_cut_way *way,
					       struct limpid_cut_way *back, int direction, const struct segment *s, __u32 has_fin)
{
	const __u32 acked = s->ack - back->seq_delta; /* in the terms of who sent that */
	if ((__s32)(s->ack - way->last_ack) < 0)
		return;
	way->last_ack = s->ack;
	back->limit = later(back->limit, acked + ((__u32)bpf_ntohs(s->window) << (way->peer_scale & 15)));
	/* Its receiver has what passed unseen. One alone may be a FIN that our socket has passed on. */
	if (!has_fin && (__s32)(acked - (__u32)back->edge) > 1)
		raise_edge(back, acked);
	if (has_fin && acked == back->fin_end) {
		const __u32 before = __sync_fetch_and_or(&flow->happened, LIMPID_CUT_FIN_ACKED(!direction));
		if (!(before & LIMPID_CUT_FIN_ACKED(!direction)))
			tell(entry->flow);
	}
}

/* It goes on, until `end`, behind what was taken for its end. Not if that is the FIN right behind this segment: another processor may have noticed it since
   the segment raised the edge. */
static __always_inline void take_back_end(struct limpid_cut_flow *flow, const struct limpid_cut_way *way, int direction, __u32 end)
{
	const __u32 fin_end = way->fin_end;
	if ((__s32)(end + 1 - fin_end) <= 0)
		return;
	__sync_fetch_and_and(&flow->happened, ~(LIMPID_CUT_FIN(direction) | LIMPID_CUT_FIN_ACKED(direction)));
	if (way->fin_end != fin_end) /* noticed in the meantime: it is the new one */
		__sync_fetch_and_or(&flow->happened, LIMPID_CUT_FIN(direction));
}

/* Counts, and remembers what user space wants to know of an end, as far as it is plausible. */
static __always_inline void take_notice(const struct limpid_cut_entry *entry, struct limpid_cut_flow *flow, struct limpid_cut_way *way,
					struct limpid_cut_way *back, int direction, const struct segment *s, __u64 now)
{
	const __u32 end = s->seq + s->payload_bytes;
	const __u32 has_fin = (flow->happened & LIMPID_CUT_FIN(!direction)) != 0;
	const __u32 sent = later((__u32)back->edge + has_fin, back->right_edge);
	const int plausible = is_plausible(way, back, s, sent);
	__sync_fetch_and_add(&way->packets, 1);
	flow->last_ns = now;
	if (plausible) {
		take_notice_of_ack(entry, flow, way, back, direction, s, has_fin);
		/* Behind a FIN the seq of a bare ACK is one further. */
		if ((s->payload_bytes || (s->flags & TCP_FIN)) && raise_edge(way, end) && (flow->happened & LIMPID_CUT_FIN(direction)))
			take_back_end(flow, way, direction, end);
	}
	if (s->flags & TCP_RST) {
		/* Both ends are done: an ACK that came twice may have been answered so by one that is gone already. */
		const __u32 acked = LIMPID_CUT_FIN_ACKED(0) | LIMPID_CUT_FIN_ACKED(1);
		if (((flow->happened | LIMPID_CUT_FIN_ACKED(0) * (entry->finished & 3)) & acked) == acked)
			return;
		/* Whoever has been reset answers so what comes late. */
		if (flow->happened & LIMPID_CUT_RST(!direction))
			return;
		if (s->seq == back->last_ack - way->seq_delta || s->seq == (__u32)way->edge ||
		    ((flow->happened & LIMPID_CUT_FIN(direction)) && s->seq == way->fin_end)) {
			const __u32 before = __sync_fetch_and_or(&flow->happened, LIMPID_CUT_RST(direction));
			if (!(before & LIMPID_CUT_RST(direction)))
				tell(entry->flow);
		}
		return;
	}
	/* Whoever speaks has not been reset. What was under way when it was, its peer answers with a RST once more. */
	if (flow->happened & LIMPID_CUT_RST(!direction))
		__sync_fetch_and_and(&flow->happened, ~LIMPID_CUT_RST(!direction));
	if (plausible && (s->flags & TCP_FIN) && end == (__u32)way->edge) {
		way->fin_end = end + 1;
		__sync_fetch_and_or(&flow->happened, LIMPID_CUT_FIN(direction));
	}
}

static __always_inline int is_over(const struct limpid_cut_entry *entry, const struct limpid_cut_flow *flow)
{
	const __u32 acked = LIMPID_CUT_FIN_ACKED(0) | LIMPID_CUT_FIN_ACKED(1);
	const __u32 finished = flow->happened | LIMPID_CUT_FIN_ACKED(0) * (entry->finished & 3);
	return entry->phase >= LIMPID_CUT_LINGERING || (finished & acked) == acked || (flow->happened & (LIMPID_CUT_RST(0) | LIMPID_CUT_RST(1)));
}

/* Unless another flow has it by now. */
static __always_inline void give_up(const struct limpid_cut_tuple *tuple, __u64 flow)
{
	const struct limpid_cut_entry *entry = bpf_map_lookup_elem(&limpid_cut_ways, tuple);
	if (entry && entry->flow == flow)
		bpf_map_delete_elem(&limpid_cut_ways, tuple);
}

/* A new connection begins with a tuple of one that is over: it is for whoever intercepts, or for a socket here. */
static __always_inline int forget(const struct limpid_cut_entry *entry, struct limpid_cut_flow *flow)
{
	struct limpid_cut_tuple tuple;
	const __u64 id = entry->flow;
	/* Its sockets would answer. They go in a moment, and a SYN comes again. */
	if (entry->phase == LIMPID_CUT_DRAINING)
		return ACTION_DROP;
	__sync_fetch_and_or(&flow->happened, LIMPID_CUT_FIN_ACKED(0) * (entry->finished & 3) | LIMPID_CUT_FORGOTTEN |
					       (entry->recorded ? LIMPID_CUT_FORGOTTEN_RECORDED : 0));
	__builtin_memcpy(&tuple, &flow->ways[0].from, sizeof(tuple));
	give_up(&tuple, id);
	__builtin_memcpy(&tuple, &flow->ways[1].from, sizeof(tuple));
	give_up(&tuple, id);
	tell(id);
	return ACTION_NEXT;
}

static __always_inline int answer_with_reset(struct __sk_buff *skb, const struct packet *p, const __u32 link)
{
	count(LIMPID_CUT_RESETS);
	if (p->transport != (p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) || reset_connection(skb, p, link))
		return ACTION_DROP;
	const int sent = send_back(skb, 1, link == 0);
	return sent < 0 ? ACTION_DROP : sent;
}

/* The first fragment of a flow's packet: a fragment cannot be translated alone, and without its head the rest comes to nothing. */
static __always_inline int handle_fragment(struct __sk_buff *skb, struct packet *p)
{
	struct limpid_cut_tuple tuple;
	__be16 offset;
	if (p->protocol != IPPROTO_TCP || load(skb, p->version == 4 ? offsetof(struct iphdr, frag_off) : p->transport - 6, &offset, sizeof(offset)))
		return ACTION_NEXT;
	if (offset & (p->version == 4 ? bpf_htons(0x1fff) : bpf_htons(0xfff8)))
		return ACTION_NEXT;
	if (read_ports(skb, p))
		return ACTION_NEXT;
	tuple_of(p, &tuple);
	if (!bpf_map_lookup_elem(&limpid_cut_ways, &tuple))
		return ACTION_NEXT;
	count(LIMPID_CUT_FRAGMENTS);
	return ACTION_DROP;
}

/* For netfilter a flow is what its client sees: its packets are translated where they leave for the target (cut_out()), those of the target where they come
   in. The mark tells the rules of interception to let them go, and cut_out() whom to look at. */
static __always_inline int leave_to_kernel(struct __sk_buff *skb)
{
	count(LIMPID_CUT_FORWARDED);
	skb->mark = limpid_cut_mark;
	return ACTION_NEXT;
}

static __always_inline int handle_segment(struct __sk_buff *skb, struct packet *p, const __u32 link)
{
	struct limpid_cut_tuple tuple;
	struct segment s = {};
	tuple_of(p, &tuple);
	const struct limpid_cut_entry *entry = bpf_map_lookup_elem(&limpid_cut_ways, &tuple);
	if (!entry)
		return skb->mark == LIMPID_CUT_CLONE_MARK ? ACTION_DROP : ACTION_NEXT;
	struct limpid_cut_flow *flow = bpf_map_lookup_elem(&limpid_cut_flow, &entry->flow);
	if (!flow || read_segment(skb, p, link, &s))
		return ACTION_NEXT;
	const int direction = entry->direction == LIMPID_CUT_DOWN;
	struct limpid_cut_way *way = direction ? &flow->ways[1] : &flow->ways[0];
	struct limpid_cut_way *back = direction ? &flow->ways[0] : &flow->ways[1];
	if (skb->mark == LIMPID_CUT_CLONE_MARK) {
		if (entry->phase != LIMPID_CUT_DRAINING || make_bare_ack(skb, p, link, &s, way))
			return ACTION_DROP;
		skb->mark = 0;
		return ACTION_NEXT;
	}
	/* A new connection: of the client, or of a target leg to which the kernel has given the port anew. */
	if ((s.flags & TCP_SYN) && is_over(entry, flow))
		return forget(entry, flow);
	if (entry->phase == LIMPID_CUT_RESETTING)
		return answer_with_reset(skb, p, link);
	if (s.flags & TCP_SYN) {
		/* Of a client that has forgotten the flow. The target asks back, unless it has forgotten it as well: then it answers just that SYN. */
		if (!(s.flags & TCP_ACK) && direction == LIMPID_CUT_UP) {
			way->syn_seq = s.seq;
			__sync_fetch_and_or(&flow->happened, LIMPID_CUT_SYN);
		} else if (s.flags & TCP_ACK) {
			if (direction == LIMPID_CUT_DOWN && (flow->happened & LIMPID_CUT_SYN) && s.ack == back->syn_seq + back->seq_delta + 1 &&
			    !(__sync_fetch_and_or(&flow->happened, LIMPID_CUT_REPLACED) & LIMPID_CUT_REPLACED))
				tell(entry->flow);
			/* The ACK that was to end our handshake with a target that has said nothing yet may have been lost. It asks again, and the client's
			   answer to a SYN, an ACK (RFC 5961, section 4.2), is as good. Both may be waiting for the target's first word. */
			if (direction == LIMPID_CUT_UP || (flow->happened & LIMPID_CUT_SYN) || s.seq + 1 != (__u32)way->edge)
				return ACTION_DROP;
		}
	}
	const __u64 now = bpf_ktime_get_ns();
	take_notice(entry, flow, way, back, direction, &s, now);
	if (entry->phase == LIMPID_CUT_DRAINING && (s.flags & (TCP_ACK | TCP_RST)) == TCP_ACK)
		clone_for_socket(skb);

	/* With our sockets still there, early demux would give it to one of them. */
	const int by_netfilter = limpid_cut_netfilter && entry->released;
	if (by_netfilter && direction == LIMPID_CUT_UP)
		return leave_to_kernel(skb);
	__u8 hops;
	struct way_out out = {};
	if (load(skb, p->version == 4 ? offsetof(struct iphdr, ttl) : offsetof(struct ipv6hdr, hop_limit), &hops, 1))
		return ACTION_DROP;
	if (hops <= 1)
		return answer_expired(skb, p, link);
	const __u32 headers = p->transport + s.header_bytes;
	const __u32 bytes = headers + (skb->gso_size && skb->gso_size < s.payload_bytes ? skb->gso_size : s.payload_bytes);
	const long code = find_way_out(skb, p->version, way->to.source, way->to.destination, IPPROTO_TCP, way->to.source_port, way->to.destination_port,
				       bytes, skb->ifindex, direction == LIMPID_CUT_UP ? limpid_cut_mark : 0, &out);
	if (code == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return answer_too_big(skb, p, link, out.mtu);
	if (code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH) {
		count(LIMPID_CUT_NO_WAY);
		return ACTION_DROP;
	}
	if (translate_segment(skb, link, p->version, &s, flow, way, back, by_netfilter ? 0 : 1, now)) {
		count(LIMPID_CUT_FAILED);
		return ACTION_DROP;
	}
	if (!by_netfilter)
		return send_out(skb, link, &out);
	return leave_to_kernel(skb);
}

static __always_inline int cut_in(struct __sk_buff *skb, const __u32 link)
{
	struct packet p = {};
	if ((skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)) || skb->vlan_present || skb->pkt_type != 0 /* PACKET_HOST */)
		return ACTION_NEXT;
	if (read_packet(skb, &p) || p.too_deep)
		return ACTION_NEXT;
	if (p.is_error)
		return p.protocol == IPPROTO_UDP && !p.is_fragment ? handle_datagram_error(skb, &p, link) : handle_error(skb, &p, link);
	if (p.is_fragment)
		return handle_fragment(skb, &p);
	if (p.protocol == IPPROTO_UDP)
		return handle_datagram(skb, &p, link);
	return p.protocol == IPPROTO_TCP ? handle_segment(skb, &p, link) : ACTION_NEXT;
}

static __always_inline int our_socket_sends(struct __sk_buff *skb, const struct packet *p, const __u32 link)
{
	struct limpid_cut_tuple tuple, answers;
	struct segment s = {};
	tuple_of(p, &tuple);
	turn_around(&tuple, &answers);
	const struct limpid_cut_entry *entry = bpf_map_lookup_elem(&limpid_cut_ways, &answers);
	if (!entry || entry->phase != LIMPID_CUT_DRAINING)
		return ACTION_NEXT;
	struct limpid_cut_flow *flow = bpf_map_lookup_elem(&limpid_cut_flow, &entry->flow);
	if (!flow || read_segment(skb, p, link, &s) || (s.flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK || !is_as_sent(skb, &s))
		return ACTION_NEXT;
	const int direction = entry->direction == LIMPID_CUT_DOWN;
	struct limpid_cut_way *way = direction ? &flow->ways[1] : &flow->ways[0];
	const struct limpid_cut_way *back = direction ? &flow->ways[0] : &flow->ways[1];
	remember_sent(way, &s);
	renew_acknowledgement(skb, &s, flow, way, back, direction);
	return ACTION_NEXT;
}

/* At tc egress: what our sockets send while their flow drains; and where packets pass through netfilter, the client's, on their way to the target. */
static __always_inline int cut_out(struct __sk_buff *skb, const __u32 link)
{
	struct packet p = {};
	struct segment s = {};
	struct limpid_cut_tuple tuple;
	const int is_ours = skb->sk != 0;
	if (!is_ours && (!limpid_cut_netfilter || skb->mark != limpid_cut_mark))
		return ACTION_NEXT;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return ACTION_NEXT;
	if (read_packet(skb, &p) || p.too_deep || p.is_error || p.is_fragment || p.protocol != IPPROTO_TCP)
		return ACTION_NEXT;
	if (is_ours)
		return our_socket_sends(skb, &p, link);
	tuple_of(&p, &tuple);
	const struct limpid_cut_entry *entry = bpf_map_lookup_elem(&limpid_cut_ways, &tuple);
	if (!entry || !entry->released || entry->direction != LIMPID_CUT_UP)
		return ACTION_NEXT;
	struct limpid_cut_flow *flow = bpf_map_lookup_elem(&limpid_cut_flow, &entry->flow);
	if (!flow || read_segment(skb, &p, link, &s))
		return ACTION_NEXT;
	/* It may leave by more than one interface, as VLANs do: once is enough. */
	skb->mark = 0;
	if (translate_segment(skb, link, p.version, &s, flow, &flow->ways[LIMPID_CUT_UP], &flow->ways[LIMPID_CUT_DOWN], 0, bpf_ktime_get_ns())) {
		count(LIMPID_CUT_FAILED);
		return ACTION_DROP;
	}
	return ACTION_NEXT;
}

SEC("tc")
int limpid_cut_out(struct __sk_buff *skb)
{
	return cut_out(skb, ETH_HLEN);
}

SEC("tc")
int limpid_cut_oip(struct __sk_buff *skb)
{
	return cut_out(skb, 0);
}

SEC("tc")
int limpid_cut_in(struct __sk_buff *skb)
{
	return cut_in(skb, ETH_HLEN);
}

SEC("tc")
int limpid_cut_ip(struct __sk_buff *skb)
{
	return cut_in(skb, 0);
}

/* By BPF_PROG_TEST_RUN, before a flow or session begins: would its packets be forwarded? A frame with the addresses and ports as they would leave; its `mark`:
   the interface where they come in; its `priority`: the mark of policy routing. The result: the interface where they leave; 0: none. */
SEC("tc")
int limpid_cut_try(struct __sk_buff *skb)
{
	struct packet p = {};
	struct way_out out = {};
	if (read_packet(skb, &p) || (p.protocol != IPPROTO_TCP && p.protocol != IPPROTO_UDP))
		return 0;
	const long code = find_way_out(skb, p.version, p.source, p.destination, p.protocol, p.source_port, p.destination_port, 0, skb->mark, skb->priority, &out);
	return code == BPF_FIB_LKUP_RET_SUCCESS || code == BPF_FIB_LKUP_RET_NO_NEIGH || code == BPF_FIB_LKUP_RET_FRAG_NEEDED ? out.link : 0;
}

/* bpf_skc_lookup_tcp() and others are for programs under a licence that is compatible with the GPL. */
char limpid_license[] SEC("license") = "Dual MIT/GPL";
