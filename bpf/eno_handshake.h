/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The handshake call-backs (RFC 8547 section 4.6). In the order in which a connection meets them:
 *
 *     active opener                            passive opener
 *     CONNECT            offer                 LISTEN               publish the settings
 *     HDR_OPT_LEN/WRITE  SYN + option          HDR_OPT_LEN/WRITE    decide; SYN-ACK + option
 *     ACTIVE_ESTABLISHED decide                PASSIVE_ESTABLISHED  first ACK: take over; flags off
 *     HDR_OPT_LEN/WRITE  ACK + 2-byte option   STATE                listener closed: forget it
 *     PARSE              non-SYN: flags off
 *
 * Space is reserved in HDR_OPT_LEN and filled in WRITE_HDR_OPT. Once a connection is decided no call-back runs any
 * more: established traffic costs nothing.
 */
#ifndef ENO_HANDSHAKE_H
#define ENO_HANDSHAKE_H

#include "eno_active.h"
#include "eno_passive.h"


static __always_inline void eno_active_opened(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (eno_is_raw(e)) {
		if (e->now.phase == TCP_ENO_PHASE_OFFERED)
			eno_active_established(ctx, e);
		return;
	}
	e = eno_carried_connected(ctx, e);
	if (e)
		eno_call_me(ctx, e, STATE);
}

static __always_inline void eno_passive_opened(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (!eno_is_raw(e))
		eno_carried_accepted(ctx, e);
	else if (e->now.phase == TCP_ENO_PHASE_LISTEN)
		eno_accepted(ctx, e);
	else if (e->now.phase == TCP_ENO_PHASE_OFFERED)
		eno_crossed(ctx, e);
}

static __always_inline void eno_state_changed(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (!e)
		return;
	if (ctx->args[0] != BPF_TCP_LISTEN)
		eno_carried_state(ctx, e);
	else if (eno_is_raw(e))
		eno_listener_closed(ctx);
	else
		eno_wish_unlisten(ctx);
}

static __always_inline void eno_header_length(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e;

	if (!ctx->sk) {
		eno_synack_length(ctx);
		return;
	}
	e = eno_of(ctx->sk);
	if (!e)
		return;
	if (e->now.acknowledging)
		eno_ack_length(ctx, e);
	else if (e->now.phase == TCP_ENO_PHASE_OFFERED && ctx->args[0] != BPF_WRITE_HDR_TCP_CURRENT_MSS &&
		 ctx->skb_tcp_flags & TCP_FLAG_SYN)
		eno_syn_length(ctx, e);
}

static __noinline void eno_header_write(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e;

	if (!ctx->sk) {
		eno_synack_write(ctx);
		return;
	}
	e = eno_of(ctx->sk);
	if (!e)
		return;
	if (e->now.acknowledging)
		eno_ack_write(ctx);
	else if (e->now.phase == TCP_ENO_PHASE_OFFERED)
		eno_syn_write(ctx, e);
}

#endif
