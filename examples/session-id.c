/*
 * Connects to HOST PORT and prints the session ID of the connection, which is equal at both ends if and only if nobody
 * sits in the middle. An ordinary program: the daemon encrypts. Ends with its standard input.
 *
 *     cc -I include -o session-id examples/session-id.c
 *     ./session-id bob 7000
 *     ./session-id --mandatory bob 7000       rather no connection than a plain one
 *
 * Exit status: 0 encrypted, 1 plain or no connection, 2 usage.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "tcp_eno.h"

static int open_connection(const char *host, const char *port, int mandatory)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *one;
	int fd = -1, error = getaddrinfo(host, port, &hints, &found);

	if (error) {
		fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
		return -1;
	}
	for (one = found; one; one = one->ai_next) {
		fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
		if (fd < 0)
			continue;
		if ((!mandatory ||
		     !setsockopt(fd, IPPROTO_TCP, TCP_ENO_TEP_MANDATORY, &mandatory, sizeof mandatory)) &&
		    !connect(fd, one->ai_addr, one->ai_addrlen))
			break;
		perror(host);
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

/* The number of bytes, or -1 and errno: EINVAL where the connection is plain, ENOPROTOOPT without "tcpcrypt up". */
static int session_id(int fd, unsigned char *id)
{
	const struct timespec millisecond = {.tv_nsec = 1000 * 1000};
	int tries;

	/* Right after connect(2) the key exchange may still go on. Once a byte has been received it is over. */
	for (tries = 0; tries < 10000; tries++) {
		socklen_t length = TCP_ENO_SESSID_MAX;

		if (!getsockopt(fd, IPPROTO_TCP, TCP_ENO_SESSID, id, &length))
			return (int)length;
		if (errno != ENOTCONN)
			break;
		nanosleep(&millisecond, NULL);
	}
	return -1;
}

int main(int count, char **words)
{
	int mandatory = count > 1 && !strcmp(words[1], "--mandatory"), fd, length, i;
	unsigned char id[TCP_ENO_SESSID_MAX];
	char ignored[512];

	if (count - mandatory != 3) {
		fprintf(stderr, "usage: %s [--mandatory] HOST PORT\n", words[0]);
		return 2;
	}
	fd = open_connection(words[1 + mandatory], words[2 + mandatory], mandatory);
	if (fd < 0)
		return 1;
	length = session_id(fd, id);
	if (length < 0) {
		fprintf(stderr, "no session ID: %s\n", errno == EINVAL ? "the connection is plain" : strerror(errno));
		return 1;
	}
	for (i = 0; i < length; i++)
		printf("%02x", id[i]);
	printf("\n");
	fflush(stdout);
	while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
		;
	close(fd);
	return 0;
}
