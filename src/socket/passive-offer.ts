/** What a listener accepts, for library and daemon. */
import type { EnoOffer } from '../kernel/eno-socket.js';
import { passiveOffer } from '../session/index.js';
import type { Encryption } from './options.js';

/** @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PLATFORM */
export const passiveEnoOffer = ({
  teps,
  ciphers,
  aware,
  mandatoryAware,
  resumption: { resume, cache },
}: Encryption): EnoOffer => ({
  contents: passiveOffer(teps, aware),
  mandatoryAware,
  ...(resume ? { resumeGroup: cache.membership(ciphers) } : {}),
});
