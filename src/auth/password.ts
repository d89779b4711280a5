/**
 * Mechanisms `cpace` and `spake2plus`: both ends prove that they know a password, and neither learns anything with
 * which it could be guessed afterwards. Whoever guesses needs a connection for each guess.
 *
 *     cpace          A: share ▶     ◀ B: share | confirmation     A: confirmation ▶
 *     spake2plus     ◀ B: logN u8 | r u8 | p u8 | salt (16 bytes)
 *                    A: share ▶     ◀ B: share | confirmation     A: confirmation ▶
 *
 * In both, A has told the user's name in its HELLO, and B the name of the realm.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import { malformed, prefixed, Reader, text, u8 } from './bytes.js';
import { check } from './check.js';
import * as cpaceSuite from './cpace.js';
import type { GuessLimit } from './guess-limiter.js';
import type { Role } from './hello.js';
import { labelledHash, purposeKey } from './labels.js';
import type { Exchange, Mechanism, Peer } from './mechanism.js';
import { acceptableCost, DEFAULT_COST, type StretchCost, stretch } from './password-stretching.js';
import * as spake from './spake2plus.js';

const SALT_LENGTH = 16;
const CONFIRMATION_LENGTH = 32;
const NAME_LIMIT = 255;

/** The end that calls (role A) and knows one password. */
export interface PasswordClientOptions {
  readonly user: string;
  readonly password: string;
  /** What the server must call itself; default: whatever it says. */
  readonly realm?: string;
}

/** What the end that is called has to say about passwords. */
export interface PasswordServerOptions {
  /** Name of the service; a password hashed for one realm is useless in another. */
  readonly realm: string;
  /** {@link GuessLimiter}, or something of your own. */
  readonly limit?: GuessLimit;
}

/** The end that is called (role B) and knows the passwords. */
export interface CpaceServerOptions extends PasswordServerOptions {
  /** The password of a user, or what {@link stretchPassword} made of it; undefined for an unknown user. */
  readonly passwords: (
    user: string,
  ) => string | Uint8Array | undefined | PromiseLike<string | Uint8Array | undefined>;
}

/** The end that is called (role B) and keeps records made of passwords. */
export interface Spake2plusServerOptions extends PasswordServerOptions {
  /** The record of a user, as {@link createVerifier} made it; undefined for an unknown user. */
  readonly verifiers: (user: string) => string | undefined | PromiseLike<string | undefined>;
  /** Makes salts for unknown users, so that nobody can tell who is known. Keep it over restarts. Default: random. */
  readonly secret?: Uint8Array;
}

/** A password as the two ends of CPace use it: 32 bytes, so that a server need not keep the password itself. */
export function stretchPassword(user: string, realm: string, password: string): Promise<Buffer> {
  const salt = labelledHash('cpace salt', [realm, user]);
  return stretch(normalized(password), salt, DEFAULT_COST, 32);
}

/** Both ends know the password. @throws ERR_TCPCRYPT_ARGUMENT */
export function cpace(options: PasswordClientOptions | CpaceServerOptions): Mechanism {
  const client = 'password' in options;
  const stretched = new Last<Buffer>();
  return {
    ...passwordMechanism('cpace', options),
    async run(exchange) {
      const { user, realm } = namesOf(exchange, options);
      if (client) {
        const { password } = options;
        const prs = await stretched.of(realm, () => stretchPassword(user, realm, password));
        return cpaceClient(exchange, user, realm, prs);
      }
      return guarded(options.limit, exchange, user, async () => {
        const known = await options.passwords(user);
        const prs =
          typeof known === 'string' ? await stretchPassword(user, realm, known) : (known ?? randomBytes(32));
        return cpaceServer(exchange, user, realm, prs);
      });
    },
  };
}

/** The server keeps a record from which the password cannot be had but by guessing. @throws ERR_TCPCRYPT_ARGUMENT */
export function spake2plus(options: PasswordClientOptions | Spake2plusServerOptions): Mechanism {
  const client = 'password' in options;
  const secret = client ? Buffer.alloc(0) : (options.secret ?? randomBytes(32));
  const stretched = new Last<spake.ProverSecrets>();
  // Nobody's password, for users who are not known.
  const nobody = spake.verifierOf(spake.proverSecrets(randomBytes(spake.STRETCHED_LENGTH)));
  return {
    ...passwordMechanism('spake2plus', options),
    async run(exchange) {
      const { user, realm } = namesOf(exchange, options);
      const identities = {
        context: Buffer.concat([
          Buffer.from('tcpcrypt-auth/1 spake2plus'),
          exchange.binding('A'),
          exchange.binding('B'),
        ]),
        idProver: Buffer.from(user),
        idVerifier: Buffer.from(realm),
      };
      if (client) return spakeProver(exchange, identities, options.password, realm, stretched);
      return guarded(options.limit, exchange, user, async () => {
        const record = await options.verifiers(user);
        return spakeVerifier(
          exchange,
          identities,
          user,
          record === undefined ? unknownUser(secret, user, nobody) : parseRecord(record),
        );
      });
    },
  };
}

