// SPDX-License-Identifier: MIT OR GPL-2.0-only
// A SYN that meets the TIME_WAIT of an older connection with the same addresses and ports. A listener that it is given to cannot take it: the request would stand beside
// that socket (inet_ehash_insert(), Linux 6.10 and later). So it is given to the TIME_WAIT socket itself, which judges it, gives way, and asks for a
// listener on the address that was dialled (tcp_v4_rcv(), TCP_TW_SYN). limpid_reopen answers that question, for just these SYNs.
#pragma once

#include "maps.h"
#include "packet.h"
#include "sockets.h"

/* As limpid_reopen will be asked. */
static __always_inline void connection_of(const struct packet *p, struct limpid_connection *connection)
{
	__builtin_memcpy(connection->remote, p->source, sizeof(connection->remote));
	__builtin_memcpy(connection->local, p->destination, sizeof(connection->local));
	connection->remote_port = p->source_port;
	connection->local_port = p->destination_port;
}

/* A slot is written when it is empty, as it is when its listener has been closed, or when a policy has another one. Not each time: the update of a SOCKMAP takes locks, and one with
   the socket that is there was wrong until 2024 ("bpf, sockmap: Fix update element with same"). */
static __always_inline void remember_listener(__u32 family, struct bpf_sock *listener)
{
	struct bpf_sock *known = bpf_map_lookup_elem(&limpid_listeners, &family);
	if (known)
		bpf_sk_release(known);
	else
		bpf_map_update_elem(&limpid_listeners, &family, listener, BPF_NOEXIST);
}

/* 0: given to the socket in TIME_WAIT. Without the map or the program it answers by itself, the client resets it, and its next SYN, a second later, is free to go. */
static __always_inline int give_to_time_wait(struct __sk_buff *skb, const struct packet *p, struct bpf_sock *listener)
{
	struct limpid_connection connection = {};
	struct socket_facts facts = {};
	const __u32 family = p->version == 6;
	const __u8 present = 1;
	struct bpf_sock *sock = find_socket(skb, p, p->source, p->source_port, p->destination, p->destination_port, &facts);
	if (!sock)
		return -1;
	int failed = -1;
	if (facts.is_over) {
		connection_of(p, &connection);
		remember_listener(family, listener);
		bpf_map_update_elem(&limpid_reopened, &connection, &present, BPF_ANY);
		failed = bpf_sk_assign(skb, sock, 0) != 0;
	}
	bpf_sk_release(sock);
	return failed;
}

/* Asked whenever the kernel looks for a listener: leaves all to others but what give_to_time_wait() has announced. */
SEC("sk_lookup")
int limpid_reopen(struct bpf_sk_lookup *context)
{
	struct limpid_connection connection = {};
	const __u32 family = context->family == FAMILY_IPV6;
	/* All of them in any case, each at its own offset: the verifier does not want a pointer to one of two fields. */
	const __u32 remote = context->remote_ip4;
	const __u32 local = context->local_ip4;
	connection.remote[0] = context->remote_ip6[0];
	connection.remote[1] = context->remote_ip6[1];
	connection.remote[2] = context->remote_ip6[2];
	connection.remote[3] = context->remote_ip6[3];
	connection.local[0] = context->local_ip6[0];
	connection.local[1] = context->local_ip6[1];
	connection.local[2] = context->local_ip6[2];
	connection.local[3] = context->local_ip6[3];
	connection.remote_port = context->remote_port;
	connection.local_port = bpf_htons(context->local_port);
	if (context->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (!family) {
		connection.remote[2] = connection.local[2] = bpf_htonl(0xffff);
		connection.remote[3] = remote;
		connection.local[3] = local;
	}
	if (bpf_map_delete_elem(&limpid_reopened, &connection))
		return SK_PASS;
	struct bpf_sock *listener = bpf_map_lookup_elem(&limpid_listeners, &family);
	if (!listener)
		return SK_PASS;
	bpf_sk_assign(context, listener, 0);
	bpf_sk_release(listener);
	return SK_PASS;
}
