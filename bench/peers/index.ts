/** Who takes part, in the order of the table. Plain TCP comes first: the others are compared with it. */
import type { Peer } from '../peer.js';
import { authenticatedPeers } from './authenticated.js';
import { daemonPeers } from './daemon.js';
import { libraryPeers } from './library.js';
import { nodeRelay } from './node-relay.js';
import { nodeTlsPeers } from './node-tls.js';
import { plain, plainVariants } from './plain.js';
import { stunnel } from './stunnel.js';

export const PEERS: readonly Peer[] = [
  plain,
  ...plainVariants,
  ...libraryPeers,
  ...nodeTlsPeers,
  nodeRelay,
  ...daemonPeers,
  stunnel,
  ...authenticatedPeers,
];
