/**
 * One signature for all connections that are waiting: while one signature is computed, on a thread of the pool, the
 * next batch fills. So the batch adapts to the load: an idle server signs at once, for one connection.
 */
import { createPrivateKey, type KeyObject, randomFillSync } from 'node:crypto';
import { u32 } from './bytes.js';
import { check } from './check.js';
import { BLIND_LENGTH, leafOf, PATH_LIMIT, type Path, tree } from './merkle.js';
import { schemeOf, signAsync } from './signature-scheme.js';

/** What proves that one signature covers a connection: the path from it to what was signed. */
export interface BatchProof extends Path {
  readonly blind: Buffer;
  readonly signature: Buffer;
}

/** Options of {@link BatchSigner}. */
export interface BatchSignerOptions {
  /** RSA of 2048 bits or more, ECDSA on P-256, P-384, P-521, or Ed25519. */
  readonly key: KeyObject | string;
  /** Connections that one signature covers at most; default 1024. */
  readonly maximum?: number;
  /** Signatures computed at the same time; default 1. More of them make the batches smaller. */
  readonly concurrency?: number;
}

const DEFAULT_MAXIMUM = 1024;
/** As in TLS 1.3 (RFC 8446 §4.4.3): 64 blanks and a label, as the key may be used in TLS as well. */
const SIGNED = Buffer.from(`${' '.repeat(64)}tcpcrypt-auth/1 batch signature\0`);

/** What is signed: label, size of the tree, its root. */
export const signedContent = (size: number, root: Buffer): Buffer => Buffer.concat([SIGNED, u32(size), root]);

interface Waiting {
  readonly binding: Buffer;
  resolve(proof: BatchProof): void;
  reject(error: unknown): void;
}

/** Signs for many connections at once; share one among all that prove with the same key. */
export class BatchSigner {
  readonly #key: KeyObject;
  readonly #maximum: number;
  readonly #concurrency: number;
  readonly #scheme: number;
  #waiting: Waiting[] = [];
  #active = 0;
  #scheduled = false;
  /** Signatures computed, and connections covered by them. */
  signatures = 0;
  signed = 0;

  /** @throws ERR_TCPCRYPT_ARGUMENT */
  constructor({ key, maximum = DEFAULT_MAXIMUM, concurrency = 1 }: BatchSignerOptions) {
    this.#key = typeof key === 'string' ? createPrivateKey(key) : key;
    const scheme = schemeOf(this.#key);
    check(this.#key.type === 'private' && scheme !== undefined, 'BatchSigner: not a usable private key');
    check(Number.isInteger(maximum) && maximum > 0 && maximum <= 2 ** PATH_LIMIT, `maximum: ${maximum}`);
    check(Number.isInteger(concurrency) && concurrency > 0, `concurrency: ${concurrency}`);
    this.#scheme = scheme.number;
    this.#maximum = maximum;
    this.#concurrency = concurrency;
  }

  /** Number of the signature scheme. */
  get scheme(): number {
    return this.#scheme;
  }
  get key(): KeyObject {
    return this.#key;
  }

  /** @param binding what identifies the connection and our role, 32 bytes */
  sign(binding: Buffer): Promise<BatchProof> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ binding, resolve, reject });
      if (this.#scheduled || this.#active >= this.#concurrency) return;
      this.#scheduled = true;
      // Connections that became ready in the same turn of the event loop go together.
      setImmediate(() => {
        this.#scheduled = false;
        this.#next();
      });
    });
  }

  #next(): void {
    while (this.#active < this.#concurrency && this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, this.#maximum);
      this.#waiting = this.#waiting.slice(this.#maximum);
      this.#active++;
      this.#signBatch(batch).finally(() => {
        this.#active--;
        this.#next();
      });
    }
  }

  async #signBatch(batch: readonly Waiting[]): Promise<void> {
    try {
      const random = randomFillSync(Buffer.allocUnsafeSlow(batch.length * BLIND_LENGTH));
      const blinds = batch.map((_, i) => random.subarray(i * BLIND_LENGTH, (i + 1) * BLIND_LENGTH));
      const { root, paths } = tree(batch.map(({ binding }, i) => leafOf(blinds[i] as Buffer, binding)));
      const signature = await signAsync(this.#key, signedContent(batch.length, root));
      this.signatures++;
      this.signed += batch.length;
      batch.forEach(({ resolve }, i) => {
        resolve({ ...(paths[i] as Path), blind: blinds[i] as Buffer, signature });
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
