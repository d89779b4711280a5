/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The socket options of programs that do not speak a TEP themselves: what they wish of the daemon (eno_wish.h).
 */
#ifndef ENO_WISH_SOCKOPT_H
#define ENO_WISH_SOCKOPT_H

#include "eno_sockopt_value.h"

/* An int of -1..1, kept as 0..2. */
static __always_inline int eno_wish_enabled(struct bpf_sockopt *ctx, struct eno_wish *w)
{
	__s32 value = 0;

	if (eno_take(ctx, (__u8 *)&value, sizeof(value)) != sizeof(value) || value < -1 || value > 1)
		return EINVAL;
	w->enabled = value + 1;
	w->enabled_set = value >= 0;
	return 0;
}

static __always_inline int eno_wish_teps(struct bpf_sockopt *ctx, struct eno_wish *w)
{
	__u8 teps[ENO_WISH_TEPS] = {};
	int i, length = eno_take(ctx, teps, sizeof(teps));
	__u8 named = 0;

	if (length < 0)
		return EINVAL;
#pragma clang loop unroll(full)
	for (i = 0; i < ENO_WISH_TEPS; i++) {
		__u8 tep = teps[i] & 0x7f;

		if (i >= length)
			continue;
		if (tep < TCPCRYPT_FIRST || tep > TCPCRYPT_LAST || named & (1 << (tep & 7)))
			return EINVAL; /* API-3; named twice it would not be valid */
		named |= 1 << (tep & 7);
	}
	__builtin_memcpy(w->teps, teps, sizeof(teps));
	w->teps_length = length;
	w->teps_set = 1;
	return 0;
}

/* Identifiers of two bytes. */
static __always_inline int eno_wish_conf(struct bpf_sockopt *ctx, __u8 *to, __u8 *to_length)
{
	__u8 conf[ENO_WISH_CONF] = {};
	int i, length = eno_take(ctx, conf, sizeof(conf));

	if (length <= 0 || length & 1)
		return EINVAL;
#pragma clang loop unroll(full)
	for (i = 0; i < ENO_WISH_CONF; i += 2) {
		if (i < length && (conf[i] || !(conf[i + 1] == 0x01 || conf[i + 1] == 0x02 || conf[i + 1] == 0x10)))
			return EINVAL; /* RFC 8548 section 7: the AEAD algorithms of tcpcrypt */
	}
	__builtin_memcpy(to, conf, sizeof(conf));
	*to_length = length;
	return 0;
}

static __always_inline int eno_wish_flush(struct bpf_sockopt *ctx, struct eno_wish *w)
{
	__u32 value = 0;

	if (eno_take(ctx, (__u8 *)&value, sizeof(value)) != sizeof(value) || value != 1)
		return EINVAL;
	w->no_cache = 1;
	return 0;
}

static __always_inline bool eno_is_plain(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct eno_tuple key = {};
	struct eno_carried *c;

	if (e->now.phase == TCP_ENO_PHASE_ENCRYPTING)
		return false;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	c = bpf_map_lookup_elem(&eno_carried, &key);
	return !c || c->opener != ENO_ACTIVE || c->now.phase != TCP_ENO_PHASE_ENCRYPTING;
}

/* At any time: on a connection that is plain it ends that (API-6). */
static __noinline int eno_wish_mandatory(struct bpf_sockopt *ctx, struct eno_socket *e)
{
	struct bpf_sock *sk = ctx->sk;
	__u8 value = 0;
	int error;

	if (!sk || !e)
		return EINVAL;
	error = eno_set_int(ctx, &value, 1);
	if (error)
		return error;
	e->set.wish.tep_mandatory = value;
	if (value && (sk->state == BPF_TCP_ESTABLISHED || sk->state == BPF_TCP_CLOSE_WAIT) && eno_is_plain(ctx, e))
		eno_sever(sk);
	return 0;
}

