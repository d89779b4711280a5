/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * tcp_eno.h - socket options for TCP-ENO (RFC 8547), after draft-ietf-tcpinc-api-06.
 *
 * With the kernel part of tcpcrypt loaded ("tcpcrypt up"), every process may use these options with
 * setsockopt(2) and getsockopt(2) at level IPPROTO_TCP, unprivileged, in any language. Without it both calls
 * fail with ENOPROTOOPT. The manual page is tcp_eno(7).
 *
 *     // A host that speaks a TEP itself offers Curve25519 (0x23) and, less preferred, P-256 (0x21):
 *     setsockopt(fd, IPPROTO_TCP, TCP_ENO_RAW, "\x21\x23", 2);
 *     connect(fd, ...);
 *
 *     // An ordinary program, whose connections the daemon encrypts, would rather fail than be plain:
 *     int yes = 1;
 *     setsockopt(fd, IPPROTO_TCP, TCP_ENO_TEP_MANDATORY, &yes, sizeof yes);
 *
 *     // Is this connection encrypted, and what is it called?
 *     unsigned char id[TCP_ENO_SESSID_MAX];
 *     socklen_t length = sizeof id;
 *     if (getsockopt(fd, IPPROTO_TCP, TCP_ENO_SESSID, id, &length) == 0) ...   // length bytes, never zero
 *
 * Errors:
 *     ENOPROTOOPT  the kernel part is not loaded for this process's cgroup
 *     ENOTCONN     reading, where there is no connection, or it is still being negotiated (or has no session ID yet)
 *     EINVAL       reading, where ENO is off or has failed; setting an invalid value; a buffer too short
 *     EISCONN      setting what must be set before the SYN was sent or before listen(2)
 *     EACCES       setting a read-only option
 *     ENODATA      reading an option of bytes while it is empty
 *     ENOENT, EEXIST   TCP_ENO_RESUME_TAKE, TCP_ENO_RESUMABLE
 */
#ifndef TCP_ENO_H
#define TCP_ENO_H

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Values fixed by RFC 8547 ---- */

#define TCP_ENO_KIND 69		    /* TCP option kind */
#define TCP_ENO_OPTION_MAX 40	    /* what TCP leaves for all options together */
#define TCP_ENO_CONTENTS_MAX 38	    /* ... without kind and length */
#define TCP_ENO_TRANSCRIPT_MAX 80   /* the options of both hosts */
#define TCP_ENO_SESSID_MIN 33	    /* RFC 8547 section 5.1 */

/* ---- Options: the numbers of the FreeBSD prototype, not standardised ----
 *
 * Those without "read-only" are for programs that leave encryption to the daemon ("tcpcrypt daemon"): what they wish for
 * their connections. They are to be set before connect(2) or listen(2), fail with EINVAL where TCP_ENO_RAW is set, and
 * accepted sockets have those of their listener. The administrator's policy has the last word. */

#define TCP_ENO_ENABLED 1026	    /* int -1..1: 0 = these connections are plain; 1 = ask for encryption also where earlier
				       connections were plain; -1 = as the system says. Default -1 */
#define TCP_ENO_SESSID 1027	    /* bytes, 33..64: the session ID. Read by any holder of the descriptor; set
				       exactly once, by the implementation of the TEP that encrypts this connection */
#define TCP_ENO_NEGTEP 1028	    /* int, read-only: the negotiated TEP; bit 7 is the v bit that host B sent */
#define TCP_ENO_TEPS 1029	    /* bytes, at most 8: TEPs 0x21..0x24 to offer or to accept, in increasing preference (it
				       counts in role B); bit 7 is ignored. Empty: as TCP_ENO_ENABLED 0.
				       Default: what the daemon was told (read without a daemon: ENODATA); others than
				       those are not used */
#define TCP_ENO_SELF_GOPT 1030	    /* int 0..31: our global suboption; bit 1 = application-aware, bit 0 = b, for active
				       opens (it reads as 1 for passive ones). The others are sent as 0. Default 0 */
#define TCP_ENO_PEER_GOPT 1031	    /* int 0..31, read-only: the peer's global suboption; bit 1 = application-aware */
#define TCP_ENO_AA_MANDATORY 1032   /* int 0..1: 1 keeps ENO off unless the peer is application-aware (its a bit is 1).
				       Unlike in the draft it goes with TCP_ENO_RAW as well. Default 0 */
#define TCP_ENO_TEP_MANDATORY 1033  /* int 0..1, at any time: 1 = rather no connection than a plain one. connect(2) fails
				       with ECONNREFUSED where the peer does not encrypt, and with EHOSTUNREACH where there
				       is no daemon, or with data in the SYN (TCP Fast Open). What the daemon does not carry
				       ends with ETIMEDOUT within some seconds, without a byte having left or entered; so does
				       a connection that is plain when this is set. Default 0 */
