/**
 * A Merkle tree over what one signature covers: each owner of a leaf gets the path from it to the root, and learns
 * nothing of the others, because every leaf is hashed with random bytes of its own.
 *
 *     leaf = SHA-256(0x00 | blind | binding)        node = SHA-256(0x01 | left | right)
 *
 * A node without a sibling moves up unchanged, so `index` and `size` together tell the shape of the path.
 */
import { hash } from 'node:crypto';

export const HASH_LENGTH = 32;
export const BLIND_LENGTH = 32;
/** A tree of 65,536 leaves. */
export const PATH_LIMIT = 16;

export interface Path {
  readonly index: number;
  readonly size: number;
  readonly siblings: readonly Buffer[];
}

const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);
const sha256 = (parts: readonly Buffer[]): Buffer => hash('sha256', Buffer.concat(parts), 'buffer');

export const leafOf = (blind: Buffer, binding: Buffer): Buffer => sha256([LEAF, blind, binding]);

/** Root and paths; at least one leaf. */
export function tree(leaves: readonly Buffer[]): { readonly root: Buffer; readonly paths: Path[] } {
  const levels: (readonly Buffer[])[] = [leaves];
  let level = leaves;
  while (level.length > 1) {
    const above: Buffer[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const left = level[i] as Buffer;
      const right = level[i + 1];
      above.push(right === undefined ? left : sha256([NODE, left, right]));
    }
    levels.push(above);
    level = above;
  }
  const paths = leaves.map((_, index) => {
    const siblings: Buffer[] = [];
    levels.forEach((nodes, depth) => {
      const sibling = nodes[(index >> depth) ^ 1];
      if (sibling !== undefined) siblings.push(sibling);
    });
    return { index, size: leaves.length, siblings };
  });
  return { root: level[0] as Buffer, paths };
}

/** The root to which the path leads; undefined when the path has not the shape that index and size ask for. */
export function rootOf(leaf: Buffer, { index, size, siblings }: Path): Buffer | undefined {
  if (index >= size || size > 2 ** PATH_LIMIT) return undefined;
  let node = leaf;
  let used = 0;
  for (let at = index, width = size; width > 1; at >>= 1, width = Math.ceil(width / 2)) {
    if (at === width - 1 && at % 2 === 0) continue;
    const sibling = siblings[used++];
    if (sibling === undefined) return undefined;
    node = at % 2 === 0 ? sha256([NODE, node, sibling]) : sha256([NODE, sibling, node]);
  }
  return used === siblings.length ? node : undefined;
}
