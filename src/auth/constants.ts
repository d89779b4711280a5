/** The numbers of the authentication protocol (docs/authentication.md), then those that we tuned. */

export const VERSION = 1;
/** First in a HELLO, so that a peer that speaks something else is told from one that is merely wrong. */
export const MAGIC = Buffer.from('tcAU');

/** Type of a message, its first byte. */
export const TYPE = { hello: 1, agree: 2, proof: 3, done: 4, refuse: 5 } as const;
export type MessageType = (typeof TYPE)[keyof typeof TYPE];
/** type u8, length u24 */
export const HEADER_LENGTH = 4;

/** In a HELLO's flags: "prove who you are". */
export const FLAG_DEMAND = 0x01;
/** In a HELLO's entry: what its sender can do with the mechanism. */
export const CAN_PROVE = 0x01;
export const CAN_VERIFY = 0x02;

/** Numbers of mechanisms. In a mutual one, one run authenticates both ends; the others prove one end each. */
export const MECHANISMS = {
  'shared-key': { id: 1, mutual: true },
  'known-key': { id: 2, mutual: false },
  certificate: { id: 3, mutual: false },
  cpace: { id: 4, mutual: true },
  spake2plus: { id: 5, mutual: true },
} as const;
/** Names of mechanisms, as in `Peer.mechanism`. */
export type MechanismName = keyof typeof MECHANISMS;

/** Why a connection is refused, as the peer is told: no more than it needs. */
export const REFUSALS = ['protocol', 'mechanism', 'authentication', 'time', 'attempts'] as const;
export type Refusal = (typeof REFUSALS)[number];

// Tuned by us.

export const DEFAULT_TIMEOUT = 10_000;
export const HELLO_LIMIT = 4096;
export const MECHANISM_LIMIT = 16;
export const HINT_LIMIT = 255;
/** Length of a session ID: 33 bytes in RFC 8548, more in TEPs to come. */
export const SESSION_ID_LIMIT = 64;
/** How long a refusal may take to leave before the connection is reset anyway. */
export const REFUSAL_TIMEOUT = 1000;
