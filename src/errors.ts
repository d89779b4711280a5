/**
 * Every error that tcpcrypt raises, in one table: a stable code, whose fault it is, what becomes of the
 * connection, and the rule behind it. Nothing else constructs errors for users; a code once published
 * keeps its meaning.
 *
 * fault:  'peer'          the other end broke a MUST
 *         'incompatible'  both ends are right, but cannot agree
 *         'network'       something between the ends
 *         'caller'        this API was used wrongly
 *         'system'        this machine lacks something
 * then:   'plain'  negotiation failed: the connection goes on as plain TCP (or is refused in mode `required`)
 *         'abort'  the connection is reset (RFC 793 ABORT): never end of file, never plaintext
 *         'throw'  nothing was sent; the call failed
 */

/** Who or what is to blame. */
export type Fault = 'peer' | 'incompatible' | 'network' | 'caller' | 'system';
/** What happens then. */
export type Consequence = 'plain' | 'abort' | 'throw';

/** What is to be said about one code. */
export interface ErrorRow {
  readonly fault: Fault;
  readonly then: Consequence;
  /** The rule, as "RFC nnnn §n", or '' where the rule is ours. */
  readonly rule: string;
  readonly message: string;
}

const row = (fault: Fault, then: Consequence, rule: string, message: string): ErrorRow => ({
  fault,
  then,
  rule,
  message,
});

