// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Translation of a TCP segment from one leg's terms to the other's: addresses, ports, seq, ack, SACK blocks, window, timestamps. Checksums are carried
// along by differences, so that a packet that was damaged before it came here is still seen to be by its receiver.
#pragma once

#include "answer.h"
#include "cut_through_maps.h"

#define CSUM_OF_IPV6 (1 << 7) /* BPF_F_IPV6, Linux 6.16: without it a CHECKSUM_COMPLETE of IPv6 is spoilt */
#define STAMP_MARGIN_MS 100   /* above what our socket sent last: late packets of the peer must not fall below it (PAWS) */
#define STAMP_FIXED (1ULL << 32)

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_SACK 5
#define OPTION_TIMESTAMPS 8
#define ALIGNED_TIMESTAMPS bpf_htonl(0x0101080a) /* RFC 7323, appendix A: how nearly everybody writes them */

struct segment {
	__u32 at; /* offset of the TCP header from the packet's first octet */
	__u32 header_bytes;
	__u32 payload_bytes;
	__u32 seq; /* host order */
	__u32 ack;
	__be16 window;
	__u8 flags;
};

/* What a direction does to timestamps. */
struct stamps {
	__u32 delta;
	__u32 fixed; /* 0: by the first packet; 2: this was it */
	__u32 clock; /* of our socket, if it still were there */
	__u32 echo_delta;
	__u32 echo_first;
	__u32 echo_known;
};

struct option_walk {
	__u32 at;
	__u32 end;
	__u32 sum; /* of the differences */
	__u32 sack_delta;
	__u32 limits; /* instead: nothing changes but that no SACK block goes beyond `sack_limit` */
	__u32 sack_limit;
	struct stamps stamps;
};

/* Two words, network order: TSval and TSecr. An echo of what our socket sent, not the peer, means nothing to the peer: 0, which is none. */
static __always_inline void shift_stamps(struct stamps *s, __be32 *words)
{
	const __u32 value = bpf_ntohl(words[0]);
	const __u32 echo = bpf_ntohl(words[1]);
	if (!s->fixed) {
		s->delta = s->clock - value;
		s->fixed = 2;
	}
	words[0] = bpf_htonl(value + s->delta);
	if (echo)
		words[1] = s->echo_known && (__s32)(echo - s->echo_first) >= 0 ? bpf_htonl(echo - s->echo_delta) : 0;
}

/* The sum of differences of words that lie at an odd place is that of swapped octets (RFC 1071). */
static __always_inline __u32 at_place(__u32 sum, __u32 at)
{
	sum = fold(sum);
	return at & 1 ? (sum << 8 | sum >> 8) & 0xffff : sum;
}

static __always_inline __be32 sack_edge(const struct option_walk *w, __be32 word)
{
	const __u32 edge = bpf_ntohl(word);
	if (!w->limits)
		return bpf_htonl(edge - w->sack_delta);
	return (__s32)(edge - w->sack_limit) > 0 ? bpf_htonl(w->sack_limit) : word;
}

/* Options in any layout. Malformed ones are left as they are: the receiver will do with them what the kernel would. `at` is counted from the
   packet's first octet; checksums of an odd link header (there is none) would be wrong. */
