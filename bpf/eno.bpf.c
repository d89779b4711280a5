// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * TCP-ENO (RFC 8547) for sockets that ask for it, without a kernel patch.
 *
 *     eno_option.h      the grammar of the option
 *     eno_negotiate.h   the decisions
 *     eno_state.h       the maps
 *     eno_listener.h    which listener a SYN-ACK belongs to
 *     eno_resume.h      resumption by a listener
 *     eno_handshake.h   call-backs of the TCP handshake; eno_active.h, eno_passive.h: of either opener
 *     eno_setsockopt.h, eno_getsockopt.h
 *     eno_true_peer.h   getpeername behind the relay
 *     eno_wish.h        what programs wish that do not speak ENO themselves
 *     eno_carried.h     the session ID of connections that the daemon carries
 *
 * Large functions are not inlined, for the limit of the stack: 512 bytes for all frames of a call chain.
 *
 * What cannot be done from here:
 *
 *   - A repeated SYN cannot be compared with the first one (eno_passive.h, eno_syn_options).
 *   - Data in a received SYN with ENO cannot be discarded (ENO-41). The kernel drops it by itself, except on listeners with
 *     TCP Fast Open. So a listener with ENO cannot have that; and while the daemon runs, a SYN with ENO to any other
 *     listener goes to one of the daemon's.
 */
#include "eno_handshake.h"
#include "eno_setsockopt.h"
#include "eno_getsockopt.h"
#include "eno_true_peer.h"

SEC("sockops")
int eno_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		eno_connect(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		eno_listen(ctx);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		eno_header_length(ctx);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		eno_header_write(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		eno_active_opened(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		eno_passive_opened(ctx);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		eno_segment_received(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		eno_state_changed(ctx);
		break;
	}
	return PASS;
}

SEC("cgroup/setsockopt")
int eno_set(struct bpf_sockopt *ctx)
{
	if (ctx->level == IPPROTO_TCP && ctx->optname == TCP_FASTOPEN)
		return eno_set_fast_open(ctx);
	return eno_is_ours(ctx) ? eno_setsockopt(ctx) : PASS;
}

SEC("cgroup/getsockopt")
int eno_get(struct bpf_sockopt *ctx)
{
	return eno_is_ours(ctx) ? eno_getsockopt(ctx) : PASS;
}

SEC("cgroup/getpeername4")
int eno_peer4(struct bpf_sock_addr *ctx)
{
	return eno_getpeername4(ctx);
}

SEC("cgroup/getpeername6")
int eno_peer6(struct bpf_sock_addr *ctx)
{
	return eno_getpeername6(ctx);
}

char _license[] SEC("license") = "Dual MIT/GPL";