/**
 * The record of a user for {@link spake2plus}: text of one line, without blanks. From it nobody can log in, but whoever
 * steals it can guess: keep it as you keep password hashes.
 */
export async function createVerifier(
  user: string,
  realm: string,
  password: string,
  cost: StretchCost = DEFAULT_COST,
): Promise<string> {
  check(acceptableCost(cost), 'createVerifier: cost');
  const salt = randomBytes(SALT_LENGTH);
  const secrets = await spakeSecrets(user, realm, password, salt, cost);
  const encoded = spake.encodeVerifier(spake.verifierOf(secrets)).toString('base64');
  return `spake2plus:1:${cost.logN}:${cost.r}:${cost.p}:${salt.toString('base64')}:${encoded}`;
}

function passwordMechanism(
  name: 'cpace' | 'spake2plus',
  options: PasswordClientOptions | PasswordServerOptions,
): Omit<Mechanism, 'run'> {
  const client = 'password' in options;
  const hint = Buffer.from(client ? options.user : options.realm);
  check(hint.length > 0 && hint.length <= NAME_LIMIT, `${name}: name of ${hint.length} bytes`);
  return { name, canProve: true, canVerify: true, hint, fits: (role) => (role === 'A') === client };
}

function namesOf(
  { peerHint }: Exchange,
  options: PasswordClientOptions | PasswordServerOptions,
): { user: string; realm: string } {
  const said = text(peerHint);
  if (!('password' in options)) return { user: said, realm: options.realm };
  if (options.realm !== undefined && options.realm !== said)
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
  return { user: options.user, realm: said };
}

/** An attempt counts as failed from its beginning. */
async function guarded(
  limit: GuessLimit | undefined,
  { remoteAddress }: Exchange,
  user: string,
  work: () => Promise<Peer>,
): Promise<Peer> {
  const attempt = { user, remoteAddress };
  if (limit !== undefined && !(await limit.begin(attempt)))
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_GUESSES');
  const peer = await work();
  await limit?.succeeded(attempt);
  return peer;
}

// CPace: the confirmations are ours, as the draft leaves them to the application (§10.4).

const CPACE_DATA = { A: Buffer.from('A'), B: Buffer.from('B') } as const;

function cpaceStart({ binding, role }: Exchange, prs: Uint8Array, user: string, realm: string) {
  const sid = Buffer.concat([binding('A'), binding('B')]);
  const ci = cpaceSuite.lvCat(Buffer.from('tcpcrypt-auth/1 cpace'), Buffer.from(user), Buffer.from(realm));
  const scalar = cpaceSuite.sampleScalar();
  const share = cpaceSuite.shareOf(scalar, cpaceSuite.generator(prs, ci, sid));
  const finish = (theirs: Buffer): ((prover: Role) => Buffer) => {
    const secret = cpaceSuite.secretOf(scalar, theirs);
    const [a, b] = role === 'A' ? [share, theirs] : [theirs, share];
    const key = cpaceSuite.sessionKey(
      sid,
      secret,
      { share: a, data: CPACE_DATA.A },
      { share: b, data: CPACE_DATA.B },
    );
    const confirmation = purposeKey(key, 'cpace confirmation');
    return (prover) => createHmac('sha256', confirmation).update(binding(prover)).digest();
  };
  return { share, finish };
}

async function cpaceClient(exchange: Exchange, user: string, realm: string, prs: Uint8Array): Promise<Peer> {
  const { share, finish } = cpaceStart(exchange, prs, user, realm);
  exchange.send(share);
  const answer = new Reader(
    await exchange.receive(cpaceSuite.SHARE_LENGTH + CONFIRMATION_LENGTH),
    'cpace answer',
  );
  const confirm = finish(answer.bytes(cpaceSuite.SHARE_LENGTH));
  confirmed(answer.bytes(CONFIRMATION_LENGTH), confirm('B'));
  answer.end();
  exchange.send(confirm('A'));
  return { mechanism: 'cpace', name: realm };
}

async function cpaceServer(exchange: Exchange, user: string, realm: string, prs: Uint8Array): Promise<Peer> {
  const { share, finish } = cpaceStart(exchange, prs, user, realm);
  const theirs = await exchange.receive(cpaceSuite.SHARE_LENGTH);
  const confirm = finish(theirs);
  exchange.send(Buffer.concat([share, confirm('B')]));
  confirmed(await exchange.receive(CONFIRMATION_LENGTH), confirm('A'));
  return { mechanism: 'cpace', name: user };
}

// SPAKE2+

interface SpakeRecord {
  readonly cost: StretchCost;
  readonly salt: Buffer;
  readonly verifier: spake.Verifier;
}

