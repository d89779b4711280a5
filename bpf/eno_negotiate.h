/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The decisions of RFC 8547 section 4: from our contents and the peer's SYN segment to a verdict. No sockets, no
 * maps: the test vectors run through these functions.
 */
#ifndef ENO_NEGOTIATE_H
#define ENO_NEGOTIATE_H

#include "eno_option.h"

#define GLOBAL_B 0x01	    /* role bit */
#define GLOBAL_A 0x02	    /* application-aware bit */
#define TCPCRYPT_FIRST 0x21 /* RFC 8548 section 7 */
#define TCPCRYPT_LAST 0x24
#define TEP_V 0x80
#define RESUME_DATA_MIN TCP_ENO_HALF /* data of a resumption suboption: half, then nonce (RFC 8548 section 3.5) */
#define RESUME_DATA_MAX (TCP_ENO_HALF + TCP_ENO_NONCE_MAX)

/* What the data of a v=1 suboption of the SYN-ACK must begin with: TCP_ENO_EXPECT. */
struct eno_expect {
	__u8 length; /* of bytes; 0: nothing is expected */
	__u8 bytes[TCP_ENO_EXPECT_MAX]; /* TEP byte, then data */
};

/* What the application set with TCP_ENO_RAW, and what it says. */
struct eno_offer {
	__u8 aa_mandatory; /* TCP_ENO_AA_MANDATORY */
	struct eno_contents contents;
	struct eno_reading reading;
};

struct eno_verdict {
	__u8 reason;	/* TCP_ENO_REASON_NONE: a TEP was found */
	__u8 tep;	/* TEP byte of host B, v bit included */
	__u8 self_b;	/* our role bit */
	__u8 peer_gopt;
	__u8 resume_tep; /* passive opener: the SYN proposes to resume a session of this acceptable TEP, or 0 */
	__u8 resume_at;	 /* ... whose half begins at this offset of `peer` */
	struct eno_contents peer; /* contents of the peer's option */
};

/* The checks that both openers share. Returns a reason; the readings are valid when it is NONE. */
static __always_inline __u8 eno_check(const struct eno_found *found, struct eno_reading *theirs)
{
	if (found->options == 0)
		return TCP_ENO_REASON_ABSENT;
	if (found->options > 1)
		return TCP_ENO_REASON_REPEATED; /* ENO-5 */
	if (eno_read(&found->contents, theirs) < 0)
		return TCP_ENO_REASON_MALFORMED;
	return TCP_ENO_REASON_NONE;
}

/* tcpcrypt only (RFC 8548 section 3.5): does the v=1 suboption whose TEP byte stands at `at`, with `data` bytes behind
 * it, complete the resumption that we proposed? */
__noinline int eno_fits(const struct eno_contents *c, __u32 at, __u32 data, const struct eno_expect *expect)
{
	__u32 i;
	int fits = 1;

	if (!c || !expect || !expect->length || expect->length > data + 1)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_EXPECT_MAX; i++) {
		__u32 from = at + i;

		SAME_REGISTER(from);
		if (i >= expect->length || from >= TCP_ENO_CONTENTS_MAX)
			break;
		if (c->bytes[from] != expect->bytes[i])
			fits = 0;
	}
	return fits;
}

/* The TEP byte of the last valid suboption of host B, or 0 (RFC 8547 section 4.5). `c` and `b` are B's. */
__noinline int eno_last_valid(const struct eno_contents *c, const struct eno_reading *b, const struct eno_reading *a,
			      const struct eno_expect *expect)
{
	__u32 i;
	__u8 last = 0;

	if (!c || !b || !a || !expect)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
		__u8 byte = b->tep_at[i], tep = byte & 0x7f;

		if (!byte || !tep_in(&a->offered, tep))
			continue;
		if (tep_in(&a->repeated, tep) || tep_in(&b->repeated, tep))
			continue;
		if (byte & TEP_V && tep >= TCPCRYPT_FIRST && tep <= TCPCRYPT_LAST &&
		    !eno_fits(c, i, b->data_at[i], expect))
			continue;
		last = byte;
	}
	return last;
}

