/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Connections that the daemon carries: what getsockopt() tells an application whose own socket never asked for ENO.
 * The daemon publishes the outcome of the negotiation, and the session ID, under the addresses and ports that the
 * application's socket has; the application asks on that socket.
 *
 *     active opener    CONNECT              an entry of an earlier connection goes: nobody can be shown its ID
 *                                           (the daemon publishes while it holds the SYN, and again with the ID)
 *                      ACTIVE_ESTABLISHED   STATE call-backs, if the daemon carries this connection
 *                      STATE                the socket keeps what it has until close(2), whatever becomes of the entry
 *     passive opener   (the daemon publishes, then connects to the server)
 *                      PASSIVE_ESTABLISHED  the accepted socket takes it over, once
 */
#ifndef ENO_CARRIED_H
#define ENO_CARRIED_H

#include "eno_state.h"

/* Longer than any connect(2) may take: an entry that no connection followed is of no use to a later one. */
#define ENO_CARRIED_PATIENCE (180ULL * 1000 * 1000 * 1000)

static __always_inline void eno_map_ipv4(__u32 *address, __u32 ipv4)
{
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

/* The tuple as the socket sees it. `key` must be zero. */
static __always_inline void eno_tuple_of(struct bpf_sock *sk, __u64 netns_cookie, struct eno_tuple *key)
{
	__u32 *local = (__u32 *)key->local, *remote = (__u32 *)key->remote;

	key->netns_cookie = netns_cookie;
	if (sk->family == AF_INET6) {
		local[0] = sk->src_ip6[0];
		local[1] = sk->src_ip6[1];
		local[2] = sk->src_ip6[2];
		local[3] = sk->src_ip6[3];
		remote[0] = sk->dst_ip6[0];
		remote[1] = sk->dst_ip6[1];
		remote[2] = sk->dst_ip6[2];
		remote[3] = sk->dst_ip6[3];
	} else {
		eno_map_ipv4(local, sk->src_ip4);
		eno_map_ipv4(remote, sk->dst_ip4);
	}
	key->local_port = bpf_htons(sk->src_port);
	key->remote_port = sk->dst_port;
}

/* An entry of an earlier connection from here to there. */
static __always_inline void eno_carried_forget(struct bpf_sock_ops *ctx)
{
	struct eno_tuple key = {};

	if (!ctx->sk)
		return;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	bpf_map_delete_elem(&eno_carried, &key);
}

static __always_inline struct eno_carried *eno_carried_of(struct bpf_sock_ops *ctx, __u32 opener)
{
	struct eno_tuple key = {};
	struct eno_carried *c;

	if (!ctx->sk)
		return 0;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	c = bpf_map_lookup_elem(&eno_carried, &key);
	return c && c->opener == opener ? c : 0;
}

static __always_inline void eno_carried_keep(struct eno_socket *e, const struct eno_carried *c)
{
	e->now = c->now;
	__builtin_memcpy(e->session_id, c->session_id, sizeof(e->session_id));
}

/* The application's connection to the daemon is there; the key exchange with the far host may take longer. */
static __always_inline struct eno_socket *eno_carried_connected(struct bpf_sock_ops *ctx)
{
	if (!eno_carried_of(ctx, ENO_ACTIVE))
		return 0;
	return eno_create(ctx->sk);
}

/* The state of a carried socket changes: it ends, sooner or later. */
static __always_inline void eno_carried_state(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct eno_carried *c;

	if (e->now.sessid_length)
		return;
	c = eno_carried_of(ctx, ENO_ACTIVE);
	if (c && c->now.sessid_length)
		eno_carried_keep(e, c);
}

/* The daemon has connected to the server. */
static __always_inline struct eno_socket *eno_carried_accepted(struct bpf_sock_ops *ctx)
{
	struct eno_carried *c = eno_carried_of(ctx, ENO_PASSIVE);
	struct eno_socket *e;

	if (!c || c->taken || bpf_ktime_get_ns() - c->published > ENO_CARRIED_PATIENCE)
		return 0;
	e = eno_create(ctx->sk);
	if (!e)
		return 0;
	c->taken = 1;
	eno_carried_keep(e, c);
	return e;
}

#endif