__noinline int walk_options(struct __sk_buff *skb, struct option_walk *w)
{
	if (!w)
		return -1;
	for (int i = 0; i < 40; i++) {
		__u8 head[2];
		__be32 old[2];
		__be32 new[2];
		const __u32 at = w->at;
		if (at >= w->end || bpf_skb_load_bytes(skb, at, head, 1) || head[0] == OPTION_END)
			return 0;
		if (head[0] == OPTION_NOP) {
			w->at = at + 1;
			continue;
		}
		if (bpf_skb_load_bytes(skb, at, head, 2) || head[1] < 2 || at + head[1] > w->end)
			return 0;
		w->at = at + head[1];
		if (head[0] == OPTION_TIMESTAMPS && head[1] == 10 && !w->limits) {
			if (bpf_skb_load_bytes(skb, at + 2, old, sizeof(old)))
				return -1;
			__builtin_memcpy(new, old, sizeof(new));
			shift_stamps(&w->stamps, new);
			w->sum += at_place(bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0), at);
			if (bpf_skb_store_bytes(skb, at + 2, new, sizeof(new), 0))
				return -1;
		} else if (head[0] == OPTION_SACK && head[1] >= 10 && (head[1] - 2) % 8 == 0) {
			for (int block = 0; block < 4; block++) {
				const __u32 place = at + 2 + block * 8;
				if (place + 8 > w->at)
					break;
				if (bpf_skb_load_bytes(skb, place, old, sizeof(old)))
					return -1;
				new[0] = sack_edge(w, old[0]);
				new[1] = sack_edge(w, old[1]);
				w->sum += at_place(bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0), place);
				if (bpf_skb_store_bytes(skb, place, new, sizeof(new), w->limits ? BPF_F_RECOMPUTE_CSUM : 0))
					return -1;
			}
		}
	}
	return 0;
}

static __always_inline void read_stamps(const struct limpid_cut_flow *flow, const struct limpid_cut_way *way, const struct limpid_cut_way *back,
					__u64 now, struct stamps *s)
{
	const __u64 delta = way->stamp_delta;
	const __u64 echo = back->stamp_delta;
	s->delta = delta;
	s->fixed = (delta & STAMP_FIXED) != 0;
	s->clock = way->clock + (__u32)((now - flow->flipped_ns) / 1000000) + STAMP_MARGIN_MS;
	s->echo_delta = echo;
	s->echo_known = (echo & STAMP_FIXED) != 0;
	s->echo_first = back->first_stamp;
}

/* Whoever comes first fixes it. Two at once differ by a millisecond at most, which is the order that packets have anyhow. */
static __always_inline void keep_stamps(struct limpid_cut_way *way, const struct stamps *s)
{
	if (s->fixed != 2)
		return;
	way->first_stamp = s->clock;
	way->stamp_delta = STAMP_FIXED | s->delta;
}

/* RFC 7323: the field is shifted by what its sender announced; the other leg's peer shifts it by what our socket announced there. */
static __always_inline __u16 translate_window(const struct limpid_cut_way *way, __u16 field)
{
	const __u32 window = ((__u32)bpf_ntohs(field) << (way->peer_scale & 15)) >> (way->our_scale & 15);
	return bpf_htons(window > 0xffff ? 0xffff : window);
}

/* Makes sure that `bytes` can be read and written directly. */
static __always_inline int have_linear(struct __sk_buff *skb, __u32 bytes)
{
	if ((long)skb->data + bytes <= (long)skb->data_end)
		return 0;
	return bpf_skb_pull_data(skb, bytes) ? -1 : 0;
}

/* Addresses, and `hops` off TTL or hop limit. Returns the difference for the pseudo header. */
static __always_inline int translate_ip(struct __sk_buff *skb, __u32 link, __u8 version, const __u32 *source, const __u32 *destination, __u32 hops,
					__u32 *pseudo)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	if (version == 4) {
		struct iphdr *ip = data + link;
		if ((void *)(ip + 1) > end)
			return -1;
		__be32 old[3] = {ip->saddr, ip->daddr, bpf_htonl((__u32)ip->ttl << 24)};
		__be32 new[3] = {source[3], destination[3], bpf_htonl((__u32)(ip->ttl - hops) << 24)};
		*pseudo = bpf_csum_diff(old, 8, new, 8, 0);
		const __u32 sum = bpf_csum_diff(old, 12, new, 12, ~ip->check & 0xffff);
		ip->saddr = source[3];
		ip->daddr = destination[3];
		ip->ttl -= hops;
		ip->check = ~fold(sum);
		return 0;
	}
	struct ipv6hdr *ip = data + link;
	if ((void *)(ip + 1) > end)
		return -1;
	__be32 old[8];
	__be32 new[8];
	__builtin_memcpy(old, &ip->saddr, sizeof(old));
	__builtin_memcpy(new, source, 16);
	__builtin_memcpy(new + 4, destination, 16);
	*pseudo = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);
	__builtin_memcpy(&ip->saddr, new, sizeof(new));
	/* No checksum takes the hop limit in, but CHECKSUM_COMPLETE does. */
	const __be32 before = bpf_htonl(ip->hop_limit);
	const __be32 after = bpf_htonl((__u32)ip->hop_limit - hops);
	ip->hop_limit -= hops;
	bpf_csum_update(skb, bpf_csum_diff((__be32 *)&before, 4, (__be32 *)&after, 4, 0));
	return 0;
}

