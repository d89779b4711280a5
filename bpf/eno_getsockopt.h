/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * getsockopt: the options of include/tcp_eno.h.
 */
#ifndef ENO_GETSOCKOPT_H
#define ENO_GETSOCKOPT_H

#include "eno_wish_sockopt.h"

/* The option is about the outcome of a negotiation. */
static __always_inline void eno_answer_outcome(int name, const struct tcp_eno_state *now, const __u8 *session_id,
					       struct eno_answer *a)
{
	if (now->phase != TCP_ENO_PHASE_ENCRYPTING) {
		a->error = now->phase == TCP_ENO_PHASE_PLAIN ? EINVAL : ENOTCONN;
		return;
	}
	switch (name) {
	case TCP_ENO_NEGTEP:
		eno_answer_int(a, now->tep);
		return;
	case TCP_ENO_PEER_GOPT:
		eno_answer_int(a, now->peer_gopt);
		return;
	case TCP_ENO_ROLE:
		eno_answer_int(a, now->role);
		return;
	case TCP_ENO_TRANSCRIPT:
		a->length = now->transcript_length;
		__builtin_memcpy(a->bytes, now->transcript, sizeof(now->transcript));
		return;
	}
	if (name == TCP_CRYPT_CONF && now->cipher) {
		eno_answer_int(a, now->cipher);
		return;
	}
	if (!now->sessid_length || name == TCP_CRYPT_CONF) {
		a->error = ENOTCONN; /* API-12: never an empty ID */
		return;
	}
	if (name == TCP_ENO_SESSID) {
		a->length = now->sessid_length;
		__builtin_memcpy(a->bytes, session_id, TCP_ENO_SESSID_MAX);
	} else {
		a->length = now->sessid_length + 1;
		a->bytes[0] = name == TCP_ENO_SELF_NAME ? now->role : !now->role;
		__builtin_memcpy(a->bytes + 1, session_id, TCP_ENO_SESSID_MAX);
	}
}

static __always_inline void eno_answer_state(const struct tcp_eno_state *now, struct eno_answer *a)
{
	a->length = sizeof(*now);
	__builtin_memcpy(a->bytes, now, sizeof(*now));
}

static __always_inline void eno_answer_about(int name, const struct tcp_eno_state *now, const __u8 *session_id,
					     struct eno_answer *a)
{
	if (name == TCP_ENO_STATE)
		eno_answer_state(now, a);
	else
		eno_answer_outcome(name, now, session_id, a);
}

/* What became of the negotiation: by the socket itself, or else by the daemon that carries its connection. */
static __always_inline void eno_answer_negotiation(struct bpf_sockopt *ctx, struct eno_socket *e, struct eno_answer *a)
{
	struct eno_tuple key = {};
	struct eno_carried *c;

	if (eno_is_raw(e) || (e && e->now.phase)) {
		eno_answer_about(ctx->optname, &e->now, e->session_id, a);
		return;
	}
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	c = bpf_map_lookup_elem(&eno_carried, &key);
	if (c && c->opener == ENO_ACTIVE)
		eno_answer_about(ctx->optname, &c->now, c->session_id, a);
	else if (ctx->optname == TCP_ENO_STATE && e)
		eno_answer_state(&e->now, a);
	else if (eno_has_wish(e) && eno_wish_off(&e->set.wish))
		a->error = EINVAL;
	else if (ctx->optname != TCP_ENO_STATE && (ctx->sk->state == BPF_TCP_CLOSE || ctx->sk->state == BPF_TCP_LISTEN ||
						   ctx->sk->state == BPF_TCP_SYN_SENT))
		a->error = ENOTCONN;
	else
		a->error = EINVAL; /* nobody has asked for ENO */
}

static __always_inline void eno_answer_resumption(struct eno_answer *a)
{
	struct eno_resumption now = eno_resumption_now();

	if (now.refused)
		a->error = EACCES;
	else
		eno_answer_int(a, now.generation);
}

static __always_inline int eno_getsockopt(struct bpf_sockopt *ctx)
{
	struct eno_answer answer = {};
	struct eno_socket *e;

	if (!ctx->sk || ctx->sk->protocol != IPPROTO_TCP || ctx->retval != -ENOPROTOOPT)
		return PASS;
	e = eno_of(ctx->sk);
	switch (ctx->optname) {
	case TCP_ENO_RAW:
		answer.length = e ? e->set.offer.contents.length : 0;
		if (e)
			__builtin_memcpy(answer.bytes, e->set.offer.contents.bytes, TCP_ENO_CONTENTS_MAX);
		if (!answer.length)
			answer.error = ENODATA; /* the kernel does not pass on a length of zero */
		break;
	case TCP_ENO_EXPECT:
		answer.length = e ? e->set.expect.length : 0;
		if (e)
			__builtin_memcpy(answer.bytes, e->set.expect.bytes, TCP_ENO_EXPECT_MAX);
		if (!answer.length)
			answer.error = ENODATA;
		break;
	case TCP_ENO_AA_MANDATORY:
		eno_answer_int(&answer, e ? e->set.offer.aa_mandatory : 0);
		break;
	case TCP_CRYPT_RESUMPTION:
		eno_answer_resumption(&answer);
		break;
	case TCP_ENO_SYN_TRIES:
		eno_answer_int(&answer, e ? e->set.syn_tries : TCP_ENO_SYN_TRIES_DEFAULT);
		break;
	case TCP_ENO_ENABLED:
	case TCP_ENO_TEPS:
	case TCP_ENO_SELF_GOPT:
	case TCP_ENO_TEP_MANDATORY:
	case TCP_CRYPT_ACONF:
	case TCP_CRYPT_BCONF:
		eno_answer_wish(ctx, e, &answer);
		break;
	case TCP_ENO_STATE:
	case TCP_ENO_SESSID:
	case TCP_ENO_NEGTEP:
	case TCP_ENO_PEER_GOPT:
	case TCP_ENO_ROLE:
	case TCP_ENO_SELF_NAME:
	case TCP_ENO_PEER_NAME:
	case TCP_ENO_TRANSCRIPT:
	case TCP_CRYPT_CONF:
		eno_answer_negotiation(ctx, e, &answer);
		if (ctx->optname == TCP_ENO_STATE && e)
			answer.bytes[__builtin_offsetof(struct tcp_eno_state, syn_tries)] = e->set.syn_tries;
		break;
	default:
		return PASS; /* write-only: the kernel says ENOPROTOOPT */
	}
	return eno_get_done(ctx, &answer);
}

#endif
