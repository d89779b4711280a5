/** Every mechanism, with an end for the client and one for the server; each demands a proof of the other. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  certificate,
  cpace,
  createVerifier,
  knownHosts,
  knownKey,
  type Mechanism,
  pinnedKeys,
  sharedKey,
  spake2plus,
  stretchPassword,
} from '#src/auth/index.js';

/** Keys, certificates and records, as JSON has them, for processes that must have the same. */
export type Material = Readonly<
  Record<
    | 'hostKey'
    | 'clientKey'
    | 'ca'
    | 'serverKey'
    | 'serverChain'
    | 'userKey'
    | 'userChain'
    | 'record'
    | 'stretched',
    string
  >
>;

const HOST = 'server.example';
const REALM = 'mail';
const KEY = Buffer.from('a strong secret of many bytes');
const pem = (key: KeyObject): string => String(key.export({ type: 'pkcs8', format: 'pem' }));
const ed25519 = (): string => pem(generateKeyPairSync('ed25519').privateKey);

export async function makeMaterial(): Promise<Material> {
  // Only here, as loading it takes the agents of a lab longer than everything else.
  const { authority, CLIENT, issue, serverCertificate } = await import('./ca.js');
  const ca = await authority();
  const server = await serverCertificate(ca, { kind: 'rsa' });
  const user = await issue({ subject: 'CN=alice', issuer: ca, purposes: [CLIENT] });
  return {
    hostKey: ed25519(),
    clientKey: ed25519(),
    ca: ca.pem,
    serverKey: pem(server.key),
    serverChain: server.pem,
    userKey: pem(user.key),
    userChain: user.pem,
    record: await createVerifier('alice', REALM, 'horse'),
    stretched: (await stretchPassword('alice', REALM, 'horse')).toString('base64'),
  };
}

export interface Setting {
  readonly client: Mechanism;
  readonly server: Mechanism;
  /** What the client finds out about the server, and the server about the client. */
  readonly names: readonly [string, string];
}

const SETTINGS = {
  'shared-key': () => ({
    client: sharedKey({ key: KEY, id: 'k1' }),
    server: sharedKey({ keys: (id) => (id === 'k1' ? KEY : undefined) }),
    names: ['k1', 'k1'],
  }),
  'known-key, pinned': ({ hostKey, clientKey }) => ({
    client: knownKey({ key: clientKey, trust: pinnedKeys({ db: createPrivateKey(hostKey) }) }),
    server: knownKey({ key: hostKey, trust: pinnedKeys({ web: createPrivateKey(clientKey) }) }),
    names: ['db', 'web'],
  }),
  'known-key, first use': ({ hostKey, clientKey }, file) => ({
    client: knownKey({ key: clientKey, trust: knownHosts({ file, host: 'db:1' }) }),
    server: knownKey({ key: hostKey, trust: pinnedKeys({ web: createPrivateKey(clientKey) }) }),
    names: ['db:1', 'web'],
  }),
  'certificate, mutual': ({ ca, serverKey, serverChain, userKey, userChain }) => ({
    client: certificate({ key: userKey, chain: userChain, trust: { ca, host: HOST } }),
    server: certificate({
      key: serverKey,
      chain: serverChain,
      trust: { ca, authorize: ({ subject }) => subject },
    }),
    names: [HOST, 'CN=alice'],
  }),
  cpace: ({ stretched }) => ({
    client: cpace({ user: 'alice', password: 'horse', realm: REALM }),
    server: cpace({ realm: REALM, passwords: () => Buffer.from(stretched, 'base64') }),
    names: [REALM, 'alice'],
  }),
  spake2plus: ({ record }) => ({
    client: spake2plus({ user: 'alice', password: 'horse', realm: REALM }),
    server: spake2plus({ realm: REALM, verifiers: () => record }),
    names: [REALM, 'alice'],
  }),
} satisfies Record<string, (material: Material, knownHostsFile: string) => Setting>;

export type SettingName = keyof typeof SETTINGS;
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[];

export const settingOf = (name: SettingName, material: Material, knownHostsFile: string): Setting =>
  (SETTINGS[name] as (material: Material, file: string) => Setting)(material, knownHostsFile);
