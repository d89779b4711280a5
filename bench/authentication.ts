/** Mechanisms of authentication, as data that can be passed to another process. Both ends know the same secrets. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  BatchSigner,
  certificate,
  cpace,
  createVerifier,
  knownKey,
  type Mechanism,
  pinnedKeys,
  sharedKey,
  spake2plus,
  stretchPassword,
} from '#src/auth/index.js';
import { CERTIFICATE_HOST } from './certificate.js';

export type AuthenticationSpec =
  | { readonly mechanism: 'shared-key' | 'known-key' | 'cpace' | 'spake2plus' }
  | {
      readonly mechanism: 'certificate';
      /** Files. */
      readonly key: string;
      readonly certificate: string;
      /** Connections that one signature covers at most. */
      readonly maximum?: number;
    };

const SECRET = Buffer.from('a strong secret of many bytes');
const [USER, REALM, PASSWORD] = ['alice', 'bench', 'correct horse'] as const;
/** Ed25519, PKCS #8 of 32 equal bytes. */
const HOST_KEY = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 5)]),
  format: 'der',
  type: 'pkcs8',
});

/** Of this process, when it is a server with a certificate. */
let signer: BatchSigner | undefined;
/** Signatures so far, and connections that they cover. */
export const signed = (): { signatures: number; connections: number } => ({
  signatures: signer?.signatures ?? 0,
  connections: signer?.signed ?? 0,
});

export async function ofServer(spec: AuthenticationSpec): Promise<Mechanism> {
  switch (spec.mechanism) {
    case 'shared-key':
      return sharedKey({ keys: () => SECRET });
    case 'known-key':
      return knownKey({ key: HOST_KEY });
    case 'cpace': {
      const stretched = await stretchPassword(USER, REALM, PASSWORD);
      return cpace({ realm: REALM, passwords: () => stretched });
    }
    case 'spake2plus': {
      const record = await createVerifier(USER, REALM, PASSWORD);
      return spake2plus({ realm: REALM, verifiers: () => record });
    }
    case 'certificate': {
      const { maximum } = spec;
      const key = readFileSync(spec.key, 'utf8');
      signer = new BatchSigner({ key, ...(maximum === undefined ? {} : { maximum }) });
      return certificate({ key: signer, chain: readFileSync(spec.certificate, 'utf8') });
    }
  }
}

export function ofClient(spec: AuthenticationSpec): Mechanism {
  switch (spec.mechanism) {
    case 'shared-key':
      return sharedKey({ key: SECRET, id: USER });
    case 'known-key':
      return knownKey({ trust: pinnedKeys({ bench: createPublicKey(HOST_KEY) }) });
    case 'cpace':
      return cpace({ user: USER, realm: REALM, password: PASSWORD });
    case 'spake2plus':
      return spake2plus({ user: USER, realm: REALM, password: PASSWORD });
    case 'certificate':
      return certificate({
        trust: { ca: readFileSync(spec.certificate, 'utf8'), host: CERTIFICATE_HOST },
      });
  }
}
