/**
 * libbpf, as much of it as loading, pinning and reading the kernel part takes. Root only; the library that
 * unprivileged programs use does without. The shared object is opened at the first call.
 *
 * Every function throws a {@link TcpcryptError}; those that look for something return undefined where it is absent.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { TcpcryptError } from '../errors.js';
import { close, ENOENT, systemError } from './libc.js';

const ENOSPC = 28;
const LIBBPF_ERRNO_START = 4000;
/** Verifier logs are megabytes for programs with loops. */
const LOG_SIZES = [1 << 20, 1 << 24, 1 << 27];

type Handle = unknown;

function open() {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load('libbpf.so.1');
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
      detail: 'libbpf.so.1 is missing: install libbpf1 (Debian, Ubuntu) or libbpf (others)',
      cause,
    });
  }
  const functions = {
    setPrint: library.func('void *libbpf_set_print(void *)'),
    strerror: library.func('int libbpf_strerror(int, void *, size_t)'),
    objectOpen: library.func('void *bpf_object__open_mem(const void *, size_t, const void *)'),
    objectLoad: library.func('int bpf_object__load(void *)'),
    objectClose: library.func('void bpf_object__close(void *)'),
    nextProgram: library.func('void *bpf_object__next_program(void *, void *)'),
    programName: library.func('const char *bpf_program__name(void *)'),
    programFd: library.func('int bpf_program__fd(void *)'),
    attachCgroup: library.func('void *bpf_program__attach_cgroup(void *, int)'),
    linkPin: library.func('int bpf_link__pin(void *, const char *)'),
    linkDestroy: library.func('int bpf_link__destroy(void *)'),
    nextMap: library.func('void *bpf_object__next_map(void *, void *)'),
    mapName: library.func('const char *bpf_map__name(void *)'),
    mapIsInternal: library.func('bool bpf_map__is_internal(void *)'),
    mapFd: library.func('int bpf_map__fd(void *)'),
    mapPin: library.func('int bpf_map__pin(void *, const char *)'),
    mapReuse: library.func('int bpf_map__reuse_fd(void *, int)'),
    mapType: library.func('int bpf_map__type(void *)'),
    mapFlags: library.func('uint32_t bpf_map__map_flags(void *)'),
    mapKeySize: library.func('uint32_t bpf_map__key_size(void *)'),
    mapValueSize: library.func('uint32_t bpf_map__value_size(void *)'),
    mapMaxEntries: library.func('uint32_t bpf_map__max_entries(void *)'),
    objGet: library.func('int bpf_obj_get(const char *)'),
    infoByFd: library.func('int bpf_obj_get_info_by_fd(int, void *, void *)'),
    programFdById: library.func('int bpf_prog_get_fd_by_id(uint32_t)'),
    linkUpdate: library.func('int bpf_link_update(int, int, const void *)'),
    linkDetach: library.func('int bpf_link_detach(int)'),
    elementUpdate: library.func('int bpf_map_update_elem(int, uintptr_t, uintptr_t, uint64_t)'),
    elementLookup: library.func('int bpf_map_lookup_elem(int, uintptr_t, uintptr_t)'),
    elementDelete: library.func('int bpf_map_delete_elem(int, uintptr_t)'),
    elementTake: library.func('int bpf_map_lookup_and_delete_elem(int, uintptr_t, uintptr_t)'),
    nextKey: library.func('int bpf_map_get_next_key(int, const void *, void *)'),
    enableStats: library.func('int bpf_enable_stats(int)'),
    testRun: library.func('int bpf_prog_test_run_opts(int, void *)'),
  };
  functions.setPrint(null); // errors are ours to tell
  return functions;
}

let opened: ReturnType<typeof open> | undefined;
/** @internal */
export const lib = (): ReturnType<typeof open> => {
  opened ??= open();
  return opened;
};

function failure(what: string, errno: number): TcpcryptError {
  if (errno < LIBBPF_ERRNO_START) return systemError(what, errno);
  const text = Buffer.alloc(256);
  lib().strerror(errno, text, text.length);
  return new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
    detail: `${what}: ${text.subarray(0, text.indexOf(0)).toString()}`,
  });
}

/** @internal */
export function check(what: string, result: number): number {
  if (result < 0) throw failure(what, -result);
  return result;
}

const optional = <T>(handle: T | null): T | undefined => handle ?? undefined;

/** What an object file holds, without loading it. */
export interface ObjectContents {
  readonly programs: readonly string[];
  readonly maps: readonly { readonly name: string; readonly shape: MapShape }[];
}

