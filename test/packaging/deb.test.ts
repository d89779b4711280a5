/** `npm run deb`: the package is complete, runs from where it is unpacked, and its units are well-formed. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../../..', import.meta.url));
const has = (tool: string): boolean => spawnSync(tool, ['--version']).error === undefined;
const version = (JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string })
  .version;

describe('the Debian package', { skip: has('dpkg-deb') ? false : 'needs dpkg-deb' }, () => {
  let directory: string;
  let root: string;
  let file: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-deb-'));
    root = join(directory, 'root');
    file = execFileSync('sh', ['scripts/deb.sh', directory], { cwd: project, encoding: 'utf8' }).trim();
    execFileSync('dpkg-deb', ['-x', file, root]);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('says what it is and what it needs', () => {
    const field = (name: string): string =>
      execFileSync('dpkg-deb', ['-f', file, name], { encoding: 'utf8' }).trim();
    assert.equal(field('Package'), 'tcpcrypt');
    assert.equal(field('Version'), version);
    for (const needed of ['nodejs (>= 20.19)', 'libbpf1', 'nftables', 'iptables', 'iproute2'])
      assert.ok(field('Depends').includes(needed), needed);
    const scripts = execFileSync('dpkg-deb', ['--ctrl-tarfile', file]);
    const control = join(directory, 'control');
    execFileSync('sh', ['-c', `mkdir -p "$1" && tar -x -C "$1"`, 'sh', control], { input: scripts });
    for (const script of ['postinst', 'prerm', 'postrm']) execFileSync('sh', ['-n', join(control, script)]);
  });

  test('holds everything that is needed to run, and nothing of the developers', () => {
    const run = (...args: string[]) =>
      execFileSync(join(root, 'usr/bin/tcpcrypt'), args, { encoding: 'utf8' }).trim();
    assert.equal(run('--version'), version);
    assert.match(run('daemon', '--help'), /--metrics/);
    assert.ok(existsSync(join(root, 'usr/lib/tcpcrypt/dist/bpf/eno.bpf.o')));
    assert.ok(existsSync(join(root, 'usr/include/tcp_eno.h')));
    // Every import of the program itself can be resolved.
    const library = join(root, 'usr/lib/tcpcrypt');
    const source = `import('${library}/dist/daemon/control/metrics.js').then(() => console.log('loaded'))`;
    assert.match(execFileSync(process.execPath, ['-e', source], { encoding: 'utf8' }), /loaded/);
    const modules = readdirSync(join(library, 'node_modules'));
    assert.ok(modules.includes('koffi') && modules.includes('pino'));
    for (const developers of ['typescript', '@typescript', '@biomejs'])
      assert.ok(!modules.includes(developers), developers);
  });

  test('its systemd units are well-formed', {
    skip: has('systemd-analyze') ? false : 'needs systemd-analyze',
  }, () => {
    // Where the units that ours refer to are: a root of its own, so that "tcpcrypt" need not be installed here.
    const units = join(root, 'usr/lib/systemd/system');
    cpSync('/usr/lib/systemd/system', units, { recursive: true, verbatimSymlinks: true });
    cpSync(join(root, 'lib/systemd/system'), units, { recursive: true });
    const { status, stderr } = spawnSync(
      'systemd-analyze',
      ['verify', `--root=${root}`, 'tcpcrypt.service', 'tcpcryptd.service'],
      { encoding: 'utf8' },
    );
    assert.doesNotMatch(stderr, /tcpcrypt/);
    assert.equal(status, 0, stderr);
  });
});
