/**
 * tcpcrypt/auth: who is at the other end of an encrypted connection. Which mechanism for which setting:
 * docs/authentication.md.
 */
export {
  type AuthenticableSocket,
  type AuthenticateOptions,
  type Authentication,
  authenticate,
} from './authenticate.js';
export { type BatchProof, BatchSigner, type BatchSignerOptions } from './batch-signer.js';
export { type CertificateOptions, type CertificateTrust, certificate } from './certificate.js';
export type { Authorities } from './certificate-chain.js';
export type { MechanismName } from './constants.js';
export { exporter } from './exporter.js';
export { type Attempt, type GuessLimit, GuessLimiter, type GuessLimiterOptions } from './guess-limiter.js';
export type { Role } from './hello.js';
export {
  type CookieProofOptions,
  checkCookieProof,
  cookieHeaders,
  cookieProof,
  cookieProofHook,
  createHttpCookie,
  environmentOf,
  type HttpCookie,
  type HttpIdentity,
  type HttpSession,
  handOverHeaders,
} from './http.js';
export { makeHostKey, type ReadFile, readHostKey, readSharedKey } from './key-files.js';
export { type KnownHostsOptions, knownHosts } from './known-hosts.js';
export {
  fingerprint,
  type KeyTrust,
  type KnownKeyOptions,
  knownKey,
  pinnedKeys,
  rawPublicKey,
} from './known-key.js';
export type { Exchange, Mechanism, Peer } from './mechanism.js';
export {
  type CpaceServerOptions,
  cpace,
  createVerifier,
  type PasswordClientOptions,
  type PasswordServerOptions,
  type Spake2plusServerOptions,
  spake2plus,
  stretchPassword,
} from './password.js';
export type { StretchCost } from './password-stretching.js';
export { type SharedKeyOptions, sharedKey } from './shared-key.js';