/** A `bpf_object`: what one .bpf.o file holds. */
export class BpfObject {
  readonly #object: Handle;
  /** The kernel's account of a failed load; libbpf writes to it until the object is closed. */
  readonly #log: Handle;

  /** Creates the maps and loads the programs of the object file `image`; `prepare` sees the object before. */
  static load(image: Uint8Array, prepare: (object: BpfObject) => void = () => {}): BpfObject {
    for (const size of LOG_SIZES) {
      const object = new BpfObject(image, size);
      try {
        prepare(object);
      } catch (error) {
        object.close();
        throw error;
      }
      const errno = -lib().objectLoad(object.#object);
      if (errno === 0) return object;
      const log = logText(object.#log, size);
      object.close();
      if (errno === ENOSPC && size !== LOG_SIZES.at(-1)) continue;
      if (log === '') throw failure('loading the BPF object', errno);
      throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
        detail: `the kernel refuses the BPF programs: ${getSystemErrorName(-errno)}`,
        cause: new Error(`kernel log:\n${log}`),
      });
    }
    throw new TypeError('LOG_SIZES is empty');
  }

  /** Looks into an object file; loads nothing. */
  static inspect(image: Uint8Array): ObjectContents {
    const object = new BpfObject(image, LOG_SIZES[0] ?? 0);
    try {
      return {
        programs: object.programs().map(({ name }) => name),
        maps: object.maps().map(({ name, shape }) => ({ name, shape })),
      };
    } finally {
      object.close();
    }
  }

