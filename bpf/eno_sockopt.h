/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The socket options of include/tcp_eno.h. Both programs run under the socket's lock.
 *
 * The nearest of several stacked installations answers: it marks an option that it has handled (set: optlen == -1;
 * get: a return value other than the kernel's own -ENOPROTOOPT), and the programs behind it see that.
 */
#ifndef ENO_SOCKOPT_H
#define ENO_SOCKOPT_H

#include "eno_carried.h"
#include "eno_listener.h"

/* A listener with ENO takes no data from SYN segments (ENO-41). */
static __always_inline int eno_set_fast_open(struct bpf_sockopt *ctx)
{
	int *length = ctx->optval;

	if (!ctx->sk || !eno_is_raw(eno_of(ctx->sk)) || (void *)(length + 1) > ctx->optval_end || *length <= 0)
		return PASS;
	bpf_set_retval(-EOPNOTSUPP);
	ctx->optlen = -1;
	return PASS;
}

static __always_inline bool eno_is_ours(struct bpf_sockopt *ctx)
{
	return ctx->level == IPPROTO_TCP && ctx->optname >= TCP_ENO_ENABLED && ctx->optname <= TCP_ENO_RESUME_TAKE;
}

/* ---- setsockopt ---- */

/* The option is dealt with: the kernel itself, and programs behind this one, shall not see it. */
static __always_inline int eno_set_done(struct bpf_sockopt *ctx, int error)
{
	SAME_REGISTER(ctx); /* clang would keep a pointer to optlen, which the verifier refuses */
	ctx->optlen = -1;
	asm volatile("" ::: "memory"); /* clang would merge this store with others into one the verifier refuses */
	if (error)
		bpf_set_retval(-error);
	return PASS;
}

/* At most `max` bytes of the caller's; the number of bytes, or -1. */
static __always_inline int eno_take(struct bpf_sockopt *ctx, __u8 *to, int max)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;
	int i, length = ctx->optlen;

	if (length < 0 || length > max)
		return -1;
#pragma clang loop unroll(disable)
	for (i = 0; i < max; i++) {
		if (i >= length)
			break;
		if (value + i + 1 > end)
			return -1;
		to[i] = value[i];
	}
	return length;
}

static __always_inline int eno_set_raw(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct eno_contents contents = {};
	struct eno_reading reading;
	int length = eno_take(ctx, contents.bytes, TCP_ENO_CONTENTS_MAX);

	if (length < 0)
		return EINVAL;
	contents.length = length;
	if (eno_read(&contents, &reading) < 0)
		return EINVAL;
	if (length && eno_takes_syn_data(ctx))
		return EOPNOTSUPP;
	e->set.offer.contents = contents;
	e->set.offer.reading = reading;
	return 0;
}

static __always_inline int eno_set_expect(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct eno_expect expect = {};
	int length = eno_take(ctx, expect.bytes, TCP_ENO_EXPECT_MAX);

	if (length < 0 || length == 1 || (length && expect.bytes[0] < 0xa0))
		return EINVAL;
	expect.length = length;
	e->set.expect = expect;
	return 0;
}

/* An int of 0..max. */
static __always_inline int eno_set_int(struct bpf_sockopt *ctx, __u8 *to, __u32 max)
{
	__u32 value = 0;

	if (eno_take(ctx, (__u8 *)&value, sizeof(value)) != sizeof(value) || value > max)
		return EINVAL;
	*to = value;
	return 0;
}

static __always_inline int eno_set_session_id(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	__u8 id[TCP_ENO_SESSID_MAX] = {};
	int length;

	if (e->now.phase != TCP_ENO_PHASE_ENCRYPTING)
		return EINVAL;
	if (e->now.sessid_length)
		return EISCONN;
	length = eno_take(ctx, id, sizeof(id));
	if (length < TCP_ENO_SESSID_MIN || id[0] != e->now.tep)
		return EINVAL; /* ENO-56 */
	__builtin_memcpy(e->session_id, id, sizeof(id));
	e->now.sessid_length = length;
	return 0;
}

static __always_inline int eno_set_group(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct tcp_eno_resume_group group = {};

	if (eno_take(ctx, (__u8 *)&group, sizeof(group)) != sizeof(group))
		return EINVAL;
	__builtin_memcpy(e->set.group.token, group.token, sizeof(group.token));
	e->set.group.accepts = group.accepts;
	return 0;
}

static __always_inline void eno_resumable_key(struct eno_resumable_key *key, const struct eno_socket *e, __u8 tep,
					      const __u8 *half)
{
	__builtin_memcpy(key->token, e->set.group.token, sizeof(key->token));
	__builtin_memcpy(key->half, half, TCP_ENO_HALF);
	key->tep = tep;
}

static __always_inline int eno_add_resumable(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct tcp_eno_resumable *given = ctx->optval;
	int i, length = ctx->optlen;

	if (!e || !e->set.group.accepts || length <= 0 || length % sizeof(*given))
		return EINVAL;
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_RESUMABLE_MAX; i++) {
		struct eno_resumable_key key = {};
		struct eno_resumable session = {};

		if (i * (int)sizeof(*given) >= length)
			return 0;
		if ((void *)(given + i + 1) > ctx->optval_end)
			return EINVAL;
		if (given[i].tep < TCPCRYPT_FIRST || given[i].tep > TCPCRYPT_LAST ||
		    given[i].nonce_length > TCP_ENO_NONCE_MAX)
			return EINVAL;
		eno_resumable_key(&key, e, given[i].tep, given[i].peer_half);
		session.classes = given[i].classes;
		session.nonce_length = given[i].nonce_length;
		__builtin_memcpy(session.half, given[i].own_half, TCP_ENO_HALF);
		__builtin_memcpy(session.nonce, given[i].nonce, TCP_ENO_NONCE_MAX);
		if (bpf_map_update_elem(&eno_resumable, &key, &session, BPF_NOEXIST))
			return EEXIST;
	}
	return length > TCP_ENO_RESUMABLE_MAX * (int)sizeof(*given) ? EINVAL : 0;
}

