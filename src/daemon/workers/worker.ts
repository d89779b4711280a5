/**
 * A worker: a child of the daemon with an engine of its own. It does what its parent says, and ends when its parent does;
 * signals for the daemon, which reach the whole group of processes, are for the parent.
 */
import type { Logger } from 'pino';
import { exchangeMaps, openMaps } from '../../kernel/daemon-maps.js';
import { takeDescriptors } from '../../kernel/descriptor-passing.js';
import { endWithParent } from '../../kernel/privileges.js';
import { Engine } from '../engine.js';
import { filesFrom } from '../host-authentication.js';
import {
  type Assignment,
  FIRST_MAP,
  PAGE,
  type Question,
  type QuestionName,
  type Questions,
  type Reply,
} from './messages.js';

const FOR_THE_PARENT = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const;

type Answers = {
  readonly [Name in QuestionName]: (given: Questions[Name]['given']) => Promise<Questions[Name]['answer']>;
};

/** @param logger makes the log of worker number `index` */
export function work(logger: (index: number, level: string) => Logger): void {
  for (const signal of FOR_THE_PARENT) process.on(signal, () => {});
  // Its sockets are reset then.
  process.on('disconnect', () => process.exit(1));
  endWithParent();
  let engine: Engine | undefined;
  let maps: readonly number[] = [];
  const engaged = (): Engine => {
    if (engine === undefined) throw new Error('not started');
    return engine;
  };
  const answers: Answers = {
    start: async (assignment) => {
      maps = Array.from({ length: assignment.maps }, (_, at) => FIRST_MAP + at);
      engine = await start(assignment, maps, logger(assignment.index, assignment.logLevel));
      return null;
    },
    report: async () => engaged().report(),
    connections: async (after) => engaged().connectionsAfter(after, PAGE),
    paths: () => engaged().paths(),
    flush: (address) => engaged().flushPaths(address ?? undefined),
    follow: async (policy) => {
      await engaged().follow(policy);
      return null;
    },
    suspend: async () => {
      engaged().suspend();
      return null;
    },
    renew: async () => {
      const passed = takeDescriptors(FIRST_MAP + maps.length);
      if (passed === undefined) throw new Error('no maps came');
      exchangeMaps(maps, passed.descriptors);
      await engaged().renew();
      return null;
    },
    reset: async () => {
      engaged().resetRelays();
      return null;
    },
    'stop-taking': async () => {
      await engaged().stopTaking();
      return null;
    },
    finish: async (deadline) => {
      await engaged().finish(deadline);
      await engaged().close();
      return engaged().report();
    },
  };
  process.on('message', async (question: Question) => {
    const reply = await replyTo(answers, question);
    // In order, and not before it is sent.
    process.send?.(reply, () => {
      if (question.name === 'finish') process.exit(0);
    });
  });
}

async function replyTo(answers: Answers, { id, name, given }: Question): Promise<Reply> {
  try {
    const answer = answers[name] as (given: unknown) => Promise<unknown>;
    return { id, answer: await answer(given) };
  } catch (error) {
    const { code = 'ERR_TCPCRYPT_SYSTEM', message } = error as NodeJS.ErrnoException;
    return { id, error: { code, message: String(message) } };
  }
}

async function start(assignment: Assignment, maps: readonly number[], logger: Logger): Promise<Engine> {
  const { index, count, share, ipv6, policy, limits, numbers, negotiation, files } = assignment;
  const die = (error: Error): never => {
    logger.fatal({ event: 'failure', error: error.stack }, 'this worker cannot go on');
    process.exit(1);
  };
  process.on('uncaughtException', die);
  return Engine.open({
    ...negotiation,
    logger,
    queue: share.queue,
    maps: openMaps(maps),
    ipv6,
    policy,
    limits,
    onFailure: die,
    worker: { index, count, share, numbers, files: filesFrom(files) },
  });
}