async function spakeSecrets(
  user: string,
  realm: string,
  password: string,
  salt: Uint8Array,
  cost: StretchCost,
): Promise<spake.ProverSecrets> {
  // RFC 9383 §3.2: len(pw) | pw | len(idProver) | idProver | len(idVerifier) | idVerifier
  const input = Buffer.concat(
    [normalized(password), Buffer.from(user), Buffer.from(realm)].map(spake.withLength),
  );
  return spake.proverSecrets(await stretch(input, salt, cost, spake.STRETCHED_LENGTH));
}

async function spakeProver(
  exchange: Exchange,
  identities: spake.Identities,
  password: string,
  realm: string,
  stretched: Last<spake.ProverSecrets>,
): Promise<Peer> {
  const parameters = new Reader(await exchange.receive(3 + SALT_LENGTH), 'spake2plus parameters');
  const cost = { logN: parameters.u8(), r: parameters.u8(), p: parameters.u8() };
  const salt = parameters.bytes(SALT_LENGTH);
  if (!acceptableCost(cost)) throw malformed('cost of the password hash');
  const user = Buffer.from(identities.idProver).toString();
  const parameter = `${cost.logN} ${cost.r} ${cost.p} ${salt.toString('base64')} ${realm}`;
  const secrets = await stretched.of(parameter, () => spakeSecrets(user, realm, password, salt, cost));
  const x = spake.randomScalar();
  const shareP = spake.proverShare(x, secrets.w0);
  exchange.send(shareP);
  const answer = new Reader(
    await exchange.receive(spake.SHARE_LENGTH + spake.CONFIRMATION_LENGTH),
    'spake2plus answer',
  );
  const shareV = answer.bytes(spake.SHARE_LENGTH);
  const keys = spake.proverKeys(identities, secrets, x, shareP, shareV);
  confirmed(answer.bytes(spake.CONFIRMATION_LENGTH), keys.confirmV);
  answer.end();
  exchange.send(keys.confirmP);
  return { mechanism: 'spake2plus', name: realm };
}

async function spakeVerifier(
  exchange: Exchange,
  identities: spake.Identities,
  user: string,
  { cost, salt, verifier }: SpakeRecord,
): Promise<Peer> {
  exchange.send(Buffer.concat([u8(cost.logN), u8(cost.r), u8(cost.p), salt]));
  const shareP = await exchange.receive(spake.SHARE_LENGTH);
  const y = spake.randomScalar();
  const shareV = spake.verifierShare(y, verifier.w0);
  const keys = spake.verifierKeys(identities, verifier, y, shareP, shareV);
  exchange.send(Buffer.concat([shareV, keys.confirmV]));
  confirmed(await exchange.receive(spake.CONFIRMATION_LENGTH), keys.confirmP);
  return { mechanism: 'spake2plus', name: user };
}

/** @throws ERR_TCPCRYPT_ARGUMENT */
function parseRecord(record: string): SpakeRecord {
  const [scheme, version, logN, r, p, salt, verifier, ...more] = record.split(':');
  const cost = { logN: Number(logN), r: Number(r), p: Number(p) };
  const parsed = { cost, salt: Buffer.from(salt ?? '', 'base64') };
  check(
    scheme === 'spake2plus' && version === '1' && more.length === 0 && acceptableCost(cost),
    'spake2plus: record',
  );
  check(parsed.salt.length === SALT_LENGTH, 'spake2plus: record');
  return { ...parsed, verifier: spake.decodeVerifier(Buffer.from(verifier ?? '', 'base64')) };
}

/** What an unknown user gets looks like what a known one gets: the same salt each time, and a wrong password. */
function unknownUser(secret: Uint8Array, user: string, verifier: spake.Verifier): SpakeRecord {
  const salt = purposeKey(secret, 'spake2plus unknown user', [prefixed(user)]).subarray(0, SALT_LENGTH);
  return { cost: DEFAULT_COST, salt, verifier };
}

/**
 * What a client has made of its password: stretching takes a tenth of a second, and the next connection to the same
 * server needs the same. As secret as the password, and as long in memory.
 */
class Last<Value> {
  #parameter: string | undefined;
  #value: Promise<Value> | undefined;

  of(parameter: string, make: () => Promise<Value>): Promise<Value> {
    if (this.#value === undefined || parameter !== this.#parameter) {
      this.#parameter = parameter;
      this.#value = make();
      this.#value.catch(() => {
        this.#value = undefined;
      });
    }
    return this.#value;
  }
}

/** @throws ERR_TCPCRYPT_AUTH_PROOF */
function confirmed(received: Buffer, expected: Buffer): void {
  if (received.length !== expected.length || !timingSafeEqual(received, expected)) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
  }
}

/** As people type it: one form of the same characters (RFC 8265 §4.2.2 asks for NFC). */
const normalized = (password: string): Buffer => Buffer.from(password.normalize('NFC'));
