/** Two ends of a connection in memory, with session ID and role, and whatever may happen to what they say. */
import { Duplex } from 'node:stream';
import type { AuthenticableSocket, Role } from '#src/auth/index.js';

export const SESSION_ID = Buffer.concat([Buffer.of(0x23), Buffer.alloc(32, 7)]);
export const OTHER_SESSION_ID = Buffer.concat([Buffer.of(0x23), Buffer.alloc(32, 8)]);

export class End extends Duplex implements AuthenticableSocket {
  other: End | undefined;
  /** What becomes of a chunk on its way to the other end. */
  tamper: (chunk: Buffer) => Buffer | undefined = (chunk) => chunk;
  peerAware: boolean | undefined = true;
  remoteAddress = '192.0.2.1';
  wasReset = false;

  constructor(
    readonly role: Role,
    readonly sessionId: Buffer,
  ) {
    super({ allowHalfOpen: true });
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    const passed = this.tamper(chunk);
    // As a network does: later, and not in the caller's stack.
    setImmediate(() => {
      if (passed !== undefined && !this.other?.destroyed) this.other?.push(passed);
      callback();
    });
  }
  override _final(callback: () => void): void {
    setImmediate(() => {
      if (!this.other?.destroyed) this.other?.push(null);
      callback();
    });
  }
  resetAndDestroy(): this {
    this.wasReset = true;
    setImmediate(() => this.other?.destroy(new Error('read ECONNRESET')));
    return this.destroy();
  }
}

export interface Pair {
  readonly a: End;
  readonly b: End;
}

export function pair(idOfA: Buffer = SESSION_ID, idOfB: Buffer = SESSION_ID, roles = 'AB'): Pair {
  const a = new End(roles[0] as Role, idOfA);
  const b = new End(roles[1] as Role, idOfB);
  a.other = b;
  b.other = a;
  for (const end of [a, b]) end.on('error', () => {});
  return { a, b };
}

/** type u8 | length u24 | body, back to back. */
export function messagesIn(bytes: Buffer): { readonly type: number; readonly body: Buffer }[] {
  const messages: { type: number; body: Buffer }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUIntBE(at + 1, 3);
    messages.push({ type: bytes.readUInt8(at), body: bytes.subarray(at + 4, at + 4 + length) });
    at += 4 + length;
  }
  return messages;
}

export function message(type: number, body: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt8(type);
  header.writeUIntBE(body.length, 1, 3);
  return Buffer.concat([header, body]);
}

/** Tampering with messages rather than with chunks. */
export const onMessages =
  (change: (type: number, body: Buffer) => Buffer | undefined) =>
  (chunk: Buffer): Buffer =>
    Buffer.concat(
      messagesIn(chunk).flatMap(({ type, body }) => {
        const changed = change(type, body);
        return changed === undefined ? [] : [message(type, changed)];
      }),
    );
