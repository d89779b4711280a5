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

#include "eno_state.h"
#include "eno_listener.h"
#include "eno_resume.h"
#include "eno_carried.h"

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

static __always_inline void eno_give_up(struct bpf_sock_ops *ctx, struct eno_socket *e, __u8 reason)
{
	eno_plain(e, reason);
	eno_call_me(ctx, e, 0);
}

/* ---- Active opener ---- */

static __always_inline void eno_connect(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	eno_carried_forget(ctx);
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
static __always_inline void eno_active_established(struct bpf_sock_ops *ctx, struct eno_socket *e)
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

/* ---- Passive opener ---- */

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

static __always_inline void eno_listen(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);
	__u64 cookie;

	if (!eno_is_raw(e))
		return;
	__builtin_memset(&e->now, 0, sizeof(e->now));
	__builtin_memset(e->session_id, 0, sizeof(e->session_id));
	e->now.phase = TCP_ENO_PHASE_LISTEN;
	cookie = bpf_get_socket_cookie(ctx);
	bpf_map_update_elem(&eno_listeners, &cookie, &e->set, BPF_ANY);
	e->marked = eno_set_mark(ctx, true);
	eno_call_me(ctx, e, WRITE | STATE);
}

static __always_inline void eno_listener_closed(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	bpf_map_delete_elem(&eno_listeners, &cookie);
}

/* Copies the options of the SYN that is being answered. A SYN-ACK that is sent again, by the timer or to a repeated SYN,
 * has none at hand. So a repeated SYN cannot be compared with the first one: where its opener gave up ENO, the first ACK
 * says so; where a box on the path altered it, the transcripts differ. */
static __always_inline int eno_syn_options(struct bpf_sock_ops *ctx, struct tcp_options *area)
{
	__u8 header[TCP_HEADER_FIXED + TCP_ENO_OPTION_MAX];
	long length = bpf_getsockopt(ctx, IPPROTO_TCP, TCP_BPF_SYN, header, sizeof(header));

	if (length < TCP_HEADER_FIXED || length > (long)sizeof(header))
		return -1;
	area->length = length - TCP_HEADER_FIXED;
	__builtin_memcpy(area->bytes, header + TCP_HEADER_FIXED, TCP_ENO_OPTION_MAX);
	return 0;
}

/* The SYN just arrived: decides, and remembers. */
static __always_inline void eno_syn_received(struct bpf_sock_ops *ctx, struct eno_settings *listener, __u64 cookie)
{
	__u8 global = listener->offer.reading.global | GLOBAL_B; /* ENO-16 */
	struct eno_request request = {};
	struct tcp_options area;
	struct eno_verdict v;

	if (eno_syn_options(ctx, &area) < 0 || eno_decide_passive(&listener->offer, &area, &v) < 0)
		return;
	if (v.reason == TCP_ENO_REASON_ABSENT)
		return; /* the common case: nothing to remember */
	request.reason = v.reason;
	request.peer_gopt = v.peer_gopt;
	request.syn = v.peer;
	if (!v.reason) {
		bool reserved = eno_resume(ctx, &listener->group, &v, global, &request);

		if (!request.tep) {
			request.tep = v.tep;
			request.synack.length = 2;
			request.synack.bytes[0] = global;
			request.synack.bytes[1] = v.tep; /* ENO-25 */
			if (!reserved && bpf_reserve_hdr_opt(ctx, 4, 0))
				request.reason = TCP_ENO_REASON_NO_ROOM;
		}
	}
	bpf_map_update_elem(&eno_requests, &cookie, &request, BPF_ANY);
}

static __always_inline void eno_synack_length(struct bpf_sock_ops *ctx)
{
	__u64 listener, cookie;
	struct eno_request *request;
	struct eno_settings *ours;

	if (ctx->args[0] == BPF_WRITE_HDR_TCP_SYNACK_COOKIE)
		return; /* a SYN cookie keeps nothing, so there would be no transcript */
	listener = eno_listener_cookie(ctx);
	ours = bpf_map_lookup_elem(&eno_listeners, &listener);
	if (!ours)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	request = bpf_map_lookup_elem(&eno_requests, &cookie);
	if (!request)
		eno_syn_received(ctx, ours, cookie);
	else if (!request->reason)
		bpf_reserve_hdr_opt(ctx, request->synack.length + 2, 0); /* again, byte for byte (ENO-32) */
}

static __always_inline void eno_synack_write(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct eno_request *request = bpf_map_lookup_elem(&eno_requests, &cookie);
	__u8 option[TCP_ENO_OPTION_MAX] = {};
	__u32 length;

	if (!request || request->reason || ctx->args[0] == BPF_WRITE_HDR_TCP_SYNACK_COOKIE)
		return;
	length = eno_write_option(option, 0, &request->synack);
	if (length >= 2 && length <= sizeof(option))
		bpf_store_hdr_opt(ctx, option, length, 0);
}

/* The first ACK has arrived; `e` is still the copy of the listener's state. */
static __always_inline void eno_accepted(struct bpf_sock_ops *ctx, struct eno_socket *e)
{
	__u8 first_ack[TCP_ENO_OPTION_MAX] = {TCP_ENO_KIND};
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct eno_request *request = bpf_map_lookup_elem(&eno_requests, &cookie);
	bool acknowledged;

	if (e->marked)
		eno_set_mark(ctx, false);
	e->marked = 0;
	__builtin_memset(&e->now, 0, sizeof(e->now));
	__builtin_memset(&e->set.group, 0, sizeof(e->set.group)); /* the listener's: who gets this socket has no part in it */
	eno_call_me(ctx, e, 0);

	acknowledged = !(ctx->skb_tcp_flags & TCP_FLAG_SYN) && /* a Fast Open child: no ACK yet */
		       bpf_load_hdr_opt(ctx, first_ack, sizeof(first_ack), 0) >= 2;
	if (!request) {
		eno_plain(e, acknowledged ? TCP_ENO_REASON_FORGOTTEN : TCP_ENO_REASON_ABSENT);
		return;
	}
	e->now.peer_gopt = request->peer_gopt;
	if (request->reason || !acknowledged) {
		eno_plain(e, request->reason ? request->reason : TCP_ENO_REASON_NO_ACK); /* ENO-28 */
	} else {
		e->now.phase = TCP_ENO_PHASE_ENCRYPTING;
		e->now.role = 1;
		e->now.tep = request->tep;
		eno_write_transcript(&e->now, &request->syn, &request->synack);
	}
	bpf_map_delete_elem(&eno_requests, &cookie);
}

/* ---- Both ---- */

static __always_inline void eno_active_opened(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (eno_is_raw(e)) {
		if (e->now.phase == TCP_ENO_PHASE_OFFERED)
			eno_active_established(ctx, e);
		return;
	}
	e = eno_carried_connected(ctx);
	if (e)
		eno_call_me(ctx, e, STATE);
}

static __always_inline void eno_passive_opened(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);

	if (!eno_is_raw(e))
		eno_carried_accepted(ctx);
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
	if (!eno_is_raw(e))
		eno_carried_state(ctx, e);
	else if (ctx->args[0] == BPF_TCP_LISTEN)
		eno_listener_closed(ctx);
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

static __always_inline void eno_header_write(struct bpf_sock_ops *ctx)
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
