/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * setsockopt: the options of include/tcp_eno.h.
 */
#ifndef ENO_SETSOCKOPT_H
#define ENO_SETSOCKOPT_H

#include "eno_wish_sockopt.h"
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
	__u32 generation = eno_resumption_now().generation;
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
		session.generation = generation;
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

/* The AEAD algorithm that the owner of a connection uses. */
static __always_inline int eno_set_cipher(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	__u32 value = 0;

	if (!eno_is_raw(e))
		return EACCES;
	if (e->now.phase != TCP_ENO_PHASE_ENCRYPTING)
		return EINVAL;
	if (e->now.cipher)
		return EISCONN;
	if (eno_take(ctx, (__u8 *)&value, sizeof(value)) != sizeof(value) || !value || value > 0xffff)
		return EINVAL;
	e->now.cipher = value;
	return 0;
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
		if (ctx->optname == TCP_ENO_AA_MANDATORY) {
			int error = eno_set_int(ctx, &e->set.offer.aa_mandatory, 1);

			e->set.wish.aa_mandatory = e->set.offer.aa_mandatory;
			e->set.wish.present = 1;
			return eno_set_done(ctx, error);
		}
		return eno_set_done(ctx, eno_set_int(ctx, &e->set.syn_tries, 255));
	case TCP_ENO_ENABLED:
	case TCP_ENO_TEPS:
	case TCP_ENO_SELF_GOPT:
	case TCP_ENO_TEP_MANDATORY:
	case TCP_CRYPT_ACONF:
	case TCP_CRYPT_BCONF:
	case TCP_CRYPT_CACHE_FLUSH:
		return eno_set_done(ctx, eno_set_wish(ctx, settled));
	case TCP_ENO_SESSID:
		e = eno_of(ctx->sk);
		return eno_set_done(ctx, eno_is_raw(e) ? eno_set_session_id(ctx, e) : EACCES);
	case TCP_CRYPT_CONF:
		return eno_set_done(ctx, eno_set_cipher(ctx, eno_of(ctx->sk)));
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
	case TCP_CRYPT_RESUMPTION:
		return eno_set_done(ctx, EACCES);
	}
	return PASS;
}

#endif
