// The same things with each library of drivers.mjs: publish, query to the end, follow, prove a key, come back after a
// restart, and page through thousands of events without waiting for anything.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wrapEvent } from 'nostr-tools/nip17';
import { getEventHash } from 'nostr-tools/pure';
import { drivers } from './drivers.mjs';
import { connect, deferred, ids, now, person, required, sorted, test, url } from './harness.mjs';

/// Events to page through, one a second, and how many a page holds.
const [STORED, PAGE] = [5000, 500];

/// How long all pages may take beside the work of the client itself. A page that waits for a timeout takes longer.
const PAGING_MS = 5000;

const writers = Object.entries(drivers).filter(([name]) => name !== 'nostr-fetch');

async function opened(open, cleanup, options) {
  const client = await open(options?.url ?? url, options);
  cleanup(() => client.close());
  return client;
}

for (const [name, open] of writers) {
  test(`${name} publishes, queries to the end and follows`, async (cleanup) => {
    const client = await opened(open, cleanup);
    const alice = person();
    const stored = Array.from({ length: 20 }, (_, n) => alice.event(1, `stored ${n}`, [], now() - 100 + n));
    await Promise.all(stored.map((event) => client.publish(event)));
    const filter = { kinds: [1], authors: [alice.key] };
    assert.deepEqual(sorted(await client.query(filter)), sorted(stored));
    assert.deepEqual(ids(await client.query({ ...filter, limit: 1 })), [stored.at(-1).id]);
    assert.deepEqual(ids(await client.query({ kinds: [1], authors: [person().key] })), [], 'a query without a result ends');
    const live = alice.note('live');
    const came = deferred();
    await client.follow(filter, (event) => event.id === live.id && came.resolve());
    await (await connect(cleanup)).publish(live);
    await came.promise;
  });

  test(`${name} proves its key when it is asked to, and gets its messages`, async (cleanup) => {
    const [alice, bob] = [person(), person()];
    const message = wrapEvent(alice.secret, { publicKey: bob.key }, 'hello');
    await (await connect(cleanup)).publish(message);
    const client = await opened(open, cleanup, { who: bob });
    const came = deferred();
    client.follow({ kinds: [1059], '#p': [bob.key] }, (event) => came.resolve(event.id)).catch(came.reject);
    assert.equal(await came.promise, message.id);
  });
}

/// What all of them page through.
let pages;

test('5,000 events are stored to page through', async () => {
  const alice = person();
  const until = now() - 10;
  // Nobody looks at these signatures, and thousands of them take a while to make.
  const events = Array.from({ length: STORED }, (_, n) => {
    const event = { kind: 1, content: `page ${n}`, tags: [], created_at: until - n, pubkey: alice.key, sig: '0'.repeat(128) };
    return { ...event, id: getEventHash(event) };
  });
  const file = join(required('DATA'), '..', 'pages.jsonl');
  writeFileSync(file, events.map((event) => JSON.stringify(event)).join('\n'));
  execFileSync(required('WEIR'), ['--data', required('DATA'), 'import', '--no-verify', file], { stdio: 'ignore' });
  pages = { filter: { kinds: [1], authors: [alice.key], since: until - STORED }, until, ids: sorted(events) };
});

for (const [name, open] of Object.entries(drivers)) {
  test(`${name} pages through 5,000 events without waiting`, async (cleanup) => {
    const client = await opened(open, cleanup);
    const [began, computed] = [performance.now(), process.cpuUsage()];
    const found = new Set();
    for (let until = pages.until; found.size < STORED;) {
      const page = await client.query({ ...pages.filter, until, limit: PAGE });
      for (const event of page) found.add(event.id);
      if (page.length === 0) break;
      until = page.reduce((oldest, event) => Math.min(oldest, event.created_at), until) - 1;
    }
    const { user, system } = process.cpuUsage(computed);
    const [ms, own] = [performance.now() - began, (user + system) / 1000].map(Math.round);
    assert.deepEqual([...found].sort(), pages.ids);
    console.log(`        ${STORED} events in ${ms} ms, ${own} ms of them its own`);
    assert.ok(ms - own < PAGING_MS, 'it waits');
  });
}

/// A relay that the test can stop and start again at the same address.
export async function startRelay(directory, address = '127.0.0.1:0', config = required('CONFIG')) {
  const child = spawn(required('WEIR'), ['serve', '--listen', address, '--data', directory, '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let found;
  for await (const line of createInterface({ input: child.stderr })) {
    found = /listening on (\S+)/.exec(line)?.[1];
    if (found) break;
  }
  assert.ok(found, 'the relay starts');
  child.stderr.resume();
  const stop = async () => {
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  return { child, address: found, stop };
}

// Which of these libraries do not get what is published after a restart.
async function lostBy(libraries, cleanup, directory) {
  let relay = await startRelay(directory);
  cleanup(() => relay.child.kill());
  const alice = person();
  // Side by side: one of them tries again without any pause if it was connected for more than five seconds.
  const followers = await Promise.all(libraries.map(async ([name, open]) => {
    const client = await opened(open, cleanup, { url: `ws://${relay.address}/` });
    const seen = new Set();
    let wake = () => {};
    await client.follow({ kinds: [1], authors: [alice.key] }, (event) => (seen.add(event.id), wake()));
    const came = async (id) => {
      while (!seen.has(id)) await new Promise((resolve) => (wake = resolve));
    };
    return { name, came };
  }));
  await relay.stop();
  relay = await startRelay(directory, relay.address);
  const publisher = await drivers['nostr-tools'](`ws://${relay.address}/`);
  cleanup(() => publisher.close());
  const event = alice.note('after the restart');
  await publisher.publish(event);
  const missing = new Set(followers.map(({ name }) => name));
  const all = Promise.all(followers.map(({ name, came }) => came(event.id).then(() => missing.delete(name))));
  const late = new Promise((resolve) => setTimeout(resolve, 40_000).unref());
  await Promise.race([all, late]);
  await relay.stop();
  return libraries.filter(([name]) => missing.has(name));
}

test('each library comes back after a restart and gets what is published then', async (cleanup) => {
  let missing = writers;
  // A library may give up by itself when its attempt to connect again falls between stop and start.
  for (const attempt of ['first', 'second', 'third']) {
    missing = await lostBy(missing, cleanup, join(required('DATA'), '..', `restarted-${attempt}`));
    if (missing.length === 0) return;
  }
  assert.deepEqual(missing.map(([name]) => name), [], 'these never got it');
});