  private constructor(image: Uint8Array, logSize: number) {
    this.#log = koffi.alloc('uint8_t', logSize);
    new Uint8Array(koffi.view(this.#log, logSize)).fill(0, 0, 1);
    // struct bpf_object_open_opts; libbpf copies it.
    const options = Buffer.alloc(80);
    options.writeBigUInt64LE(BigInt(options.length), 0);
    options.writeBigUInt64LE(koffi.address(this.#log), 56);
    options.writeBigUInt64LE(BigInt(logSize), 64);
    this.#object = lib().objectOpen(image, image.length, options);
    if (this.#object === null) {
      const errno = koffi.errno();
      koffi.free(this.#log);
      throw failure('opening the BPF object', errno);
    }
  }

  /** Gives up the object; what is pinned or attached stays. */
  close(): void {
    lib().objectClose(this.#object);
    koffi.free(this.#log);
  }

  programs(): BpfProgram[] {
    const found: BpfProgram[] = [];
    for (let program = null; ; ) {
      program = lib().nextProgram(this.#object, program);
      if (program === null) return found;
      found.push(new BpfProgram(program));
    }
  }

  /** The maps that the source defines; not those that the compiler made for constants. */
  maps(): BpfMap[] {
    const found: BpfMap[] = [];
    for (let map = null; ; ) {
      map = lib().nextMap(this.#object, map);
      if (map === null) return found;
      if (!lib().mapIsInternal(map)) found.push(new BpfMap(map));
    }
  }
}

function logText(log: Handle, size: number): string {
  const bytes = Buffer.from(koffi.view(log, size));
  const end = bytes.indexOf(0);
  return bytes
    .subarray(0, end < 0 ? size : end)
    .toString('latin1')
    .trimEnd();
}

export class BpfProgram {
  readonly #program: Handle;
  readonly name: string;

  constructor(program: Handle) {
    this.#program = program;
    this.name = lib().programName(program);
  }

  /** Owned by the object. */
  get fd(): number {
    return lib().programFd(this.#program);
  }

  /** Attaches to a cgroup and pins the link, which keeps it attached. */
  attachAndPin(cgroupFd: number, path: string): void {
    const link = optional<Handle>(lib().attachCgroup(this.#program, cgroupFd));
    if (link === undefined) throw failure(`attaching ${this.name} to the cgroup`, koffi.errno());
    try {
      check(`pinning ${path}`, lib().linkPin(link, path));
    } finally {
      lib().linkDestroy(link);
    }
  }
}

/** What must agree for one map to stand in for another. */
export interface MapShape {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export class BpfMap {
  readonly #map: Handle;
  readonly name: string;

  constructor(map: Handle) {
    this.#map = map;
    this.name = lib().mapName(map);
  }

  /** Owned by the object. */
  get fd(): number {
    return lib().mapFd(this.#map);
  }

  get shape(): MapShape {
    return {
      type: lib().mapType(this.#map),
      keySize: lib().mapKeySize(this.#map),
      valueSize: lib().mapValueSize(this.#map),
      maxEntries: lib().mapMaxEntries(this.#map),
      flags: lib().mapFlags(this.#map),
    };
  }

  /** Before the load: uses an existing map instead of creating one. */
  reuse(fd: number): void {
    check(`reusing the map ${this.name}`, lib().mapReuse(this.#map, fd));
  }

  pin(path: string): void {
    check(`pinning ${path}`, lib().mapPin(this.#map, path));
  }
}

/** Opens a pinned map, program or link; the caller closes the descriptor. Undefined: there is none. */
export function openPin(path: string): number | undefined {
  const fd = lib().objGet(path);
  if (fd === -ENOENT) return undefined;
  return check(`opening ${path}`, fd);
}

function info(fd: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(size);
  check('bpf_obj_get_info_by_fd', lib().infoByFd(fd, bytes, length));
  return bytes;
}

/** `struct bpf_map_info` of a descriptor. */
export function mapShape(fd: number): MapShape {
  const bytes = info(fd, 88);
  return {
    type: bytes.readUInt32LE(0),
    keySize: bytes.readUInt32LE(8),
    valueSize: bytes.readUInt32LE(12),
    maxEntries: bytes.readUInt32LE(16),
    flags: bytes.readUInt32LE(20),
  };
}

/**
 * Opens a pinned map whose keys and values have these sizes; undefined: there is none. Another version's map is refused:
 * the kernel would copy as much as *it* thinks a value has.
 */
export function openMap(path: string, keySize: number, valueSize: number): number | undefined {
  const fd = openPin(path);
  if (fd === undefined) return undefined;
  const shape = mapShape(fd);
  if (shape.keySize === keySize && shape.valueSize === valueSize) return fd;
  close(fd);
  throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
    detail: `${path} is of another version: tcpcrypt down, then tcpcrypt up`,
  });
}

/** `struct bpf_link_info` of a link to a cgroup; cgroupId is 0 once the cgroup is gone. */
export function cgroupLink(fd: number): { programId: number; cgroupId: bigint } {
  const bytes = info(fd, 32);
  return { programId: bytes.readUInt32LE(8), cgroupId: bytes.readBigUInt64LE(16) };
}

/** The caller closes the descriptor. */
export const programFdById = (id: number): number => check('bpf_prog_get_fd_by_id', lib().programFdById(id));

/** Puts another program in the place of a link's, atomically. */
export function updateLink(linkFd: number, programFd: number): void {
  check('bpf_link_update', lib().linkUpdate(linkFd, programFd, null));
}

/** Detaches at once, where unlinking the pin would do so a moment later. A link of a vanished cgroup is detached already. */
export function detachLink(linkFd: number): void {
  lib().linkDetach(linkFd);
}

/** Makes the kernel count the runs of all BPF programs, until the returned descriptor is closed. */
export const countRuns = (): number => check('bpf_enable_stats', lib().enableStats(0));

/** Runs a program once on `packet`, which it may change (BPF_PROG_TEST_RUN). */
export function testRun(programFd: number, packet: Uint8Array): { result: number; packet: Buffer } {
  const out = koffi.alloc('uint8_t', packet.length);
  const input = koffi.alloc('uint8_t', packet.length);
  try {
    new Uint8Array(koffi.view(input, packet.length)).set(packet);
    // struct bpf_test_run_opts
    const options = Buffer.alloc(80);
    options.writeBigUInt64LE(BigInt(options.length), 0);
    options.writeBigUInt64LE(koffi.address(input), 8);
    options.writeBigUInt64LE(koffi.address(out), 16);
    options.writeUInt32LE(packet.length, 24);
    options.writeUInt32LE(packet.length, 28);
    options.writeInt32LE(1, 60);
    check('bpf_prog_test_run', lib().testRun(programFd, options));
    const length = Math.min(options.readUInt32LE(28), packet.length);
    return { result: options.readUInt32LE(56), packet: Buffer.from(Buffer.from(koffi.view(out, length))) };
  } finally {
    koffi.free(input);
    koffi.free(out);
  }
}

/** Whether libbpf can be opened; why not, otherwise. */
export function libbpfMissing(): TcpcryptError | undefined {
  try {
    lib();
    return undefined;
  } catch (error) {
    if (error instanceof TcpcryptError) return error;
    throw error;
  }
}

/** Runs `use` with a descriptor and closes it. */
export function withFd<T>(fd: number, use: (fd: number) => T): T {
  try {
    return use(fd);
  } finally {
    close(fd);
  }
}
