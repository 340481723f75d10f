// Direct messages (kinds 4 and 1059): only those who wrote them or to whom they are written see them, in stored
// events, live and counted.

import assert from 'node:assert/strict';
import { decrypt, encrypt } from 'nostr-tools/nip04';
import { unwrapEvent, wrapEvent } from 'nostr-tools/nip17';
import { nip77 } from 'nostr-tools';
import { connect, connectAs, deferred, follow, ids, now, person, pool, query, sorted, test, url } from './harness.mjs';

const { NegentropyStorageVector, NegentropySync } = nip77;

const letter = (from, to, text) => from.event(4, encrypt(from.secret, to.key, text), [['p', to.key]]);
const wrap = (from, to, text) => wrapEvent(from.secret, { publicKey: to.key }, text);

test('the recipient reads what the library encrypted, kind 4 and gift wrap', async (cleanup) => {
  const [alice, bob] = [person(), person()];
  const [hers, his] = [await connectAs(alice, cleanup), await connectAs(bob, cleanup)];
  const [old, wrapped] = [letter(alice, bob, 'meet at noon'), wrap(alice, bob, 'meet at one')];
  for (const event of [old, wrapped]) assert.equal(await hers.publish(event), '');
  const [first] = await query(his, { kinds: [4], '#p': [bob.key] });
  assert.equal(decrypt(bob.secret, alice.key, first.content), 'meet at noon');
  const [second] = await query(his, { kinds: [1059], '#p': [bob.key] });
  assert.equal(unwrapEvent(second, bob.secret).content, 'meet at one');
});

test('a pool that is asked to authenticate does so and gets the messages', async (cleanup) => {
  const [alice, bob] = [person(), person()];
  const event = wrap(alice, bob, 'hello');
  await (await connect(cleanup)).publish(event);
  const found = deferred();
  pool(cleanup).subscribe([url], { kinds: [1059], '#p': [bob.key] }, { onauth: bob.sign, onevent: found.resolve });
  assert.equal((await found.promise).id, event.id);
});

test('strangers get no message of others, stored, live or counted', async (cleanup) => {
  const [alice, bob, mallory] = [person(), person(), person()];
  const readers = {
    author: await connectAs(alice, cleanup),
    recipient: await connectAs(bob, cleanup),
    stranger: await connectAs(mallory, cleanup),
    nobody: await connect(cleanup),
  };
  const publisher = await connect(cleanup);
  const note = (content) => alice.event(1, content, [['p', bob.key]]);
  const stored = [letter(alice, bob, '1'), wrap(alice, bob, '2'), note('3')];
  for (const event of stored) await publisher.publish(event);
  const [first, wrapped, open] = ids(stored);
  // Filters that name no kind, or an open one too, are answered with what may be seen.
  const filters = [{ '#p': [bob.key] }, { kinds: [1, 4, 1059], '#p': [bob.key] }, { ids: ids(stored) }];
  const seen = { author: [first, open], recipient: [first, wrapped, open], stranger: [open], nobody: [open] };
  for (const [who, relay] of Object.entries(readers)) {
    for (const filter of filters) {
      const asked = `${who} asks for ${JSON.stringify(filter)}`;
      assert.deepEqual(sorted(await query(relay, filter)), [...seen[who]].sort(), asked);
      assert.equal(await relay.count([filter], {}), seen[who].length, asked);
    }
  }
  const following = Object.entries(readers).map(([who, relay]) => [who, follow(relay, { '#p': [bob.key], limit: 0 })]);
  for (const [, one] of following) await one.eose;
  const live = [letter(alice, bob, '4'), wrap(alice, bob, '5'), note('6')];
  for (const event of live) await publisher.publish(event);
  const told = {
    author: [live[0], live[2]], recipient: live, stranger: [live[2]], nobody: [live[2]],
  };
  for (const [who, one] of following) assert.deepEqual(ids(await one.until(live[2].id)), ids(told[who]), who);
});

test('filters for the messages of others alone are refused with the word the library acts on', async (cleanup) => {
  const [bob, mallory] = [person(), person()];
  const [nobody, stranger] = [await connect(cleanup), await connectAs(mallory, cleanup)];
  const filter = { kinds: [1059], '#p': [bob.key] };
  assert.match(await follow(nobody, filter).closed, /^auth-required: /);
  assert.match(await follow(stranger, filter).closed, /^restricted: /);
  await assert.rejects(nobody.count([filter], {}), /^Error: auth-required: /);
  await assert.rejects(stranger.count([filter], {}), /^Error: restricted: /);
});

test('negentropy names messages to those involved alone', async (cleanup) => {
  const [alice, bob, mallory] = [person(), person(), person()];
  const since = now();
  const publisher = await connect(cleanup);
  const messages = [letter(alice, bob, '1'), alice.event(1, 'open', [['p', bob.key]])];
  for (const event of messages) await publisher.publish(event);
  const named = async (relay) => {
    const needed = [];
    const storage = new NegentropyStorageVector();
    storage.seal();
    const end = deferred();
    const params = { onneed: (id) => needed.push(id), onclose: end.resolve };
    await new NegentropySync(relay, storage, { '#p': [bob.key], since }, params).start();
    assert.equal(await end.promise, undefined);
    return needed.sort();
  };
  assert.deepEqual(await named(await connectAs(bob, cleanup)), sorted(messages));
  assert.deepEqual(await named(await connectAs(mallory, cleanup)), [messages[1].id]);
  assert.deepEqual(await named(await connect(cleanup)), [messages[1].id]);
});
