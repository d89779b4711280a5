// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* A program that the verifier must refuse: it reads beyond its context. "tcpcrypt up" with it shall leave nothing behind
 * and show the verifier's reason. */
#include "../eno_state.h"

SEC("sockops")
int eno_sockops(struct bpf_sock_ops *ctx)
{
	return *(__u32 *)((char *)ctx + 4096);
}

char _license[] SEC("license") = "Dual MIT/GPL";