/* `at`: of the checksum. */
static __always_inline int fix_checksum(struct __sk_buff *skb, __u32 at, __u8 version, __u32 sum, __u32 pseudo)
{
	if (sum && bpf_l4_csum_replace(skb, at, 0, sum, 0))
		return -1;
	if (fold(pseudo) == 0 || fold(pseudo) == 0xffff)
		return 0;
	if (version == 6 && bpf_l4_csum_replace(skb, at, 0, pseudo, BPF_F_PSEUDO_HDR | CSUM_OF_IPV6) == 0)
		return 0;
	return bpf_l4_csum_replace(skb, at, 0, pseudo, BPF_F_PSEUDO_HDR) ? -1 : 0;
}

/* 0: done. Otherwise the packet is spoilt. */
static __always_inline int translate_segment(struct __sk_buff *skb, __u32 link, __u8 version, const struct segment *s, struct limpid_cut_flow *flow,
					     struct limpid_cut_way *way, const struct limpid_cut_way *back, __u32 hops, __u64 now)
{
	struct option_walk walk = {};
	__u32 at = s->at;
	__u32 pseudo = 0;
	asm volatile("" : "+r"(at));
	if (at > 1024 || have_linear(skb, at + s->header_bytes) || translate_ip(skb, link, version, way->to.source, way->to.destination, hops, &pseudo))
		return -1;
	void *end = (void *)(long)skb->data_end;
	__be32 *tcp = (void *)(long)skb->data + at;
	if ((void *)(tcp + 5) > end)
		return -1;
	__be32 old[4] = {tcp[0], tcp[1], tcp[2], tcp[3]};
	struct tcphdr *header = (void *)tcp;
	header->source = way->to.source_port;
	header->dest = way->to.destination_port;
	header->seq = bpf_htonl(s->seq + way->seq_delta);
	if (s->flags & TCP_ACK)
		header->ack_seq = bpf_htonl(s->ack - back->seq_delta);
	if (!(s->flags & (TCP_RST | TCP_SYN)))
		header->window = translate_window(way, header->window);
	__be32 new[4] = {tcp[0], tcp[1], tcp[2], tcp[3]};
	walk.sum = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);
	if (s->header_bytes > sizeof(struct tcphdr)) {
		walk.at = at + sizeof(struct tcphdr);
		walk.end = at + s->header_bytes;
		walk.sack_delta = back->seq_delta;
		read_stamps(flow, way, back, now, &walk.stamps);
		if (s->header_bytes >= 32 && (void *)(tcp + 8) <= end && tcp[5] == ALIGNED_TIMESTAMPS) {
			__be32 before[2] = {tcp[6], tcp[7]};
			__be32 after[2] = {tcp[6], tcp[7]};
			shift_stamps(&walk.stamps, after);
			tcp[6] = after[0];
			tcp[7] = after[1];
			walk.sum = bpf_csum_diff(before, sizeof(before), after, sizeof(after), walk.sum);
			walk.at += 12;
		}
		walk.sum = fold(walk.sum);
		if (walk.at < walk.end && walk_options(skb, &walk))
			return -1;
		keep_stamps(way, &walk.stamps);
	}
	return fix_checksum(skb, at + offsetof(struct tcphdr, check), version, walk.sum, pseudo);
}
