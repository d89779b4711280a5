/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What an application that does not speak a TEP itself wishes for its connections: the options of the draft. For the
 * daemon these are wishes; that a connection must not be plain (TCP_ENO_TEP_MANDATORY) is seen to here, whether or not
 * there is a daemon.
 */
#ifndef ENO_WISH_H
#define ENO_WISH_H

#include "eno_callback.h"
#include "eno_listener.h"
#include "eno_state.h"

/* TCP_ENO_ENABLED 0, or no TEP. */
static __always_inline bool eno_wish_off(const struct eno_wish *w)
{
	return (w->enabled_set && w->enabled == 1) || (w->teps_set && !w->teps_length);
}

/* No network interface has this number. */
#define NO_INTERFACE 0x7fffffff

static __always_inline bool eno_has_wish(const struct eno_socket *e)
{
	return e && !eno_is_raw(e) && e->set.wish.present;
}

/* The daemon shall be asked though the kernel knows that the destination is plain. */
static __always_inline bool eno_insists(const struct eno_wish *w)
{
	return w->tep_mandatory || (w->enabled_set && w->enabled == 2);
}

/* Ends a connection that must not be plain. A BPF program cannot abort it; so no segment of its reaches the network from
 * now on, and none reaches it (the peer gets RST), until TCP gives it up: in about two seconds, with ETIMEDOUT. Before its
 * SYN is sent, connect(2) fails with EHOSTUNREACH.
 * `to` is the context, or the socket, whichever bpf_setsockopt() wants. */
#define eno_sever(to)                                                                                                  \
	({                                                                                                             \
		int nowhere = NO_INTERFACE, on = 1, impatience = 1000;                                                 \
                                                                                                                       \
		bpf_setsockopt(to, SOL_SOCKET, SO_BINDTOIFINDEX, &nowhere, sizeof(nowhere));                           \
		bpf_setsockopt(to, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof(on));                                        \
		bpf_setsockopt(to, IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof(on));                                       \
		bpf_setsockopt(to, IPPROTO_TCP, TCP_USER_TIMEOUT, &impatience, sizeof(impatience));                    \
		bpf_setsockopt(to, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));                                         \
	})

/* What a listener's wishes amount to. The contents are well-formed, so their reading needs no parser. */
static __always_inline void eno_wish_offer(const struct eno_wish *wish, struct eno_offer *offer)
{
	__u32 i;

	offer->contents.bytes[0] = offer->reading.global = (wish->gopt & GLOBAL_A) | GLOBAL_B;
	offer->reading.globals = 1;
	offer->contents.length = 1;
#pragma clang loop unroll(full)
	for (i = 0; i < ENO_WISH_TEPS; i++) {
		__u8 tep = wish->teps[i] & 0x7f;

		if (i >= wish->teps_length)
			continue;
		offer->contents.bytes[1 + i] = offer->reading.tep_at[1 + i] = offer->reading.last_tep = tep;
		tep_add(&offer->reading.offered, tep);
		offer->reading.suboptions++;
		offer->contents.length++;
	}
}

/* A listener with wishes: the daemon answers SYNs in its name. */
static __noinline int eno_wish_listen(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct eno_peer_key key = {};
	struct bpf_sock *sk = ctx->sk;
	struct eno_settings *port;

	if (!sk || !e)
		return 0;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	eno_address_of(sk, key.address);
	key.port = bpf_htons(sk->src_port);
	e->set.listener = bpf_get_socket_cookie(ctx);
	bpf_map_update_elem(&eno_ports, &key, &e->set, BPF_ANY);
	port = bpf_map_lookup_elem(&eno_ports, &key);
	if (!port)
		return 0;
	eno_wish_offer(&port->wish, &port->offer);
	return 0;
}

static __noinline int eno_wish_unlisten(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct eno_peer_key key = {};
	struct eno_settings *port;

	if (!sk)
		return 0;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	eno_address_of(sk, key.address);
	key.port = bpf_htons(sk->src_port);
	port = bpf_map_lookup_elem(&eno_ports, &key);
	if (port && port->listener == bpf_get_socket_cookie(ctx))
		bpf_map_delete_elem(&eno_ports, &key);
	return 0;
}

/* The wishes of the server whose SYN a listener of the daemon answers: what it is bound to, exactly or to any address. */
static __noinline const struct eno_settings *eno_port_of(struct bpf_sock_ops *ctx)
{
	struct eno_peer_key key = {};
	__u32 *address = (__u32 *)key.address;
	const struct eno_settings *port;

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.port = bpf_htons(ctx->local_port);
	if (ctx->family == AF_INET6) {
		address[0] = ctx->local_ip6[0];
		address[1] = ctx->local_ip6[1];
		address[2] = ctx->local_ip6[2];
		address[3] = ctx->local_ip6[3];
	} else {
		eno_map_ipv4(address, ctx->local_ip4);
	}
	port = bpf_map_lookup_elem(&eno_ports, &key);
	if (port)
		return port;
	address[0] = address[1] = address[2] = address[3] = 0; /* [::] */
	if (ctx->family != AF_INET6) {
		eno_map_ipv4(address, 0);
		port = bpf_map_lookup_elem(&eno_ports, &key);
		if (port)
			return port;
		address[2] = 0;
	}
	return bpf_map_lookup_elem(&eno_ports, &key);
}

/* The SYNs, and no later segment, of a socket that insists carry the mark that the rules of the firewall look at. */
static __always_inline void eno_mark_syn(struct bpf_sock_ops *ctx, struct eno_socket *e, bool on)
{
	if (on && !e->marked)
		e->marked = eno_set_mark(ctx, true);
	else if (!on && e->marked)
		e->marked = !eno_set_mark(ctx, false);
}

/* connect(2): the daemon, which gets the SYN, finds what this socket wishes. */
static __noinline int eno_wish_connect(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct eno_tuple key = {};
	struct bpf_sock *sk = ctx->sk;
	__u64 netns;

	if (!sk || !e)
		return 0;
	eno_mark_syn(ctx, e, eno_insists(&e->set.wish));
	/* Without a daemon, nobody would encrypt; and what travels in the SYN, nobody can. connect(2) fails at once. */
	netns = bpf_get_netns_cookie(ctx);
	if (e->set.wish.tep_mandatory && (eno_sends_syn_data(ctx) || !bpf_map_lookup_elem(&eno_defaults, &netns)))
		eno_sever(ctx);
	eno_tuple_of(sk, netns, &key);
	bpf_map_update_elem(&eno_wishes, &key, &e->set.wish, BPF_ANY);
	return 0;
}

/* The daemon has read it, or there is none; or it is of an earlier connection from here to there. */
static __noinline int eno_wish_forget(struct bpf_sock_ops *ctx)
{
	struct eno_tuple key = {};

	if (!ctx->sk)
		return 0;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	bpf_map_delete_elem(&eno_wishes, &key);
	return 0;
}

#endif
