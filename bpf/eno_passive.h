/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The call-backs of a passive opener (RFC 8547 section 4.6); their order: eno_handshake.h.
 */
#ifndef ENO_PASSIVE_H
#define ENO_PASSIVE_H

#include "eno_callback.h"
#include "eno_listener.h"
#include "eno_resume.h"
#include "eno_wish.h"

static __always_inline void eno_listen(struct bpf_sock_ops *ctx)
{
	struct eno_socket *e = eno_of(ctx->sk);
	__u64 cookie;

	if (eno_has_wish(e)) {
		eno_wish_listen(ctx, e);
		eno_call_me(ctx, e, STATE);
	}
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
	bpf_map_delete_elem(&eno_daemon_listeners, &cookie);
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

/* What the server behind the relay wishes of the daemon's decision. */
static __always_inline void eno_heed(const struct eno_settings *port, const struct eno_settings *listener,
				     struct eno_verdict *v)
{
	if (v->reason)
		return;
	if (port->wish.aa_mandatory && !(v->peer_gopt & GLOBAL_A))
		v->reason = TCP_ENO_REASON_UNAWARE; /* ENO-21 */
	else if (!tep_in(&listener->offer.reading.offered, v->tep))
		v->reason = TCP_ENO_REASON_NO_TEP; /* the daemon does not speak it */
	if (port->wish.no_cache)
		v->resume_tep = 0;
}

/* The SYN just arrived: decides, and remembers. `port`: of the server behind the relay, or NULL */
static __noinline void eno_syn_received(struct bpf_sock_ops *ctx, struct eno_settings *listener, __u64 cookie,
					     const struct eno_settings *port)
{
	__u8 global = listener->offer.reading.global | GLOBAL_B; /* ENO-16 */
	const struct eno_offer *offer = &listener->offer;
	struct eno_request request = {};
	struct tcp_options area;
	struct eno_verdict v;

	if (port) {
		global |= port->wish.gopt & GLOBAL_A;
		if (port->wish.teps_set)
			offer = &port->offer;
	}
	if (eno_syn_options(ctx, &area) < 0 || eno_decide_passive(offer, &area, &v) < 0)
		return;
	if (port)
		eno_heed(port, listener, &v);
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
		ours = bpf_map_lookup_elem(&eno_daemon_listeners, &listener);
	if (!ours)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	request = bpf_map_lookup_elem(&eno_requests, &cookie);
	if (!request) {
		const struct eno_settings *port = eno_steered(ctx) ? eno_port_of(ctx) : 0;

		/* A server that wishes no ENO: the daemon relays in plaintext, or refuses to, as it was told. */
		if (!port || !eno_wish_off(&port->wish))
			eno_syn_received(ctx, ours, cookie, port);
	} else if (!request->reason)
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
static __noinline void eno_accepted(struct bpf_sock_ops *ctx, struct eno_socket *e)
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

#endif
