/** The sections of the RFCs that say what to do, and where that is done. */
export interface Section {
  readonly section: string;
  readonly title: string;
  /** Files, from the root of the repository. */
  readonly implemented: readonly string[];
}

const KERNEL = ['bpf/eno_handshake.h', 'bpf/eno_negotiate.h'];

export const ENO_SECTIONS: readonly Section[] = [
  {
    section: '§4.1',
    title: 'The ENO option',
    implemented: ['src/wire/tcp-options.ts', 'src/wire/eno-option.ts', 'bpf/eno_option.h'],
  },
  {
    section: '§4.2',
    title: 'The global suboption',
    implemented: [
      'src/wire/eno-option.ts',
      'src/session/offer.ts',
      'src/session/negotiation.ts',
      'bpf/eno_option.h',
      'bpf/eno_setsockopt.h',
      'bpf/eno_wish.h',
    ],
  },
  { section: '§4.3', title: 'Roles', implemented: ['src/session/negotiation.ts', 'bpf/eno_negotiate.h'] },
  { section: '§4.4', title: 'Suboption data', implemented: ['src/wire/eno-option.ts', 'bpf/eno_option.h'] },
  {
    section: '§4.5',
    title: 'Negotiated TEP',
    implemented: ['src/session/negotiation.ts', 'bpf/eno_negotiate.h'],
  },
  {
    section: '§4.6',
    title: 'Handshake',
    implemented: [...KERNEL, 'src/session/negotiation.ts', 'src/socket/channel.ts'],
  },
  { section: '§4.7', title: 'Data in SYN segments', implemented: ['bpf/eno_handshake.h'] },
  {
    section: '§4.8',
    title: 'Negotiation transcript',
    implemented: ['src/session/negotiation.ts', 'src/session/key-schedule.ts', 'bpf/eno_handshake.h'],
  },
  {
    section: '§5',
    title: 'Duties of encryption protocols',
    implemented: ['src/session/session.ts', 'src/crypto/aead.ts'],
  },
  {
    section: '§5.1',
    title: 'Session IDs',
    implemented: ['src/session/key-schedule.ts', 'src/socket/socket.ts', 'bpf/eno_getsockopt.h'],
  },
  { section: '§10', title: 'Security considerations', implemented: ['README.md', 'src/session/session.ts'] },
  { section: '§11', title: 'Option kind 69', implemented: ['src/wire/constants.ts', 'bpf/eno_option.h'] },
];

export const TCPCRYPT_SECTIONS: readonly Section[] = [
  {
    section: '§3.2',
    title: 'Negotiation',
    implemented: ['src/session/negotiation.ts', 'src/session/offer.ts'],
  },
  {
    section: '§3.3',
    title: 'Key exchange',
    implemented: ['src/session/key-exchange.ts', 'src/session/key-schedule.ts', 'src/session/session.ts'],
  },
  {
    section: '§3.5',
    title: 'Resumption',
    implemented: ['src/session/resumption.ts', 'src/session/negotiation.ts', 'src/session/key-schedule.ts'],
  },
  {
    section: '§3.6',
    title: 'Encryption of data',
    implemented: [
      'src/session/sender.ts',
      'src/session/receiver.ts',
      'src/wire/stream-offset.ts',
      'src/crypto/aead.ts',
    ],
  },
  {
    section: '§3.7',
    title: 'FIN and urgent data',
    implemented: ['src/session/session.ts', 'src/session/sender.ts', 'src/session/receiver.ts'],
  },
  {
    section: '§3.8',
    title: 'Rekeying',
    implemented: ['src/session/generation.ts', 'src/session/sender.ts', 'src/session/receiver.ts'],
  },
  { section: '§3.9', title: 'Keep-alive', implemented: ['src/session/session.ts'] },
  { section: '§4.1', title: 'Key exchange messages', implemented: ['src/wire/init-message.ts'] },
  { section: '§4.2', title: 'Frames', implemented: ['src/wire/frame.ts'] },
  { section: '§4.2.1', title: 'Plaintext of a frame', implemented: ['src/wire/frame.ts'] },
  {
    section: '§5',
    title: 'Key agreement',
    implemented: ['src/crypto/key-agreement.ts', 'src/wire/constants.ts'],
  },
  { section: '§6', title: 'AEAD algorithms', implemented: ['src/crypto/aead.ts', 'src/wire/constants.ts'] },
  {
    section: '§8',
    title: 'Security considerations',
    implemented: ['src/errors.ts', 'src/session/session.ts'],
  },
  { section: '§8.2', title: 'Keep-alive and NAT', implemented: ['src/session/session.ts'] },
];
