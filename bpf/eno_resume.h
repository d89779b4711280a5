/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Resumption by a passive opener (RFC 8548 section 3.5). User space fills eno_resumable ahead; the SYN that names a
 * session takes its entry out, and who fails to delete the entry has not got it. So one secret secures one connection
 * (TC-27), whatever listeners, SYNs and user space do at the same moment, and nonces shorter than 8 bytes are safe.
 */
#ifndef ENO_RESUME_H
#define ENO_RESUME_H

#include "eno_state.h"

/* kind, length, global suboption, TEP byte, half; the nonce follows. */
#define RESUME_ANSWER (4 + TCP_ENO_HALF)

/* Reserves room for the longest nonce that fits. Next to timestamps there is room for 7 bytes: one more is not worth
 * the resumption. Returns the length of the nonce, or -1 */
static __always_inline int eno_reserve_nonce(struct bpf_sock_ops *ctx, __u8 wanted)
{
	if (wanted > TCP_ENO_NONCE_MAX)
		return -1;
	if (!bpf_reserve_hdr_opt(ctx, RESUME_ANSWER + wanted, 0))
		return wanted;
	if (wanted == TCP_ENO_NONCE_MAX && !bpf_reserve_hdr_opt(ctx, RESUME_ANSWER + TCP_ENO_NONCE_MAX - 1, 0))
		return TCP_ENO_NONCE_MAX - 1;
	return -1;
}

/* Resumes the session that the SYN proposes, if it is known: fills in `request`. Returns whether room was reserved in
 * the SYN-ACK, be it that nothing comes of it. Not inline, for the limit of the stack. */
static __noinline bool eno_resume(struct bpf_sock_ops *ctx, const struct eno_group *group,
				       const struct eno_verdict *v, __u8 global, struct eno_request *request)
{
	struct eno_resumable_key key = {};
	struct eno_resumption system = eno_resumption_now();
	struct eno_resumable session;
	const struct eno_resumable *found;
	__u8 *answer = request->synack.bytes;
	__u64 now;
	__u32 i;
	int nonce;

	if (!v->resume_tep || !group->accepts || system.refused)
		return false;
	__builtin_memcpy(key.token, group->token, sizeof(key.token));
	key.tep = v->resume_tep;
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_HALF; i++) {
		__u32 from = v->resume_at + i;

		SAME_REGISTER(from);
		if (from >= TCP_ENO_CONTENTS_MAX)
			return false;
		key.half[i] = v->peer.bytes[from];
	}
	found = bpf_map_lookup_elem(&eno_resumable, &key);
	if (!found || !(found->classes & group->accepts) || found->generation != system.generation)
		return false;
	session = *found; /* before it is deleted: another one may move in */
	nonce = eno_reserve_nonce(ctx, session.nonce_length);
	if (nonce < 0)
		return false;
	if (bpf_map_delete_elem(&eno_resumable, &key))
		return true; /* somebody was faster */

	request->tep = v->resume_tep | TEP_V;
	request->synack.length = RESUME_ANSWER - 2 + nonce;
	answer[0] = global;
	answer[1] = request->tep;
	__builtin_memcpy(answer + 2, session.half, TCP_ENO_HALF);
	/* TC-15: a machine that was cloned answers at another time. */
	now = bpf_ktime_get_tai_ns();
#pragma clang loop unroll(full)
	for (i = 0; i < TCP_ENO_NONCE_MAX; i++)
		answer[2 + TCP_ENO_HALF + i] = session.nonce[i] ^ (__u8)(now >> (8 * i));
	return true;
}

#endif
