/** A host of the lab: one network interface `eth0`, a default route to the router, an IPv4 and an IPv6 address. */
import { NetworkNamespace } from './netns.js';

export class Host extends NetworkNamespace {
  /** @internal {@link Lab.host} makes these. */
  constructor(
    name: string,
    namespace: string,
    cgroup: string,
    readonly address4: string,
    readonly address6: string,
  ) {
    super(name, namespace, cgroup);
  }

  /** The name of the router's interface that leads to this host. */
  get routerInterface(): string {
    return this.name;
  }
}
