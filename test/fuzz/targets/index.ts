import type { Target } from '../target.js';
import { CANARIES } from './canary.js';
import { CONNECTION_TARGETS } from './connection.js';
import { PACKET_TARGETS } from './packets.js';
import { SESSION_TARGETS } from './session.js';
import { WIRE_TARGETS } from './wire.js';

/** All that take bytes from outside. */
export const TARGETS: readonly Target[] = [
  ...WIRE_TARGETS,
  ...PACKET_TARGETS,
  ...SESSION_TARGETS,
  ...CONNECTION_TARGETS,
];

export const targetNamed = (name: string): Target | undefined =>
  [...TARGETS, ...CANARIES].find((target) => target.name === name);
