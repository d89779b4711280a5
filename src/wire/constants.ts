/** Numbers of TCP-ENO and tcpcrypt: first those that the RFCs fix, then, apart, those that we chose. */

// ---- Fixed by the specifications -------------------------------------------------------------------

/** TCP option kinds: end of list and no-operation (RFC 9293 §3.1), TCP-ENO (RFC 8547 §11). */
export const TCP_OPTION_EOL = 0;
export const TCP_OPTION_NOP = 1;
export const TCP_OPTION_ENO = 69;

/** The TCP header has room for 40 bytes of options; kind and length leave 38 for the contents of ENO. */
export const MAX_ENO_CONTENTS = 38;

/** Bits of the global suboption (RFC 8547 §4.2): passive role, application aware. */
export const GLOBAL_B = 0x01;
export const GLOBAL_A = 0x02;

/** Ranges of a suboption's first byte (RFC 8547 §4.1): global, TEP without data, length byte, TEP with data. */
export const LAST_GLOBAL = 0x1f;
export const LAST_TEP_WITHOUT_DATA = 0x7f;
export const LAST_LENGTH_BYTE = 0x9f;
export const FLAG_V = 0x80;
/** A length byte announces 1 to 32 bytes of data (RFC 8547 §4.4). */
export const MAX_SUBOPTION_DATA = 32;

/** Identifiers of the TCP encryption protocols that tcpcrypt defines (RFC 8548 §7). */
export type TepId = 0x21 | 0x22 | 0x23 | 0x24;

/** What is to be known of one. */
export interface TepRow {
  readonly name: string;
  readonly curve: 'P-256' | 'P-521' | 'X25519' | 'X448';
  /** Of the key itself; on the wire, NIST points follow a length field of two bytes (RFC 8548 §5). */
  readonly publicKeyLength: number;
  readonly lengthField: boolean;
}

/** The table of them. */
export const TEPS: { readonly [id in TepId]: TepRow } = {
  33: { name: 'TCPCRYPT_ECDHE_P256', curve: 'P-256', publicKeyLength: 33, lengthField: true },
  34: { name: 'TCPCRYPT_ECDHE_P521', curve: 'P-521', publicKeyLength: 67, lengthField: true },
  35: { name: 'TCPCRYPT_ECDHE_Curve25519', curve: 'X25519', publicKeyLength: 32, lengthField: false },
  36: { name: 'TCPCRYPT_ECDHE_Curve448', curve: 'X448', publicKeyLength: 56, lengthField: false },
};

export const isTepId = (id: number): id is TepId => id >= 0x21 && id <= 0x24;

/** Identifiers of the AEAD algorithms, two bytes on the wire (RFC 8548 §7). */
export type AeadId = 0x0001 | 0x0002 | 0x0010;

/** What is to be known of one. */
export interface AeadRow {
  /** As in RFC 5116 and RFC 8439, without the prefix "AEAD_". */
  readonly name: 'AES-128-GCM' | 'AES-256-GCM' | 'CHACHA20-POLY1305';
  /** ae_key_len, ae_nonce_len and the length of the tag, in bytes (RFC 8548 §6, RFC 5116 §5, RFC 8439 §2.8). */
  readonly keyLength: number;
  readonly nonceLength: number;
  readonly tagLength: number;
}

/** The table of them. */
export const AEADS: { readonly [id in AeadId]: AeadRow } = {
  1: { name: 'AES-128-GCM', keyLength: 16, nonceLength: 12, tagLength: 16 },
  2: { name: 'AES-256-GCM', keyLength: 32, nonceLength: 12, tagLength: 16 },
  16: { name: 'CHACHA20-POLY1305', keyLength: 32, nonceLength: 12, tagLength: 16 },
};

export const isAeadId = (id: number): id is AeadId => id === 0x0001 || id === 0x0002 || id === 0x0010;

/** First bytes of the key exchange messages (RFC 8548 §4.3). */
export const INIT1_MAGIC = 0x15101a0e;
export const INIT2_MAGIC = 0x097105e0;

/** N_A_LEN and N_B_LEN (RFC 8548 §5). */
export const INIT_NONCE_LENGTH = 32;

/** K_LEN (RFC 8548 §5). */
export const SECRET_LENGTH = 32;

/** Labels of the key schedule, one byte each (RFC 8548 §4.3). */
export const CONST_NEXTK = 0x01;
export const CONST_SESSID = 0x02;
export const CONST_REKEY = 0x03;
export const CONST_KEY_A = 0x04;
export const CONST_KEY_B = 0x05;
export const CONST_RESUME = 0x06;

/** A resumption identifier is two halves; a nonce of 0 to 8 bytes follows one's own half (RFC 8548 §3.5). */
export const RESUME_HALF_LENGTH = 9;
export const MAX_RESUME_NONCE = 8;

/** control(1) and clen(2) (RFC 8548 §4.2). */
export const FRAME_HEADER_LENGTH = 3;
export const CONTROL_REKEY = 0x01;
/** clen has 16 bits (TC-31). */
export const MAX_CLEN = 0xffff;

/** Flags of a frame's plaintext (RFC 8548 §4.2.1). */
export const FLAG_FINP = 0x01;
export const FLAG_URGP = 0x02;

// ---- Chosen by us ----------------------------------------------------------------------------------

/** Longest Init1 or Init2 that is accepted. The RFC sets no limit; 255 ciphers and a P-521 key need 621 bytes. */
export const MAX_INIT_LENGTH = 65_536;
