/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What is remembered, where, and for how long.
 *
 *     eno_sockets     per socket, until it is closed: settings and outcome. A child of a listener gets a copy of the
 *                     listener's, which PASSIVE_ESTABLISHED overwrites
 *     eno_listeners   per listener, by its socket cookie: the settings once more, since the call-backs that answer a
 *                     SYN cannot reach the storage of a socket
 *     eno_daemon_listeners  the same of the daemon's, which nobody else's can push out: only user space, i.e. root, puts
 *                     one there, and it goes when the listener is closed
 *     eno_requests    per half-open connection, by the socket cookie that the accepted socket inherits: both SYN
 *                     segments' options
 *     eno_resumable   sessions that listeners may resume, by group, TEP and the peer's half: until a SYN or user space
 *                     takes them, or newer ones need the room
 *     eno_resumption  the administrator's: whether sessions may be resumed on this machine, and since when
 *     eno_true_peers  the daemon's: whom getpeername() shall name
 *     eno_carried     the daemon's: the outcome, and the session ID, of the connections of others that it carries
 *     eno_ports       listeners that wish something, by address and port: the daemon answers SYNs in their name
 *     eno_defaults    the daemon's: what getsockopt tells where an application has set nothing
 *     eno_flushes     how often "flush" was set there: the daemon looks from time to time
 *     eno_wishes      what a connecting socket wishes, for the daemon that gets its SYN
 *     eno_install     who was loaded where: "tcpcrypt up" writes and reads it
 *
 * A program that finds nothing of its own in these maps leaves the socket alone: that is what makes stacked
 * installations (a cgroup with its own under a cgroup with its own) keep out of each other's way.
 */
#ifndef ENO_STATE_H
#define ENO_STATE_H

#include "eno_negotiate.h"

struct eno_group {
	__u8 token[16];
	__u32 accepts; /* 0: no group */
};

#define ENO_WISH_TEPS 8
#define ENO_WISH_CONF 8 /* bytes: four identifiers */

/* What an application wishes that does not speak a TEP itself. The daemon reads it, too. */
struct eno_wish {
	__u8 present; /* something was set */
	__u8 enabled; /* TCP_ENO_ENABLED + 1; valid with enabled_set */
	__u8 enabled_set;
	__u8 gopt;
	__u8 aa_mandatory;
	__u8 tep_mandatory;
	__u8 no_cache; /* TCP_CRYPT_CACHE_FLUSH before connect(2) */
	__u8 teps_set;
	__u8 teps_length;
	__u8 aconf_length; /* bytes; 0: not set */
	__u8 bconf_length;
	__u8 padding;
	__u8 teps[ENO_WISH_TEPS];
	__u8 aconf[ENO_WISH_CONF];
	__u8 bconf[ENO_WISH_CONF];
};

struct eno_defaults { /* by network namespace: what the daemon there was told */
	__u8 teps_length;
	__u8 conf_length;
	__u8 teps[ENO_WISH_TEPS]; /* both in increasing preference */
	__u8 conf[ENO_WISH_CONF];
};

struct eno_settings {
	__u64 listener; /* in eno_ports: its cookie */
	struct eno_offer offer;	  /* contents.length 0: this socket does not speak ENO itself */
	struct eno_wish wish;
	struct eno_expect expect;
	struct eno_group group;
	__u8 syn_tries;
};

struct eno_socket {
	struct eno_settings set;
	struct tcp_eno_state now;
	__u32 flags; /* the call-back flags that we, and nobody else, switched on */
	__u8 marked; /* this listener, or connecting socket that insists, got TCP_ENO_LISTENER_MARK from us */
	__u8 session_id[TCP_ENO_SESSID_MAX];
};

struct eno_request {
	__u8 reason; /* not NONE: refused, so that the accepted socket can tell why */
	__u8 tep;
	__u8 peer_gopt;
	struct eno_contents syn, synack;
};

struct eno_resumable_key {
	__u8 token[16];
	__u8 half[TCP_ENO_HALF]; /* the peer's */
	__u8 tep;
	__u8 padding[6]; /* zero */
};

struct eno_resumable {
	__u32 classes;
	__u8 half[TCP_ENO_HALF]; /* ours */
	__u8 nonce_length;
	__u8 nonce[TCP_ENO_NONCE_MAX];
	__u8 padding[2];
	__u32 generation; /* of struct eno_resumption, when it was added */
};

struct eno_resumption {
	__u32 generation; /* sessions of another one are forgotten */
	__u32 refused;	  /* no session is resumed */
};

struct eno_peer_key { /* the socket as it sees its peer; netns_cookie tells apart network namespaces */
	__u64 netns_cookie;
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__be16 port;
	__u8 padding[6];  /* zero */
};

struct eno_peer {
	__u8 address[16];
	__be16 port;
	__u8 padding[6];
};