#define TCP_ENO_ROLE 1034	    /* int, read-only: 0 = host A, 1 = host B */
#define TCP_ENO_SELF_NAME 1035	    /* bytes, read-only: role, then session ID: the unique name of this end */
#define TCP_ENO_PEER_NAME 1036	    /* bytes, read-only: the same for the other end */
#define TCP_ENO_RAW 1037	    /* bytes, at most 38: contents of the SYN-form option, without kind and length.
				       Before connect(2): what the SYN carries. Before listen(2): the TEPs this host
				       accepts, in increasing preference; a SYN-ACK carries our global suboption with
				       b=1 and solely the chosen TEP. Empty: this socket does not speak ENO itself
				       (the default). Excludes TCP_FASTOPEN on listeners: EOPNOTSUPP.
				       Read: what was set */
#define TCP_ENO_TRANSCRIPT 1038	    /* bytes, read-only: negotiation transcript (RFC 8547 section 4.8) */

/* ---- Options: ours ---- */

#define TCP_ENO_STATE 1039	    /* struct tcp_eno_state, read-only, at any time; EINVAL where ENO was never on */
#define TCP_ENO_SYN_TRIES 1040	    /* int 0..255: SYN segments that carry ENO before the rest goes without
				       (RFC 8547 section 4.6). Default 2 */
#define TCP_ENO_EXPECT 1041	    /* bytes, 2..33: a TEP byte with v=1 and how its data in the SYN-ACK must begin.
				       A tcpcrypt TEP (0x21-0x24) with v=1 in a SYN-ACK resumes a session only when it
				       fits what was set here; it counts as invalid otherwise (RFC 8548 section 3.5) */
#define TCP_ENO_RESUME_GROUP 1042   /* struct tcp_eno_resume_group, write-only, before listen(2): where this listener
				       looks for sessions to resume. Without it, it resumes none (the default) */
#define TCP_ENO_RESUMABLE 1043	    /* 1..8 struct tcp_eno_resumable, write-only, on a socket with a group, at any
				       time: sessions that the group's listeners may resume, once each. The oldest
				       ones are forgotten when there are too many. EEXIST: known already */
#define TCP_ENO_RESUME_TAKE 1044    /* 10 bytes, TEP and the peer's half, write-only, on a socket with a group: takes a
				       session back. ENOENT: a SYN has taken it, or it was forgotten */

/* ---- tcpcrypt (RFC 8548); identifiers of AEAD algorithms are two bytes, big-endian ---- */

#define TCP_CRYPT_CONF 1045	    /* int, read-only: the AEAD algorithm in use. Set once, by the implementation of tcpcrypt
				       that encrypts this connection */
#define TCP_CRYPT_ACONF 1046	    /* 1..4 identifiers: what to offer in role A; the order does not matter */
#define TCP_CRYPT_BCONF 1047	    /* 1..4 identifiers: what to choose from in role B, in increasing preference. Both are
				       for fresh key exchanges: a resumed session keeps its own. Default: as TCP_ENO_TEPS */
#define TCP_CRYPT_CACHE_FLUSH 1048  /* int 1, write-only. Before connect(2) or listen(2): these connections resume no
				       earlier session. On an encrypted connection that the daemon carries: soon nothing
				       can resume it any more, nor what it has resumed */

#define TCP_CRYPT_RESUMPTION 1049   /* int, read-only, on any TCP socket: a number that changes when the administrator lets
				       all sessions of this machine be forgotten; whoever caches some must forget those
				       from before. EACCES: none may be resumed ("tcpcrypt resumption --refuse") */

#define TCP_ENO_SESSID_MAX 64
#define TCP_ENO_EXPECT_MAX 33
#define TCP_ENO_RESUMABLE_MAX 8 /* at a time */
#define TCP_ENO_HALF 9		/* bytes of one half of a resumption identifier */
#define TCP_ENO_NONCE_MAX 8
#define TCP_ENO_SYN_TRIES_DEFAULT 2

/* A listener that speaks ENO itself has this bit in its SO_MARK from listen(2) on (accepted connections do not):
 * firewall rules that steer ENO connections to a relay leave them alone, e.g. "socket mark & 0x04000000 == 0".
 * So have the SYNs, and nothing after them, of a socket with TCP_ENO_TEP_MANDATORY or TCP_ENO_ENABLED 1 that does not
 * speak ENO itself: the daemon is asked, whatever it remembers of the destination. */
#define TCP_ENO_LISTENER_MARK 0x04000000

