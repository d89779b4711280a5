/** What we say in our SYN segments: the contents of the ENO option (RFC 8547 §4.1), without kind and length. */
import { encodeEnoContents, GLOBAL_A, GLOBAL_B, type TepId } from '../wire/index.js';

const fresh = (tep: TepId) => ({ tep, v: false, data: new Uint8Array() });

/** The active opener's SYN. B chooses, so the order of `teps` is of no consequence. */
export const activeOffer = (teps: readonly TepId[], aware = false): Uint8Array =>
  encodeEnoContents({ global: aware ? GLOBAL_A : 0, suboptions: teps.map(fresh) });

/**
 * What a listener accepts, `teps` most preferred first. As everything that host B says it lists them in order of
 * increasing preference (ENO-24); the SYN-ACK then carries solely the one that is chosen (ENO-25).
 */
export const passiveOffer = (teps: readonly TepId[], aware = false): Uint8Array =>
  encodeEnoContents({ global: GLOBAL_B | (aware ? GLOBAL_A : 0), suboptions: teps.map(fresh).reverse() });
