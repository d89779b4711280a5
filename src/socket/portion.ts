/** The first `size` bytes of the chunks, and the others. Nothing is copied. */
export function splitAt(
  chunks: readonly Uint8Array[],
  size: number,
): [first: readonly Uint8Array[], rest: readonly Uint8Array[]] {
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  if (length <= size) return [chunks, []];
  length = 0;
  for (const [index, chunk] of chunks.entries()) {
    if (length + chunk.length > size) {
      const cut = size - length;
      return [
        [...chunks.slice(0, index), chunk.subarray(0, cut)],
        [chunk.subarray(cut), ...chunks.slice(index + 1)],
      ];
    }
    length += chunk.length;
  }
  return [chunks, []];
}