enum tcp_eno_phase {
	TCP_ENO_PHASE_IDLE = 0,	      /* not connected */
	TCP_ENO_PHASE_OFFERED = 1,    /* SYN sent: undecided */
	TCP_ENO_PHASE_LISTEN = 2,
	TCP_ENO_PHASE_ENCRYPTING = 3, /* negotiated: this end must follow the TEP. Final */
	TCP_ENO_PHASE_PLAIN = 4,      /* failed: plain TCP, for the reason in "reason". Final */
};

/* Why a connection is plain. Values are part of this interface; new ones may follow. */
enum tcp_eno_reason {
	TCP_ENO_REASON_NONE = 0,
	TCP_ENO_REASON_ABSENT = 1,     /* the peer's SYN segment had no ENO option, or a broken list of options */
	TCP_ENO_REASON_MALFORMED = 2,  /* ... an ill-formed one (section 4.4) */
	TCP_ENO_REASON_REPEATED = 3,   /* ... several (section 4.1) */
	TCP_ENO_REASON_VACUOUS = 4,    /* ... one without any TEP (section 4.6) */
	TCP_ENO_REASON_ROLE = 5,       /* both hosts sent the same b bit (section 4.3) */
	TCP_ENO_REASON_NO_TEP = 6,     /* no common, valid TEP (section 4.5) */
	TCP_ENO_REASON_NO_ACK = 7,     /* the first ACK segment had no ENO option (section 4.6) */
	TCP_ENO_REASON_GIVEN_UP = 8,   /* SYNs with ENO stayed unanswered, later ones went without (section 4.6) */
	TCP_ENO_REASON_NO_ROOM = 9,    /* our option did not fit into the segment, next to the others */
	TCP_ENO_REASON_SYN_DATA = 10,  /* TCP Fast Open: a cookie or data in a SYN (section 4.7) */
	TCP_ENO_REASON_FORGOTTEN = 11, /* the peer encrypts, and its SYN's option is not known any more: too many
					half-open connections, or a simultaneous open that lost a SYN. Abort */
	TCP_ENO_REASON_UNAWARE = 12,   /* TCP_ENO_AA_MANDATORY, and the peer's a bit is 0 (section 4.2) */
};

/* Value of TCP_ENO_STATE. May grow at the end: a short buffer gets the beginning. */
struct tcp_eno_state {
	unsigned char phase;	      /* enum tcp_eno_phase */
	unsigned char reason;	      /* enum tcp_eno_reason */
	unsigned char role;	      /* 0 = A, 1 = B; valid when encrypting */
	unsigned char tep;	      /* as TCP_ENO_NEGTEP; 0 unless encrypting */
	unsigned char peer_gopt;      /* as TCP_ENO_PEER_GOPT */
	unsigned char syn_tries;      /* as TCP_ENO_SYN_TRIES */
	unsigned char syns_with_eno;  /* SYN segments sent with the option, retransmissions included */
	unsigned char acknowledging;  /* 1 while our segments still carry the two-byte option */
	unsigned char sessid_length;  /* 0: TCP_ENO_SESSID is not set yet */
	unsigned char transcript_length;
	unsigned short cipher;	      /* as TCP_CRYPT_CONF; 0: not known yet */
	unsigned char reserved[4];
	unsigned char transcript[TCP_ENO_TRANSCRIPT_MAX];
};

/* Resumption by a passive opener (RFC 8548 section 3.5). Which SYN resumes which session must be decided before a
 * process runs, so the implementation of tcpcrypt says beforehand which sessions may be resumed and how. The secrets
 * stay with it: here are only the identifiers, which the handshake shows to everybody. */

/* A group is known by its token: 16 random bytes. Whoever knows it may have listeners in it, add sessions, and take
 * them back; nobody can find it out. */
struct tcp_eno_resume_group {
	unsigned char token[16];
	unsigned int accepts; /* a listener resumes the sessions that have one of these bits in "classes" */
};

struct tcp_eno_resumable {
	unsigned char tep;			    /* 0x21..0x24 */
	unsigned char peer_half[TCP_ENO_HALF];	    /* what the peer's SYN must bring */
	unsigned char own_half[TCP_ENO_HALF];	    /* what the SYN-ACK answers, followed by the nonce */
	unsigned char nonce_length;		    /* at most: 8 bytes fit only next to few other TCP options */
	unsigned char nonce[TCP_ENO_NONCE_MAX];	    /* random; the time of the answer is mixed in */
	unsigned int classes;			    /* for example one bit per AEAD algorithm */
};

#ifdef __cplusplus
}
#endif
#endif /* TCP_ENO_H */