/** The table. */
export const ERRORS = {
  // TCP-ENO negotiation: the connection stays plain TCP.
  ERR_TCPCRYPT_ENO_ABSENT: row(
    'incompatible',
    'plain',
    'RFC 8547 §4.6',
    'the peer, or a box on the path, sent no ENO option',
  ),
  ERR_TCPCRYPT_ENO_MALFORMED: row('peer', 'plain', 'RFC 8547 §4.4', 'the ENO option is ill-formed'),
  ERR_TCPCRYPT_ENO_REPEATED: row(
    'peer',
    'plain',
    'RFC 8547 §4.1',
    'a SYN segment carries more than one ENO option',
  ),
  ERR_TCPCRYPT_ENO_VACUOUS: row(
    'incompatible',
    'plain',
    'RFC 8547 §4.6',
    'the ENO option offers no encryption protocol',
  ),
  ERR_TCPCRYPT_ENO_ROLE: row('incompatible', 'plain', 'RFC 8547 §4.3', 'both ends claim the same role'),
  ERR_TCPCRYPT_ENO_NO_TEP: row(
    'incompatible',
    'plain',
    'RFC 8548 §3.2',
    'no encryption protocol is common to both ends',
  ),
  ERR_TCPCRYPT_ENO_UNAWARE: row(
    'incompatible',
    'plain',
    'RFC 8547 §4.2',
    'the peer application is not aware of encryption, and awareness is mandatory here',
  ),
  ERR_TCPCRYPT_ENO_NO_ACK: row(
    'network',
    'plain',
    'RFC 8547 §4.6',
    'the first ACK segment carries no ENO option',
  ),
  ERR_TCPCRYPT_ENO_GIVEN_UP: row(
    'network',
    'plain',
    'RFC 8547 §4.6',
    'SYN segments with the ENO option stayed unanswered, so later ones went without',
  ),
  ERR_TCPCRYPT_ENO_NO_ROOM: row(
    'caller',
    'plain',
    'RFC 8547 §4.1',
    'our ENO option does not fit into the SYN segment, next to the other options',
  ),
  ERR_TCPCRYPT_ENO_SYN_DATA: row(
    'incompatible',
    'plain',
    'RFC 8547 §4.7',
    'TCP Fast Open put a cookie or data into the SYN segment',
  ),
  ERR_TCPCRYPT_ENO_FORGOTTEN: row(
    'system',
    'abort',
    'RFC 8547 §4.6, §4.8',
    'the peer encrypts, but the ENO option of its SYN segment was lost: too many half-open connections, or a simultaneous open without its first SYN',
  ),

  ERR_TCPCRYPT_ENO_ACK_STRIPPED: row(
    'network',
    'abort',
    'RFC 8547 §4.6',
    'the ENO option was removed from the first ACK segment on its way: the peer began to encrypt',
  ),

  // Key exchange: abort.
  ERR_TCPCRYPT_INIT_MAGIC: row(
    'peer',
    'abort',
    'RFC 8548 §4.1',
    'the key exchange message begins with the wrong magic number',
  ),
  ERR_TCPCRYPT_INIT_LENGTH: row(
    'peer',
    'abort',
    'RFC 8548 §4.1',
    'the length of a key exchange message does not fit its fields',
  ),
  ERR_TCPCRYPT_INIT_TOO_LONG: row(
    'peer',
    'abort',
    'RFC 8548 §4.1',
    'the key exchange message is longer than the accepted 65536 bytes',
  ),
  ERR_TCPCRYPT_INIT_TRUNCATED: row(
    'peer',
    'abort',
    'RFC 8548 §3.3',
    'the stream ended before the key exchange was complete',
  ),
  ERR_TCPCRYPT_INIT_NO_CIPHER: row(
    'incompatible',
    'abort',
    'RFC 8548 §3.3',
    'the peer offers no AEAD algorithm that is acceptable here',
  ),
  ERR_TCPCRYPT_INIT_CIPHER_NOT_OFFERED: row(
    'peer',
    'abort',
    'RFC 8548 §3.3',
    'the peer chose an AEAD algorithm that was not offered',
  ),
  ERR_TCPCRYPT_INIT_PUBLIC_KEY: row('peer', 'abort', 'RFC 8548 §5', "the peer's public key is invalid"),

  // Encrypted stream: abort.
  ERR_TCPCRYPT_FRAME_LENGTH: row(
    'peer',
    'abort',
    'RFC 8548 §3.6',
    'a frame is too short to hold its flags and tag',
  ),
  ERR_TCPCRYPT_FRAME_AUTH: row(
    'network',
    'abort',
    'RFC 8548 §3.6',
    'a frame failed authentication: tampered with, replayed, or the keys differ',
  ),
  ERR_TCPCRYPT_FRAME_PLAINTEXT: row(
    'peer',
    'abort',
    'RFC 8548 §4.2',
    'the decrypted contents of a frame are malformed',
  ),
  ERR_TCPCRYPT_FRAME_AFTER_FIN: row(
    'peer',
    'abort',
    'RFC 8548 §3.7',
    'data followed the frame that ended the stream',
  ),
  ERR_TCPCRYPT_FRAME_TRUNCATED: row('network', 'abort', 'RFC 8548 §3.7', 'the stream ended inside a frame'),
  ERR_TCPCRYPT_STREAM_TRUNCATED: row(
    'network',
    'abort',
    'RFC 8548 §3.7',
    'TCP FIN arrived without the authenticated end of the stream (FINp)',
  ),
  ERR_TCPCRYPT_STREAM_LIMIT: row(
    'caller',
    'abort',
    'RFC 8548 §3.6',
    'the stream reached the limit of its frame numbers',
  ),

  // Resumption.
  ERR_TCPCRYPT_RESUMPTION_LOST: row(
    'system',
    'abort',
    'RFC 8548 §3.5',
    'the kernel agreed to resume a session that this process no longer has',
  ),

  // Policy and time.
  ERR_TCPCRYPT_NOT_ENCRYPTED: row(
    'incompatible',
    'abort',
    '',
    'the connection could not be encrypted, and encryption is required',
  ),
  ERR_TCPCRYPT_HANDSHAKE_TIMEOUT: row(
    'peer',
    'abort',
    '',
    'the peer did not complete the key exchange in time',
  ),

  ERR_TCPCRYPT_OVERLOAD: row(
    'system',
    'abort',
    '',
    'too many key exchanges at once: the oldest was given up',
  ),

  ERR_TCPCRYPT_PEER_SILENT: row(
    'network',
    'abort',
    'RFC 8548 §3.9',
    'the peer did not answer a keep-alive in time',
  ),

  // Authentication over the session ID (src/auth, docs/authentication.md): nobody's data was delivered yet.
  ERR_TCPCRYPT_AUTH_UNAWARE: row(
    'incompatible',
    'abort',
    'RFC 8547 §4.2',
    'the peer application did not announce that it speaks authentication',
  ),
  ERR_TCPCRYPT_AUTH_VERSION: row(
    'incompatible',
    'abort',
    'RFC 8547 §10',
    'the peer speaks no version of the authentication protocol that is known here',
  ),
  ERR_TCPCRYPT_AUTH_MESSAGE: row(
    'peer',
    'abort',
    '',
    'an authentication message is malformed or out of turn',
  ),
  ERR_TCPCRYPT_AUTH_TOO_LONG: row('peer', 'abort', '', 'an authentication message is longer than allowed'),
  ERR_TCPCRYPT_AUTH_TRUNCATED: row(
    'network',
    'abort',
    '',
    'the connection ended before authentication was complete',
  ),
  ERR_TCPCRYPT_AUTH_TIMEOUT: row('peer', 'abort', '', 'the peer did not complete authentication in time'),
  ERR_TCPCRYPT_AUTH_REFUSED: row('peer', 'abort', '', 'the peer refused to go on'),
  ERR_TCPCRYPT_AUTH_SESSION: row(
    'network',
    'abort',
    'RFC 8547 §5.1',
    'the peer has another session ID: somebody sits in the middle',
  ),
  ERR_TCPCRYPT_AUTH_ROLE: row('network', 'abort', 'RFC 8547 §5.1', 'the peer claims our own role'),
  ERR_TCPCRYPT_AUTH_REFLECTED: row('network', 'abort', 'RFC 8547 §5.1', 'our own message came back'),
  ERR_TCPCRYPT_AUTH_DOWNGRADED: row(
    'network',
    'abort',
    '',
    'the two ends saw different offers of mechanisms: somebody changed them on the way',
  ),
  ERR_TCPCRYPT_AUTH_NO_MECHANISM: row(
    'incompatible',
    'abort',
    '',
    'no mechanism of authentication is common to both ends',
  ),
  ERR_TCPCRYPT_AUTH_PROOF: row(
    'network',
    'abort',
    'RFC 8547 §5.1',
    'the proof is wrong: the peer does not hold the secret, or meant it for another connection',
  ),
  ERR_TCPCRYPT_AUTH_BATCH: row(
    'network',
    'abort',
    'RFC 8547 §5.1',
    'the signature does not cover this connection',
  ),
  ERR_TCPCRYPT_AUTH_SHARE: row('peer', 'abort', '', 'the public share of the password exchange is invalid'),
  ERR_TCPCRYPT_AUTH_CERTIFICATE: row('peer', 'abort', 'RFC 5280 §6', 'the certificate is not acceptable'),
  ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME: row(
    'peer',
    'abort',
    'RFC 9525 §6',
    'the certificate is for another host',
  ),
  ERR_TCPCRYPT_AUTH_KEY_UNKNOWN: row('peer', 'abort', '', 'the key of the peer is not known here'),
  ERR_TCPCRYPT_AUTH_KEY_CHANGED: row(
    'network',
    'abort',
    '',
    'THE KEY OF THE HOST HAS CHANGED: somebody may sit in the middle, or the host was set up anew',
  ),
  ERR_TCPCRYPT_AUTH_KNOWN_HOSTS: row('system', 'abort', '', 'the file of known hosts cannot be used'),
  ERR_TCPCRYPT_AUTH_KEY_FILE: row('system', 'throw', '', 'the file of a key or certificate cannot be used'),
  ERR_TCPCRYPT_AUTH_GUESSES: row('peer', 'abort', '', 'too many attempts to authenticate'),

  // Use of the API.
  ERR_TCPCRYPT_ARGUMENT: row('caller', 'throw', '', 'invalid argument'),
  ERR_TCPCRYPT_NO_SESSION: row('caller', 'throw', 'RFC 8547 §5.1', 'the connection has no session ID'),
  ERR_TCPCRYPT_CLOSED: row('caller', 'throw', '', 'the session is closed'),

  ERR_TCPCRYPT_POLICY: row('caller', 'throw', '', 'the policy file cannot be used'),

  // This machine.
  ERR_TCPCRYPT_PLATFORM: row('system', 'throw', '', 'TCP-ENO needs Linux'),
  ERR_TCPCRYPT_KERNEL_ABSENT: row(
    'system',
    'throw',
    '',
    'the kernel part is not loaded: run "tcpcrypt up" as root',
  ),
  ERR_TCPCRYPT_KERNEL_FEATURE: row(
    'system',
    'throw',
    '',
    'this machine lacks something that the kernel part needs: run "tcpcrypt doctor"',
  ),
  ERR_TCPCRYPT_PERMISSION: row('system', 'throw', '', 'not permitted: run as root'),
  ERR_TCPCRYPT_NOT_RUNNING: row(
    'system',
    'throw',
    '',
    'no daemon runs here: start it with "tcpcrypt daemon", or name its socket with --control',
  ),
  ERR_TCPCRYPT_RUNNING: row(
    'system',
    'throw',
    '',
    'a daemon runs already in this network namespace: see "tcpcrypt status", and stop that one first',
  ),
  ERR_TCPCRYPT_SYSTEM: row('system', 'throw', '', 'a system call failed'),
  ERR_TCPCRYPT_CRYPTO: row('system', 'abort', '', 'OpenSSL failed'),

  // The lab: hosts as network namespaces, for the demo and the tests.
  ERR_TCPCRYPT_LAB: row('system', 'throw', '', 'the lab of network namespaces failed'),
  ERR_TCPCRYPT_CAPTURE: row('system', 'throw', '', 'the packet capture cannot be read'),
} as const satisfies Record<`ERR_TCPCRYPT_${string}`, ErrorRow>;

/** `code` of every {@link TcpcryptError}. */
export type ErrorCode = keyof typeof ERRORS;

/** What an error says beyond the table. */
export interface TcpcryptErrorOptions {
  /** What exactly was wrong, for people: appended to the table's message. Never holds secrets. */
  readonly detail?: string;
  /** The positive errno of the system call that failed. */
  readonly errno?: number;
  readonly cause?: unknown;
}

/** An error with a stable `code` from the table {@link ERRORS}. */
export class TcpcryptError extends Error {
  readonly code: ErrorCode;
  readonly fault: Fault;
  /** What becomes of the connection. */
  readonly consequence: Consequence;
  /** The rule that was broken, e.g. "RFC 8548 §3.6"; '' where the rule is ours. */
  readonly rule: string;
  /** The positive errno of the system call that failed; undefined otherwise. */
  readonly errno: number | undefined;

  constructor(code: ErrorCode, options: TcpcryptErrorOptions = {}) {
    const { fault, then, rule, message } = ERRORS[code];
    super(
      options.detail === undefined ? message : `${message} (${options.detail})`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'TcpcryptError';
    this.code = code;
    this.fault = fault;
    this.consequence = then;
    this.rule = rule;
    this.errno = options.errno;
  }
}