static __always_inline int eno_take_resumable(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct eno_resumable_key key = {};
	__u8 named[1 + TCP_ENO_HALF] = {};

	if (!e || !e->set.group.accepts || eno_take(ctx, named, sizeof(named)) != sizeof(named))
		return EINVAL;
	eno_resumable_key(&key, e, named[0], named + 1);
	return bpf_map_delete_elem(&eno_resumable, &key) ? ENOENT : 0;
}

static __always_inline int eno_setsockopt(struct bpf_sockopt *ctx)
{
	bool settled = ctx->sk && ctx->sk->state != BPF_TCP_CLOSE; /* connecting, connected or listening */
	struct eno_socket *e;

	if (!ctx->sk || ctx->sk->protocol != IPPROTO_TCP || ctx->optlen == -1)
		return PASS;
	switch (ctx->optname) {
	case TCP_ENO_RAW:
	case TCP_ENO_AA_MANDATORY:
	case TCP_ENO_EXPECT:
	case TCP_ENO_SYN_TRIES:
	case TCP_ENO_RESUME_GROUP:
		if (settled)
			return eno_set_done(ctx, EISCONN);
		e = eno_create(ctx->sk);
		if (!e)
			return PASS;
		if (ctx->optname == TCP_ENO_RAW)
			return eno_set_done(ctx, eno_set_raw(ctx, e));
		if (ctx->optname == TCP_ENO_EXPECT)
			return eno_set_done(ctx, eno_set_expect(ctx, e));
		if (ctx->optname == TCP_ENO_RESUME_GROUP)
			return eno_set_done(ctx, eno_set_group(ctx, e));
		if (ctx->optname == TCP_ENO_AA_MANDATORY)
			return eno_set_done(ctx, eno_set_int(ctx, &e->set.offer.aa_mandatory, 1));
		return eno_set_done(ctx, eno_set_int(ctx, &e->set.syn_tries, 255));
	case TCP_ENO_SESSID:
		e = eno_of(ctx->sk);
		if (!e)
			return PASS;
		return eno_set_done(ctx, eno_set_session_id(ctx, e));
	case TCP_ENO_RESUMABLE:
		return eno_set_done(ctx, eno_add_resumable(ctx, eno_of(ctx->sk)));
	case TCP_ENO_RESUME_TAKE:
		return eno_set_done(ctx, eno_take_resumable(ctx, eno_of(ctx->sk)));
	case TCP_ENO_NEGTEP:
	case TCP_ENO_PEER_GOPT:
	case TCP_ENO_ROLE:
	case TCP_ENO_SELF_NAME:
	case TCP_ENO_PEER_NAME:
	case TCP_ENO_TRANSCRIPT:
	case TCP_ENO_STATE:
		return eno_set_done(ctx, EACCES);
	}
	return PASS; /* reserved: the kernel says ENOPROTOOPT */
}

/* ---- getsockopt ---- */

/* A value on its way to the caller. */
struct eno_answer {
	__u32 length;
	__u32 error;
	__u8 bytes[sizeof(struct tcp_eno_state)];
};

static __always_inline void eno_answer_int(struct eno_answer *a, __u32 value)
{
	a->length = sizeof(value);
	__builtin_memcpy(a->bytes, &value, sizeof(value));
}

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
	if (!now->sessid_length) {
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
	else if (ctx->optname != TCP_ENO_STATE && (ctx->sk->state == BPF_TCP_CLOSE || ctx->sk->state == BPF_TCP_SYN_SENT))
		a->error = ENOTCONN;
	else
		a->error = EINVAL; /* nobody has asked for ENO */
}

static __always_inline int eno_get_done(struct bpf_sockopt *ctx, struct eno_answer *a)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;
	__u32 i, length = a->length;

	if (a->error) {
		bpf_set_retval(-(int)a->error);
		return PASS;
	}
#pragma clang loop unroll(disable)
	for (i = 0; i < sizeof(a->bytes); i++) {
		if (i >= length)
			break;
		if (value + i + 1 > end) {
			if (ctx->optname == TCP_ENO_STATE && i)
				break; /* an older program knows a shorter struct */
			bpf_set_retval(-EINVAL); /* half a session ID would be worse than none */
			return PASS;
		}
		value[i] = a->bytes[i];
	}
	ctx->optlen = i;
	asm volatile("" ::: "memory");
	ctx->retval = 0;
	return PASS;
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
	case TCP_ENO_SYN_TRIES:
		eno_answer_int(&answer, e ? e->set.syn_tries : TCP_ENO_SYN_TRIES_DEFAULT);
		break;
	case TCP_ENO_STATE:
	case TCP_ENO_SESSID:
	case TCP_ENO_NEGTEP:
	case TCP_ENO_PEER_GOPT:
	case TCP_ENO_ROLE:
	case TCP_ENO_SELF_NAME:
	case TCP_ENO_PEER_NAME:
	case TCP_ENO_TRANSCRIPT:
		eno_answer_negotiation(ctx, e, &answer);
		if (ctx->optname == TCP_ENO_STATE && e)
			answer.bytes[__builtin_offsetof(struct tcp_eno_state, syn_tries)] = e->set.syn_tries;
		break;
	default:
		return PASS; /* reserved: the kernel says ENOPROTOOPT */
	}
	return eno_get_done(ctx, &answer);
}

#endif
