// Negentropy (NIP-77) with the library's implementation as the client, small and large, in both directions.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { nip77 } from 'nostr-tools';
import { connect, deferred, now, person, query, raw, required, sorted, test } from './harness.mjs';

const { Negentropy, NegentropyStorageVector, NegentropySync } = nip77;

const run = promisify(execFile);

const storageOf = (events) => {
  const storage = new NegentropyStorageVector();
  for (const { created_at, id } of events) storage.insert(created_at, id);
  storage.seal();
  return storage;
};

/// One sync as an application does it: what each side lacks.
async function compare(relay, filter, own) {
  const [have, need] = [new Set(), new Set()];
  const end = deferred();
  const params = { onhave: (id) => have.add(id), onneed: (id) => need.add(id), onclose: end.resolve };
  const sync = new NegentropySync(relay, storageOf(own), filter, params);
  await sync.start();
  assert.equal(await end.promise, undefined);
  return { have: [...have].sort(), need: [...need].sort() };
}

/// Brings both sides to the same state and returns what they hold.
async function synchronize(relay, filter, own) {
  const { have, need } = await compare(relay, filter, own);
  await Promise.all(own.filter((event) => have.includes(event.id)).map((event) => relay.publish(event)));
  const fetched = need.length ? await query(relay, { ids: need }) : [];
  assert.deepEqual(sorted(fetched), need, 'what negentropy names can be queried');
  return { have, need, all: [...own, ...fetched] };
}

test('both sides learn what they lack, whatever each side holds', async (cleanup) => {
  const relay = await connect(cleanup);
  for (const [shared, theirs, ours] of [[0, 0, 0], [0, 5, 0], [0, 0, 5], [10, 1, 1], [300, 40, 30], [0, 200, 200]]) {
    const alice = person();
    // Many in the same second, so that bounds need ids.
    const made = (count, name) =>
      Array.from({ length: count }, (_, n) => alice.event(1, `${name} ${n}`, [], now() - 500 + (n % 7)));
    const [both, remote, local] = [made(shared, 'both'), made(theirs, 'theirs'), made(ours, 'ours')];
    await Promise.all([...both, ...remote].map((event) => relay.publish(event)));
    const filter = { authors: [alice.key] };
    const done = await synchronize(relay, filter, [...both, ...local]);
    assert.deepEqual([done.have, done.need], [sorted(local), sorted(remote)], `${shared} ${theirs} ${ours}`);
    const again = await compare(relay, filter, done.all);
    assert.deepEqual(again, { have: [], need: [] });
    assert.equal(await relay.count([filter], {}), shared + theirs + ours);
  }
});

test('deleted and expired events are not named', async (cleanup) => {
  const relay = await connect(cleanup);
  const alice = person();
  const [kept, deleted] = [alice.event(1, 'kept', [], now() - 9), alice.event(1, 'deleted', [], now() - 9)];
  const passing = alice.event(1, 'passing', [['expiration', String(now() + 1)]], now() - 9);
  for (const event of [kept, deleted, passing]) await relay.publish(event);
  await relay.publish(alice.event(5, '', [['e', deleted.id]]));
  // Until the second of its expiration is over, the relay has to be asked again.
  while (now() <= Number(passing.tags[0][1])) await query(relay, { ids: [passing.id] });
  assert.deepEqual((await compare(relay, { authors: [alice.key], kinds: [1] }, [])).need, [kept.id]);
});

test('what goes wrong is said with NEG-ERR, and the connection goes on', async (cleanup) => {
  const wire = await raw(cleanup);
  const filter = { authors: [person().key] };
  wire.send('NEG-MSG', 'unknown', '61');
  assert.equal((await wire.next()).slice(0, 2).join(), 'NEG-ERR,unknown');
  wire.send('NEG-OPEN', 'broken', filter, '61ffffff');
  assert.equal((await wire.next()).slice(0, 2).join(), 'NEG-ERR,broken');
  // A version that does not exist yet: the answer is the byte of the one that does.
  wire.send('NEG-OPEN', 'future', filter, '62' + '00');
  assert.deepEqual(await wire.next(), ['NEG-MSG', 'future', '61']);
  wire.send('NEG-OPEN', 'future', filter, new Negentropy(storageOf([])).initiate());
  assert.deepEqual((await wire.next()).slice(0, 2), ['NEG-MSG', 'future']);
  wire.send('NEG-CLOSE', 'future');
});

test('100,000 events with few differences are compared in few bytes', async (cleanup) => {
  const corpus = required('CORPUS');
  await run(required('WEIR'), ['--data', required('DATA'), 'import', '--no-verify', corpus]);
  const held = [];
  for await (const line of createInterface({ input: createReadStream(corpus) })) {
    const { id, created_at, kind } = JSON.parse(line);
    held.push({ id, created_at, kind });
  }
  assert.equal(held.length, 100_000);
  const times = held.map((event) => event.created_at);
  const filter = { since: times.reduce((a, b) => Math.min(a, b)), until: times.reduce((a, b) => Math.max(a, b)) };
  // Nobody who has not proven a key may learn of messages.
  const visible = held.filter((event) => event.kind !== 4 && event.kind !== 1059);
  const missing = visible.filter((_, n) => n % 9001 === 17);
  const alice = person();
  const own = Array.from({ length: 9 }, (_, n) => alice.event(1, `own ${n}`, [], filter.since + n * 800_000));
  const mine = visible.filter((event) => !missing.includes(event)).concat(own);

  const relay = await connect(cleanup);
  const socket = relay.ws._socket;
  const before = [socket.bytesWritten, socket.bytesRead];
  const started = performance.now();
  const { have, need } = await compare(relay, filter, mine);
  const ms = Math.round(performance.now() - started);
  const [sent, received] = [socket.bytesWritten - before[0], socket.bytesRead - before[1]];
  assert.deepEqual([have, need], [sorted(own), sorted(missing)]);
  const what = `${visible.length} events on the relay, ${own.length} lacking there and ${missing.length} here`;
  console.log(`        ${what}: ${sent} bytes sent, ${received} received, ${ms} ms with the library's share`);
  assert.ok(sent + received < 32 * visible.length / 10, 'a tenth of what a list of the ids would take');

  await Promise.all(own.map((event) => relay.publish(event)));
  assert.deepEqual(sorted(await query(relay, { ids: need })), need);
  assert.deepEqual(await compare(relay, filter, [...mine, ...missing]), { have: [], need: [] });
});