/* Active opener: `ours` was sent, a SYN-ACK (in a simultaneous open: the peer's SYN) with `area` has arrived.
 * Returns 0; -1 only for invalid arguments. */
__noinline int eno_decide_active(const struct eno_offer *ours, const struct eno_expect *expect,
				 const struct tcp_options *area, struct eno_verdict *v)
{
	struct eno_reading theirs;
	struct eno_found found;

	if (!ours || !expect || !area || !v)
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (eno_find(area, &found) < 0)
		return -1;
	v->reason = eno_check(&found, &theirs);
	if (v->reason)
		return 0;
	v->peer = found.contents;
	v->peer_gopt = theirs.global;
	v->self_b = ours->reading.global & GLOBAL_B;
	if (v->self_b == (theirs.global & GLOBAL_B))
		v->reason = TCP_ENO_REASON_ROLE; /* ENO-23 */
	else if (ours->aa_mandatory && !(theirs.global & GLOBAL_A))
		v->reason = TCP_ENO_REASON_UNAWARE; /* ENO-21 */
	else if (!theirs.suboptions || !ours->reading.suboptions)
		v->reason = TCP_ENO_REASON_VACUOUS; /* ENO-37 */
	else {
		v->tep = v->self_b ? eno_last_valid(&ours->contents, &ours->reading, &theirs, expect)
				   : eno_last_valid(&found.contents, &theirs, &ours->reading, expect);
		if (!v->tep)
			v->reason = TCP_ENO_REASON_NO_TEP; /* ENO-29 */
	}
	return 0;
}

/* Passive opener: a SYN with `area` has arrived; `ours` lists what we accept, in increasing preference. The answer
 * is our global suboption with b=1 and v->tep without data (v=0), unless the session that the SYN proposes to resume
 * is known (eno_resume.h).
 * Returns 0; -1 only for invalid arguments. */
__noinline int eno_decide_passive(const struct eno_offer *ours, const struct tcp_options *area, struct eno_verdict *v)
{
	struct eno_reading theirs;
	struct eno_found found;
	__u32 i;

	if (!ours || !area || !v)
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (eno_find(area, &found) < 0)
		return -1;
	v->reason = eno_check(&found, &theirs);
	if (v->reason)
		return 0;
	v->peer = found.contents;
	v->peer_gopt = theirs.global;
	v->self_b = 1;
	if (theirs.global & GLOBAL_B)
		v->reason = TCP_ENO_REASON_ROLE; /* ENO-23 */
	else if (ours->aa_mandatory && !(theirs.global & GLOBAL_A))
		v->reason = TCP_ENO_REASON_UNAWARE; /* ENO-21 */
	else if (!theirs.suboptions)
		v->reason = TCP_ENO_REASON_VACUOUS; /* ENO-37 */
	else if (found.fast_open)
		v->reason = TCP_ENO_REASON_SYN_DATA; /* ENO-40 */
	else {
#pragma clang loop unroll(disable)
		for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
			__u8 byte = ours->reading.tep_at[i], tep = byte & 0x7f;

			if (byte && tep_in(&theirs.offered, tep) && !tep_in(&theirs.repeated, tep))
				v->tep = tep;
		}
#pragma clang loop unroll(disable)
		for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
			__u8 byte = theirs.tep_at[i], tep = byte & 0x7f, data = theirs.data_at[i];

			if (!(byte & TEP_V) || tep < TCPCRYPT_FIRST || tep > TCPCRYPT_LAST)
				continue;
			if (data < RESUME_DATA_MIN || data > RESUME_DATA_MAX) /* TC-20: as v=0 */
				continue;
			if (!tep_in(&ours->reading.offered, tep) || tep_in(&theirs.repeated, tep))
				continue;
			v->resume_tep = tep;
			v->resume_at = i + 1;
		}
		if (!v->tep)
			v->reason = TCP_ENO_REASON_NO_TEP; /* ENO-29 */
	}
	return 0;
}

#endif
