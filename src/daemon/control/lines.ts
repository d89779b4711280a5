/** Lines of at most `limit` bytes, without their line feeds. Nothing longer is ever kept. */
import { TcpcryptError } from '../../errors.js';

/** @throws ERR_TCPCRYPT_ARGUMENT when a line is longer; what follows the last line feed is dropped */
export async function* linesOf(input: AsyncIterable<Buffer>, limit: number): AsyncGenerator<string> {
  let pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of input) {
    let rest = chunk;
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      if (length + end >= limit) throw tooLong(limit);
      pieces.push(rest.subarray(0, end));
      yield Buffer.concat(pieces).toString();
      pieces = [];
      length = 0;
      rest = rest.subarray(end + 1);
    }
    length += rest.length;
    if (length >= limit) throw tooLong(limit);
    if (rest.length > 0) pieces.push(rest);
  }
}

const tooLong = (limit: number): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `a line has at most ${limit} bytes` });
