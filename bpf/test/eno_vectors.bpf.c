// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Runs the parser of eno_option.h on contents from a test, through BPF_PROG_TEST_RUN. The "packet" is an Ethernet header,
 * struct eno_contents, struct eno_reading; the program fills in the last. Returns 1 for well-formed contents, 0 otherwise.
 */
#include "../eno_option.h"

#define ETHERNET_HEADER 14

SEC("tc")
int eno_vector(struct __sk_buff *packet)
{
	struct eno_contents contents = {};
	struct eno_reading reading = {};

	if (bpf_skb_load_bytes(packet, ETHERNET_HEADER, &contents, sizeof(contents)))
		return -1;
	if (eno_read(&contents, &reading) < 0)
		return 0;
	if (bpf_skb_store_bytes(packet, ETHERNET_HEADER + sizeof(contents), &reading, sizeof(reading), 0))
		return -1;
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
