/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The ENO option as it stands in a SYN segment (RFC 8547 sections 4.1 to 4.4), and where it stands in a TCP header.
 *
 * Every loop here is one pass over a fixed number of bytes, with a count of bytes to skip instead of an inner
 * loop or a jump of the index: nested or data-dependent loops exceed what the verifier follows. The two global
 * (non-static) functions are verified once, on their own.
 */
#ifndef ENO_OPTION_H
#define ENO_OPTION_H

#include "eno_base.h"

#define TCP_HEADER_FIXED 20
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_FAST_OPEN 34

/* Contents of an ENO option, without kind and length. */
struct eno_contents {
	__u8 length;
	__u8 bytes[TCP_ENO_CONTENTS_MAX];
};

/* A set of TEP identifiers 0x20..0x7f. */
struct tep_set {
	__u64 low, high;
};

static __always_inline bool tep_in(const struct tep_set *set, __u8 tep)
{
	return ((tep & 0x40 ? set->high : set->low) >> (tep & 0x3f)) & 1;
}

static __always_inline void tep_add(struct tep_set *set, __u8 tep)
{
	if (tep & 0x40)
		set->high |= 1ULL << (tep & 0x3f);
	else
		set->low |= 1ULL << (tep & 0x3f);
}

/* What the contents of a SYN-form option say. The volatile fields stay in memory, whose values the verifier does not
 * tell apart: in registers it would follow every combination of them through the whole loop. */
struct eno_reading {
	volatile __u8 globals;	  /* how many global suboptions there are */
	volatile __u8 suboptions; /* TEP suboptions; 0: the option is vacuous */
	__u8 global;		  /* the first global suboption; 0 when there is none (ENO-22) */
	__u8 last_tep;		  /* identifier of the last TEP suboption, or 0 */
	struct tep_set offered;
	struct tep_set repeated; /* tcpcrypt defines no repetition: such an identifier is invalid */
	__u8 tep_at[TCP_ENO_CONTENTS_MAX];  /* the TEP byte (v and identifier) that stands at this offset, or 0 */
	__u8 data_at[TCP_ENO_CONTENTS_MAX]; /* the length of its data */
};

static __always_inline void eno_read_tep(struct eno_reading *r, __u32 at, __u8 byte, __u8 data)
{
	__u8 tep = byte & 0x7f;

	if (tep_in(&r->offered, tep))
		tep_add(&r->repeated, tep);
	tep_add(&r->offered, tep);
	r->suboptions++;
	r->last_tep = tep;
	r->tep_at[at] = byte;
	r->data_at[at] = data;
}

/* Reads SYN-form contents. Returns 0, or -1 when they are ill-formed (ENO-12 to ENO-14). */
__noinline int eno_read(const struct eno_contents *c, struct eno_reading *r)
{
	__u32 i, length, data = 0, skip = 0;

	if (!c || !r)
		return -1;
	__builtin_memset(r, 0, sizeof(*r));
	length = c->length;
	if (length > TCP_ENO_CONTENTS_MAX)
		return -1;

#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
		__u8 byte;

		if (i >= length)
			break;
		if (skip) {
			skip--;
			continue;
		}
		byte = c->bytes[i];
		if (data) {			       /* behind a length byte */
			if (byte < 0xa0)
				return -1;	       /* ENO-14 */
			if (i + 1 + data > length)
				return -1;	       /* ENO-13 */
			eno_read_tep(r, i, byte, data);
			skip = data;
			data = 0;
		} else if (byte <= 0x1f) {	       /* global suboption: the first one counts (ENO-9) */
			if (!r->globals)
				r->global = byte;
			r->globals++;
		} else if (byte <= 0x7f) {	       /* TEP without data */
			eno_read_tep(r, i, byte, 0);
		} else if (byte <= 0x9f) {	       /* length byte */
			data = (byte & 0x1f) + 1;
		} else {			       /* TEP whose data runs to the end */
			eno_read_tep(r, i, byte, length - i - 1);
			break;
		}
	}
	return data ? -1 : 0;			       /* a length byte stood last */
}

/* The options of a TCP header, without its fixed part. */
struct tcp_options {
	__u8 length;
	__u8 bytes[TCP_ENO_OPTION_MAX];
};

/* What was found in one; volatile for the same reason. */
struct eno_found {
	volatile __u8 options;	 /* number of ENO options; 0 also when the list is broken */
	volatile __u8 fast_open; /* there is a non-empty TCP Fast Open option */
	volatile __u8 start;	 /* where the contents of the first ENO option begin */
	struct eno_contents contents; /* of the first ENO option */
};

/* Looks for the ENO option. Returns 0; -1 only for invalid arguments. */
__noinline int eno_find(const struct tcp_options *o, struct eno_found *found)
{
	__u32 i, length, skip = 0;

	if (!o || !found)
		return -1;
	__builtin_memset(found, 0, sizeof(*found));
	length = o->length;
	if (length > TCP_ENO_OPTION_MAX)
		return -1;

#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_OPTION_MAX; i++) {
		__u8 kind, size;

		if (i >= length)
			break;
		if (skip) {
			skip--;
			continue;
		}
		kind = o->bytes[i];
		if (kind == TCP_OPTION_END)
			break;
		if (kind == TCP_OPTION_NOP)
			continue;
		if (i + 1 >= length || i + 1 >= TCP_ENO_OPTION_MAX)
			goto broken;
		size = o->bytes[i + 1];
		if (size < 2 || i + size > length)
			goto broken;
		if (kind == TCP_ENO_KIND && !found->options++) {
			found->start = i + 2;
			found->contents.length = size - 2;
		}
		if (kind == TCP_OPTION_FAST_OPEN && size > 2)
			found->fast_open = 1;
		skip = size - 1;
	}

#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
		__u32 from = found->start + i;

		SAME_REGISTER(from);
		if (i >= found->contents.length || from >= TCP_ENO_OPTION_MAX)
			break;
		found->contents.bytes[i] = o->bytes[from];
	}
	return 0;

broken: /* such a list counts as none */
	found->options = 0;
	return 0;
}

#endif
