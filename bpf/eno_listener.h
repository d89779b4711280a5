/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What no helper tells of a socket.
 *
 * To which listener does this SYN-ACK belong? In its call-backs the context has no socket, only a half-open request.
 *
 * This variant reads the listener's cookie from the request by BTF (CO-RE; kernel 6.2, for the two kfuncs). It is
 * exact also for SO_REUSEPORT groups and transparent listeners, where a key of network namespace and port is not.
 * A variant for older kernels replaces this file.
 */
#ifndef ENO_LISTENER_H
#define ENO_LISTENER_H

#include "eno_base.h"
#include <bpf/bpf_core_read.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))

typedef struct {
	__s64 counter;
} KERNEL_TYPE atomic64_t;

struct sock;
struct sock_common {
	atomic64_t skc_cookie;
	struct sock *skc_listener;
	__u16 skc_num;
} KERNEL_TYPE;
struct sock {
	struct sock_common __sk_common;
} KERNEL_TYPE;
struct request_sock {
	struct sock_common __req_common;
} KERNEL_TYPE;
struct inet_request_sock {
	struct request_sock req;
} KERNEL_TYPE;
struct tcp_request_sock {
	struct inet_request_sock req;
} KERNEL_TYPE;
struct fastopen_queue {
	int max_qlen;
} KERNEL_TYPE;
struct request_sock_queue {
	struct fastopen_queue fastopenq;
} KERNEL_TYPE;
struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
} KERNEL_TYPE;
struct tcp_sock {
	void *fastopen_req;
} KERNEL_TYPE;
struct bpf_sockopt_kern {
	struct sock *sk;
} KERNEL_TYPE;
struct bpf_sock_ops_kern {
	struct sock *sk;
} KERNEL_TYPE;

extern void *bpf_cast_to_kern_ctx(void *) __ksym;
extern void *bpf_rdonly_cast(const void *, __u32) __ksym;

/* The listener, or NULL. */
static __always_inline struct sock *eno_listener(struct bpf_sock_ops *ctx)
{
	struct bpf_sock_ops_kern *kernel = bpf_cast_to_kern_ctx(ctx);
	struct tcp_request_sock *request;

	if (!kernel->sk)
		return 0;
	request = bpf_skc_to_tcp_request_sock(kernel->sk);
	if (!request)
		return 0;
	return bpf_rdonly_cast(request->req.req.__req_common.skc_listener, bpf_core_type_id_kernel(struct sock));
}

/* The socket cookie of the listener, or 0. */
static __always_inline __u64 eno_listener_cookie(struct bpf_sock_ops *ctx)
{
	struct sock *listener = eno_listener(ctx);

	return listener ? listener->__sk_common.skc_cookie.counter : 0;
}

/* Whether the SYN was meant for another port than the listener's: it was steered here (TPROXY). */
static __always_inline bool eno_steered(struct bpf_sock_ops *ctx)
{
	struct sock *listener = eno_listener(ctx);

	return listener && listener->__sk_common.skc_num != ctx->local_port;
}

/* Whether TCP Fast Open was switched on for this socket: it would take data from SYN segments. */
static __always_inline bool eno_takes_syn_data(struct bpf_sockopt *ctx)
{
	struct bpf_sockopt_kern *kernel = bpf_cast_to_kern_ctx(ctx);
	struct inet_connection_sock *socket =
		bpf_rdonly_cast(kernel->sk, bpf_core_type_id_kernel(struct inet_connection_sock));

	return socket->icsk_accept_queue.fastopenq.max_qlen > 0;
}

/* connect(2), or sendto(2) with MSG_FASTOPEN: whether data are to travel in the SYN. */
static __always_inline bool eno_sends_syn_data(struct bpf_sock_ops *ctx)
{
	struct bpf_sock_ops_kern *kernel = bpf_cast_to_kern_ctx(ctx);
	struct tcp_sock *socket = bpf_rdonly_cast(kernel->sk, bpf_core_type_id_kernel(struct tcp_sock));

	return socket->fastopen_req;
}

#endif
