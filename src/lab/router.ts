/** The router that joins the hosts of a lab: the place from which to watch the wire, and to tamper with it. */
import { type Misbehaviour, middleboxRules } from './middlebox.js';
import { NetworkNamespace } from './netns.js';

export class Router extends NetworkNamespace {
  #middleboxes = 0;

  /**
   * From now on the router does to forwarded segments what `misbehaviour` says; several add up.
   * Returns the undo; there is no need to call it before the lab ends.
   */
  middlebox(misbehaviour: Misbehaviour): () => void {
    const table = `middlebox_${++this.#middleboxes}`;
    this.enter('nft', ['-f', '-'], middleboxRules(table, misbehaviour));
    return () => {
      this.enter('nft', ['delete', 'table', 'inet', table]);
    };
  }
}
