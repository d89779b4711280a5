/** The demo's voice: coloured on a terminal, plain when piped, silent with `--json`. */

const ESC = '\u001b[';
const STYLES = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', cyan: '36' } as const;
export type Style = keyof typeof STYLES;

export class Narrator {
  readonly #silent: boolean;
  readonly #colour: boolean;

  constructor(silent: boolean) {
    this.#silent = silent;
    this.#colour = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
  }

  style(text: string, ...styles: readonly Style[]): string {
    if (!this.#colour) return text;
    return `${ESC}${styles.map((style) => STYLES[style]).join(';')}m${text}${ESC}0m`;
  }

  line(text = ''): void {
    if (!this.#silent) process.stdout.write(`${text}\n`);
  }

  /** The heading of a part. */
  heading(text: string): void {
    this.line();
    this.line(this.style(`── ${text} ${'─'.repeat(Math.max(3, 76 - text.length))}`, 'bold', 'cyan'));
  }

  say(text: string): void {
    this.line(`  ${text}`);
  }

  /** A fact with its name. */
  fact(name: string, value: string, ...styles: readonly Style[]): void {
    this.line(
      `  ${this.style(name.padEnd(17), 'dim')} ${styles.length > 0 ? this.style(value, ...styles) : value}`,
    );
  }

  check(ok: boolean, text: string): void {
    this.line(`  ${ok ? this.style('✓', 'bold', 'green') : this.style('✗', 'bold', 'red')} ${text}`);
  }
}
