/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Values on their way from and to the callers of setsockopt and getsockopt. Both programs run under the socket's lock.
 *
 * The nearest of several stacked installations answers: it marks an option that it has handled (set: optlen == -1;
 * get: a return value other than the kernel's own -ENOPROTOOPT), and the programs behind it see that.
 */
#ifndef ENO_SOCKOPT_VALUE_H
#define ENO_SOCKOPT_VALUE_H

#include "eno_carried.h"

static __always_inline bool eno_is_ours(struct bpf_sockopt *ctx)
{
	return ctx->level == IPPROTO_TCP && ctx->optname >= TCP_ENO_ENABLED && ctx->optname <= TCP_CRYPT_RESUMPTION;
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

/* An int of 0..max. */
static __always_inline int eno_set_int(struct bpf_sockopt *ctx, __u8 *to, __u32 max)
{
	__u32 value = 0;

	if (eno_take(ctx, (__u8 *)&value, sizeof(value)) != sizeof(value) || value > max)
		return EINVAL;
	*to = value;
	return 0;
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

static __always_inline void eno_answer_bytes(struct eno_answer *a, const __u8 *bytes, __u32 length)
{
	a->length = length;
	__builtin_memcpy(a->bytes, bytes, ENO_WISH_TEPS);
	if (!length)
		a->error = ENODATA; /* the kernel does not pass on a length of zero */
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

#endif
