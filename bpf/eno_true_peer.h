/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * A server behind the daemon's relay has the daemon as its peer, over loopback. getpeername() and accept() shall name
 * the real client: the daemon records it before it connects.
 */
#ifndef ENO_TRUE_PEER_H
#define ENO_TRUE_PEER_H

#include "eno_state.h"

static __always_inline struct eno_peer *eno_true_peer(struct bpf_sock_addr *ctx, struct eno_peer_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	key->port = (__be16)ctx->user_port;
	return bpf_map_lookup_elem(&eno_true_peers, key);
}

static __always_inline bool eno_is_ipv4(const __u32 *address)
{
	return !address[0] && !address[1] && address[2] == bpf_htonl(0xffff);
}

static __always_inline int eno_getpeername4(struct bpf_sock_addr *ctx)
{
	struct eno_peer_key key = {};
	__u32 *address = (__u32 *)key.address;
	struct eno_peer *peer;

	address[2] = bpf_htonl(0xffff);
	address[3] = ctx->user_ip4;
	peer = eno_true_peer(ctx, &key);
	if (peer && eno_is_ipv4((__u32 *)peer->address)) {
		ctx->user_ip4 = ((__u32 *)peer->address)[3];
		ctx->user_port = peer->port;
	}
	return PASS;
}

static __always_inline int eno_getpeername6(struct bpf_sock_addr *ctx)
{
	struct eno_peer_key key = {};
	__u32 *address = (__u32 *)key.address;
	struct eno_peer *peer;

	address[0] = ctx->user_ip6[0];
	address[1] = ctx->user_ip6[1];
	address[2] = ctx->user_ip6[2];
	address[3] = ctx->user_ip6[3];
	peer = eno_true_peer(ctx, &key);
	if (peer) {
		ctx->user_ip6[0] = ((__u32 *)peer->address)[0];
		ctx->user_ip6[1] = ((__u32 *)peer->address)[1];
		ctx->user_ip6[2] = ((__u32 *)peer->address)[2];
		ctx->user_ip6[3] = ((__u32 *)peer->address)[3];
		ctx->user_port = peer->port;
	}
	return PASS;
}

#endif