struct eno_tuple { /* a connection as the application's socket sees it: from "local" to "remote" */
	__u64 netns_cookie;
	__u8 local[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 remote[16];
	__be16 local_port, remote_port;
	__u8 padding[4]; /* zero */
};

enum { ENO_ACTIVE = 1, ENO_PASSIVE = 2 }; /* eno_carried.opener: what the application's socket is */

struct eno_carried {
	__u64 published; /* CLOCK_MONOTONIC, nanoseconds */
	__u32 opener;
	__u8 taken; /* a socket has it: no other one may */
	__u8 flush; /* the application wants that nothing resumes this connection, nor what it resumed */
	__u8 padding[2];
	struct tcp_eno_state now; /* of the daemon's own socket on the wire */
	__u8 session_id[TCP_ENO_SESSID_MAX];
};

struct eno_install {
	__u8 object_sha256[32];
	__u64 cgroup_id;
	__u64 made_parents; /* directories above the pins that "up" made */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct eno_socket);
} eno_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct eno_settings);
} eno_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096); /* four for each process of a daemon that listens: of 1024 such processes */
	__type(key, __u64);
	__type(value, struct eno_settings);
} eno_daemon_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768); /* more than the SYN backlogs of busy listeners together */
	__type(key, __u64);
	__type(value, struct eno_request);
} eno_requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768); /* all processes together, about 5 MB */
	__type(key, struct eno_resumable_key);
	__type(value, struct eno_resumable);
} eno_resumable SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct eno_resumption);
} eno_resumption SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct eno_peer_key);
	__type(value, struct eno_peer);
} eno_true_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768); /* about 8 MB */
	__type(key, struct eno_tuple);
	__type(value, struct eno_carried);
} eno_carried SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct eno_peer_key);
	__type(value, struct eno_settings); /* offer: made of the wishes */
} eno_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct eno_defaults);
} eno_defaults SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} eno_flushes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096); /* only from connect(2) to the answer */
	__type(key, struct eno_tuple);
	__type(value, struct eno_wish);
} eno_wishes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct eno_install);
} eno_install SEC(".maps");

/* An array's only element is always there. */
static __always_inline struct eno_resumption eno_resumption_now(void)
{
	struct eno_resumption none = {};
	__u32 first = 0;
	struct eno_resumption *now = bpf_map_lookup_elem(&eno_resumption, &first);

	return now ? *now : none;
}

/* The state of a socket, or NULL for all those that never asked for ENO. */
static __always_inline struct eno_socket *eno_of(struct bpf_sock *sk)
{
	return sk ? bpf_sk_storage_get(&eno_sockets, sk, 0, 0) : 0;
}

static __always_inline void eno_map_ipv4(__u32 *address, __u32 ipv4)
{
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

/* The socket's own address; `to` must be zero. */
static __always_inline void eno_address_of(struct bpf_sock *sk, __u8 *to)
{
	__u32 *address = (__u32 *)to;

	if (sk->family == AF_INET6) {
		address[0] = sk->src_ip6[0];
		address[1] = sk->src_ip6[1];
		address[2] = sk->src_ip6[2];
		address[3] = sk->src_ip6[3];
	} else {
		eno_map_ipv4(address, sk->src_ip4);
	}
}

/* The tuple as the socket sees it. `key` must be zero. */
static __always_inline void eno_tuple_of(struct bpf_sock *sk, __u64 netns_cookie, struct eno_tuple *key)
{
	__u32 *remote = (__u32 *)key->remote;

	key->netns_cookie = netns_cookie;
	eno_address_of(sk, key->local);
	if (sk->family == AF_INET6) {
		remote[0] = sk->dst_ip6[0];
		remote[1] = sk->dst_ip6[1];
		remote[2] = sk->dst_ip6[2];
		remote[3] = sk->dst_ip6[3];
	} else {
		eno_map_ipv4(remote, sk->dst_ip4);
	}
	key->local_port = bpf_htons(sk->src_port);
	key->remote_port = sk->dst_port;
}

static __always_inline struct eno_socket *eno_create(struct bpf_sock *sk)
{
	struct eno_socket *e = eno_of(sk);

	if (e || !sk)
		return e;
	e = bpf_sk_storage_get(&eno_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (e)
		e->set.syn_tries = TCP_ENO_SYN_TRIES_DEFAULT;
	return e;
}

/* Whether the program that owns the socket speaks a TEP itself (TCP_ENO_RAW). */
static __always_inline bool eno_is_raw(const struct eno_socket *e)
{
	return e && e->set.offer.contents.length;
}

static __always_inline void eno_plain(struct eno_socket *e, __u8 reason)
{
	e->now.phase = TCP_ENO_PHASE_PLAIN;
	e->now.reason = reason;
	e->now.tep = 0;
	e->now.acknowledging = 0;
	e->now.transcript_length = 0;
}

/* Writes kind, length and contents of one option; returns its length. */
static __always_inline __u32 eno_write_option(__u8 *to, __u32 at, const struct eno_contents *c)
{
	__u32 i;

	if (at > TCP_ENO_OPTION_MAX || c->length > TCP_ENO_CONTENTS_MAX)
		return 0;
	to[at] = TCP_ENO_KIND;
	to[at + 1] = c->length + 2;
#pragma clang loop unroll(disable)
	for (i = 0; i < TCP_ENO_CONTENTS_MAX; i++) {
		if (i >= c->length)
			break;
		to[at + 2 + i] = c->bytes[i];
	}
	return c->length + 2;
}

/* RFC 8547 section 4.8: host A's option, then host B's, whole. */
static __always_inline void eno_write_transcript(struct tcp_eno_state *now, const struct eno_contents *a,
						 const struct eno_contents *b)
{
	__u32 length = eno_write_option(now->transcript, 0, a);

	length += eno_write_option(now->transcript, length, b);
	now->transcript_length = length;
}

#endif
