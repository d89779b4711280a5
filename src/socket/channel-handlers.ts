/** What the owner of a Channel hears of it; see there for the order. */
export interface ChannelHandlers {
  /** Nothing can be written yet. */
  onSecure?(): void;
  /** Memory for `length` bytes of what onData gives. Without it those are lent: they change when onData returns. */
  readonly room?: ((length: number) => Uint8Array) | undefined;
  onReady(): void;
  onData(data: Uint8Array): void;
  onEnd(): void;
  onDrain(): void;
  /** The connection is gone; `error` unless both directions ended in order. */
  onClose(error: Error | undefined): void;
}

/** `lent`, in memory of the owner's where it wants that. */
export function kept(lent: Uint8Array, room: ChannelHandlers['room']): Uint8Array {
  const own = room?.(lent.length);
  own?.set(lent);
  return own ?? lent;
}
