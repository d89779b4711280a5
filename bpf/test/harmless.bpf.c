// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Somebody else's program on our cgroup. */
#include "../eno_base.h"

SEC("cgroup/getpeername6")
int harmless(void *ctx __attribute__((unused)))
{
	return PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