/* TCP_CRYPT_CACHE_FLUSH on a connection (API-10). */
static __noinline int eno_carried_flush(struct bpf_sockopt *ctx)
{
	struct eno_tuple key = {};
	struct eno_carried *c;
	__u32 first = 0;
	__u64 *flushes;
	__u8 value = 0;

	if (!ctx->sk || eno_set_int(ctx, &value, 1) || !value)
		return EINVAL;
	eno_tuple_of(ctx->sk, bpf_get_netns_cookie(ctx), &key);
	c = bpf_map_lookup_elem(&eno_carried, &key);
	flushes = bpf_map_lookup_elem(&eno_flushes, &first);
	if (!c || !flushes || c->now.phase != TCP_ENO_PHASE_ENCRYPTING)
		return EINVAL; /* nobody carries it */
	if (!c->now.sessid_length)
		return ENOTCONN;
	c->flush = 1;
	__sync_fetch_and_add(flushes, 1);
	return 0;
}

static __always_inline int eno_set_wish(struct bpf_sockopt *ctx, bool settled)
{
	struct eno_socket *e;

	if (ctx->optname == TCP_CRYPT_CACHE_FLUSH &&
	    (ctx->sk->state == BPF_TCP_ESTABLISHED || ctx->sk->state == BPF_TCP_CLOSE_WAIT))
		return eno_carried_flush(ctx);
	if (settled && ctx->optname != TCP_ENO_TEP_MANDATORY)
		return EISCONN; /* API-2 */
	e = eno_create(ctx->sk);
	if (!e || eno_is_raw(e))
		return EINVAL; /* API-8 */
	e->set.wish.present = 1;
	switch (ctx->optname) {
	case TCP_ENO_ENABLED:
		return eno_wish_enabled(ctx, &e->set.wish);
	case TCP_ENO_TEPS:
		return eno_wish_teps(ctx, &e->set.wish);
	case TCP_ENO_SELF_GOPT:
		return eno_set_int(ctx, &e->set.wish.gopt, 31);
	case TCP_ENO_TEP_MANDATORY:
		return eno_wish_mandatory(ctx, e);
	case TCP_CRYPT_ACONF:
		return eno_wish_conf(ctx, e->set.wish.aconf, &e->set.wish.aconf_length);
	case TCP_CRYPT_BCONF:
		return eno_wish_conf(ctx, e->set.wish.bconf, &e->set.wish.bconf_length);
	}
	return eno_wish_flush(ctx, &e->set.wish);
}

/* TEPs or algorithms: what was set, or else what the daemon was told. */
static __always_inline void eno_answer_list(struct bpf_sockopt *ctx, const struct eno_wish *w, struct eno_answer *a)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	const struct eno_defaults *d = bpf_map_lookup_elem(&eno_defaults, &netns);

	if (ctx->optname == TCP_ENO_TEPS) {
		if (w && w->teps_set)
			eno_answer_bytes(a, w->teps, w->teps_length);
		else
			eno_answer_bytes(a, d ? d->teps : a->bytes, d ? d->teps_length : 0);
	} else if (w && ctx->optname == TCP_CRYPT_ACONF && w->aconf_length) {
		eno_answer_bytes(a, w->aconf, w->aconf_length);
	} else if (w && ctx->optname == TCP_CRYPT_BCONF && w->bconf_length) {
		eno_answer_bytes(a, w->bconf, w->bconf_length);
	} else {
		eno_answer_bytes(a, d ? d->conf : a->bytes, d ? d->conf_length : 0);
	}
}

/* What was set of the options of eno_set_wish(), or its default. */
static __always_inline void eno_answer_wish(struct bpf_sockopt *ctx, const struct eno_socket *e, struct eno_answer *a)
{
	const struct eno_wish *w = e ? &e->set.wish : 0;
	bool passive = e && (ctx->sk->state == BPF_TCP_LISTEN || e->now.role);

	if (eno_is_raw(e)) {
		a->error = EINVAL; /* API-8 */
		return;
	}
	switch (ctx->optname) {
	case TCP_ENO_ENABLED:
		eno_answer_int(a, w && w->enabled_set ? w->enabled - 1 : -1);
		return;
	case TCP_ENO_SELF_GOPT:
		eno_answer_int(a, (w ? w->gopt : 0) | passive); /* API-4 */
		return;
	case TCP_ENO_TEP_MANDATORY:
		eno_answer_int(a, w ? w->tep_mandatory : 0);
		return;
	}
	eno_answer_list(ctx, w, a);
}

#endif
