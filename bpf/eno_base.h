/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What every file here needs: the BPF interface, the public header, and the few constants of Linux and TCP that
 * no header offers to BPF programs. */
#ifndef ENO_BASE_H
#define ENO_BASE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "tcp_eno.h"

#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_ACK 0x10

#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_KEEPALIVE 9
#define SO_MARK 36
#define SO_BINDTOIFINDEX 62
#define IPPROTO_TCP 6
#define TCP_KEEPIDLE 4
#define TCP_KEEPINTVL 5
#define TCP_USER_TIMEOUT 18
#define TCP_FASTOPEN 23

#define ENOPROTOOPT 92
#define ENODATA 61
#define ENOENT 2
#define EEXIST 17
#define EINVAL 22
#define EACCES 13
#define EISCONN 106
#define ENOTCONN 107
#define EOPNOTSUPP 95

/* Makes clang test and use the very same register, so that the verifier sees that the index was tested. */
#define SAME_REGISTER(x) asm volatile("" : "+r"(x))

#define PASS 1 /* the return value of every program: neither refuses nor changes anything by itself */

#endif
