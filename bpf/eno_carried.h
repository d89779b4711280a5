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

#include "eno_wish.h"

/* Longer than any connect(2) may take: an entry that no connection followed is of no use to a later one. */
#define ENO_CARRIED_PATIENCE (180ULL * 1000 * 1000 * 1000)

/* An entry of an earlier connection from here to there. */
static __noinline void eno_carried_forget(struct bpf_sock_ops *ctx)
{
	struct eno_tuple key = {};

	if (!ctx->sk)
		return;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	bpf_map_delete_elem(&eno_carried, &key);
}

static __noinline struct eno_carried *eno_carried_of(struct bpf_sock_ops *ctx, __u32 opener)
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

/* The application is connected: to the daemon, where the key exchange with the far host may take longer, or past it.
 * Returns the state of a carried socket. */
static __noinline struct eno_socket *eno_carried_connected(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct eno_carried *c = eno_carried_of(ctx, ENO_ACTIVE);

	if (eno_has_wish(e) && e->set.wish.tep_mandatory && !(c && c->now.phase == TCP_ENO_PHASE_ENCRYPTING))
		eno_sever(ctx);
	if (eno_has_wish(e)) {
		eno_mark_syn(ctx, e, false);
		eno_wish_forget(ctx);
	}
	if (!c)
		return 0;
	return e ? e : eno_create(ctx->sk);
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

/* A server's socket, connected with the daemon or with the far host itself. */
static __noinline void eno_carried_accepted(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct eno_carried *c = eno_carried_of(ctx, ENO_PASSIVE);

	if (c && (c->taken || bpf_ktime_get_ns() - c->published > ENO_CARRIED_PATIENCE))
		c = 0;
	if (eno_has_wish(e) && e->set.wish.tep_mandatory && !(c && c->now.phase == TCP_ENO_PHASE_ENCRYPTING))
		eno_sever(ctx);
	if (!c)
		return;
	if (!e)
		e = eno_create(ctx->sk);
	if (!e)
		return;
	c->taken = 1;
	eno_carried_keep(e, c);
}

#endif
