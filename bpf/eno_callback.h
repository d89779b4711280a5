/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the call-backs change at the socket: which of them run, and the mark.
 */
#ifndef ENO_CALLBACK_H
#define ENO_CALLBACK_H

#include "eno_state.h"

#define WRITE BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG
#define PARSE BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG
#define STATE BPF_SOCK_OPS_STATE_CB_FLAG

/* Asks for exactly the call-backs `want`; those that other programs asked for stay. */
static __always_inline void eno_call_me(struct bpf_sock_ops *ctx, struct eno_socket *e, __u32 want)
{
	__u32 others = ctx->bpf_sock_ops_cb_flags & ~e->flags;

	e->flags = want & ~others;
	bpf_sock_ops_cb_flags_set(ctx, others | want);
}

/* Sets or clears TCP_ENO_LISTENER_MARK; true when that changed the mark. */
static __always_inline bool eno_set_mark(struct bpf_sock_ops *ctx, bool on)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 mark;

	if (!sk || !!(sk->mark & TCP_ENO_LISTENER_MARK) == on)
		return false;
	mark = sk->mark ^ TCP_ENO_LISTENER_MARK;
	return !bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

static __always_inline void eno_give_up(struct bpf_sock_ops *ctx, struct eno_socket *e, __u8 reason)
{
	eno_plain(e, reason);
	eno_call_me(ctx, e, 0);
}

#endif
