/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The call-backs of an active opener (RFC 8547 section 4.6); their order: eno_handshake.h.
 */
#ifndef ENO_ACTIVE_H
#define ENO_ACTIVE_H

#include "eno_callback.h"
#include "eno_carried.h"

static __always_inline void eno_connect(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	eno_carried_forget(ctx);
	if (eno_has_wish(e))
		eno_wish_connect(ctx, e);
	else
		eno_wish_forget(ctx);
	if (!e)
		return;
	__builtin_memset(&e->now, 0, sizeof(e->now)); /* of an earlier connection of this socket */
	__builtin_memset(e->session_id, 0, sizeof(e->session_id));
	if (!eno_is_raw(e))
		return;
	e->now.phase = TCP_ENO_PHASE_OFFERED;
	eno_call_me(ctx, e, WRITE);
}

static __always_inline void eno_syn_length(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	bool crossed = ctx->skb_tcp_flags & TCP_FLAG_ACK; /* the SYN-ACK of a simultaneous open: as the SYN (ENO-32) */

	if (!crossed && e->now.syns_with_eno >= e->set.syn_tries) { /* ENO-33: off for good, whatever answers */
		eno_give_up(ctx, e, TCP_ENO_REASON_GIVEN_UP);
		return;
	}
	if (bpf_reserve_hdr_opt(ctx, e->set.offer.contents.length + 2, 0))
		eno_give_up(ctx, e, TCP_ENO_REASON_NO_ROOM);
}

static __always_inline void eno_syn_write(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	__u8 option[TCP_ENO_OPTION_MAX] = {}, fast_open[18] = {TCP_OPTION_FAST_OPEN};
	__u8 *header = ctx->skb_data;
	__u32 length;

	/* ENO-39, ENO-40: no data, and no Fast Open cookie, in a SYN with ENO. The room stays filled with NOPs. */
	if (header + TCP_HEADER_FIXED > (__u8 *)ctx->skb_data_end ||
	    ctx->skb_len > (__u32)(header[12] >> 4) * 4 ||
	    bpf_load_hdr_opt(ctx, fast_open, sizeof(fast_open), 0) > 2) {
		eno_give_up(ctx, e, TCP_ENO_REASON_SYN_DATA);
		return;
	}
	length = eno_write_option(option, 0, &e->set.offer.contents);
	if (length < 2 || length > sizeof(option) || bpf_store_hdr_opt(ctx, option, length, 0)) {
		eno_give_up(ctx, e, TCP_ENO_REASON_NO_ROOM);
		return;
	}
	e->now.syns_with_eno++;
}

/* Copies the options of the segment that a call-back of an established connection is about. */
static __always_inline void eno_received_options(struct bpf_sock_ops *ctx, struct tcp_options *area)
{
	__u8 *header = ctx->skb_data, *end = ctx->skb_data_end;
	__u32 i;

	__builtin_memset(area, 0, sizeof(*area));
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_OPTION_MAX; i++) {
		if (header + TCP_HEADER_FIXED + i + 1 > end)
			break;
		area->bytes[i] = header[TCP_HEADER_FIXED + i];
	}
	area->length = i;
}

/* A SYN-ACK has arrived; in a simultaneous open also the SYN-ACK that follows the crossing SYNs (ENO-32: it has the
 * same option). */
static __noinline void eno_active_established(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	struct tcp_options area;
	struct eno_verdict v;

	eno_received_options(ctx, &area);
	if (eno_decide_active(&e->set.offer, &e->set.expect, &area, &v) < 0)
		v.reason = TCP_ENO_REASON_ABSENT;
	e->now.peer_gopt = v.peer_gopt;
	if (v.reason) {
		eno_give_up(ctx, e, v.reason);
		return;
	}
	e->now.phase = TCP_ENO_PHASE_ENCRYPTING;
	e->now.acknowledging = 1;
	e->now.tep = v.tep;
	e->now.role = v.self_b;
	if (v.self_b)
		eno_write_transcript(&e->now, &v.peer, &e->set.offer.contents);
	else
		eno_write_transcript(&e->now, &e->set.offer.contents, &v.peer);
	eno_call_me(ctx, e, WRITE | PARSE);
}

/* The end of a simultaneous open. No call-back shows us the SYN that came while ours was under way: its option is known
 * from the SYN-ACK that follows. Where our SYN was lost, the peer sends none, only an ACK: it has our option, and we do
 * not have the peer's. */
static __always_inline void eno_crossed(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	__u8 ack[TCP_ENO_OPTION_MAX] = {TCP_ENO_KIND};

	if (ctx->skb_tcp_flags & TCP_FLAG_SYN)
		eno_active_established(ctx, e);
	else
		eno_give_up(ctx, e, bpf_load_hdr_opt(ctx, ack, sizeof(ack), 0) >= 2 ? TCP_ENO_REASON_FORGOTTEN :
										       TCP_ENO_REASON_ABSENT);
}

static __always_inline void eno_acknowledged(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	e->now.acknowledging = 0;
	eno_call_me(ctx, e, 0);
}

static __always_inline void eno_ack_length(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	/* The kernel's fast path skips PARSE for segments in sequence: data that has arrived, or data of ours that
	 * was acknowledged (the SYN is the first byte), tells of a non-SYN segment as well. */
	if (ctx->bytes_received > 0 || ctx->bytes_acked > 1)
		eno_acknowledged(ctx, e);
	else
		bpf_reserve_hdr_opt(ctx, 2, 0);
}

static __always_inline void eno_ack_write(struct bpf_sock_ops *ctx)
{
	__u8 option[2] = {TCP_ENO_KIND, 2};

	bpf_store_hdr_opt(ctx, option, sizeof(option), 0);
}

static __always_inline void eno_segment_received(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (e && e->now.acknowledging && !(ctx->skb_tcp_flags & TCP_FLAG_SYN))
		eno_acknowledged(ctx, e);
}

#endif
