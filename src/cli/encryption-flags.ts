/** The flags about encryption that `listen`, `connect` and `daemon` share. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { AEADS, type AeadId, isAeadId, isTepId, TEPS, type TepId } from '../session/index.js';
import type { EncryptionOptions, Mode } from '../socket/options.js';

/** What is negotiated, on any connection. */
export interface NegotiationFlags {
  readonly tep?: readonly TepId[];
  readonly cipher?: readonly AeadId[];
  readonly resume: boolean;
}

export interface EncryptionFlags extends NegotiationFlags {
  readonly mode: Mode;
  readonly json?: boolean;
}

export function addNegotiationFlags(command: Command): Command {
  return command
    .option('--tep <list>', 'key agreements, best first: x25519, x448, p256, p521', parseTeps)
    .option(
      '--cipher <list>',
      'AEAD algorithms, best first: aes-128-gcm, aes-256-gcm, chacha20-poly1305',
      parseCiphers,
    )
    .option('--no-resume', 'a key exchange for every connection; nothing is kept for later ones');
}

export function addEncryptionFlags(command: Command): Command {
  return addNegotiationFlags(
    command
      .addOption(
        new Option('--mode <mode>', 'what to do when the peer cannot encrypt: go on in plain TCP, or refuse')
          .choices(['opportunistic', 'required'])
          .default('opportunistic'),
      )
      .option(
        '--json',
        'print a JSON line on stderr when a connection is secure (or plain), and when it ends',
      ),
  );
}

export const negotiationOptions = ({
  tep,
  cipher,
  resume,
}: NegotiationFlags): Pick<EncryptionOptions, 'teps' | 'ciphers' | 'resumption'> => ({
  ...(tep === undefined ? {} : { teps: tep }),
  ...(cipher === undefined ? {} : { ciphers: cipher }),
  resumption: resume,
});

export const encryptionOptions = (flags: EncryptionFlags): EncryptionOptions => ({
  mode: flags.mode,
  ...negotiationOptions(flags),
});

const letters = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Names as in the tables, in any spelling, or identifiers: "x25519,p-256", "0x23". */
const parser =
  <Id extends number>(
    what: string,
    isId: (id: number) => id is Id,
    names: readonly (readonly [name: string, id: Id])[],
  ) =>
  (text: string): Id[] =>
    text.split(',').map((word) => {
      const known = names.find(([name]) => letters(name) === letters(word))?.[1];
      const id = known ?? Number(word);
      if (word === '' || !isId(id)) throw new InvalidArgumentError(`unknown ${what}: ${word}`);
      return id;
    });

const entries = <Row, Id extends number>(
  table: { readonly [id in Id]: Row },
  name: (row: Row) => string,
): (readonly [string, Id])[] =>
  Object.entries<Row>(table).map(([id, row]) => [name(row), Number(id) as Id] as const);

const parseTeps = parser(
  'key agreement',
  isTepId,
  entries<(typeof TEPS)[TepId], TepId>(TEPS, ({ curve }) => curve),
);
const parseCiphers = parser(
  'AEAD algorithm',
  isAeadId,
  entries<(typeof AEADS)[AeadId], AeadId>(AEADS, ({ name }) => name),
);
