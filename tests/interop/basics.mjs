// Publish, query, follow, replace, delete, vanish, count, page: what every client does.

import assert from 'node:assert/strict';
import { decode, nprofileEncode } from 'nostr-tools/nip19';
import { fetchRelayInformation } from 'nostr-tools/nip11';
import { feedPubkey, computeOffset, hllEncode, newHll } from 'nostr-tools/nip45';
import { verifyEvent } from 'nostr-tools/pure';
import { challenged, connect, connectAs, deferred, follow, ids, now, person, pool, query, raw, refusal, sorted, test, url } from './harness.mjs';

test('the information document is one that the library reads', async () => {
  const information = await fetchRelayInformation(url);
  for (const nip of [1, 9, 11, 40, 42, 45, 62, 70, 77]) assert.ok(information.supported_nips.includes(nip), nip);
  assert.equal(typeof information.limitation.max_subscriptions, 'number');
  assert.equal(decode(nprofileEncode({ pubkey: person().key, relays: [url] })).data.relays[0], url);
});

test('what is published is found again, byte for byte', async (cleanup) => {
  const relay = await connect(cleanup);
  const alice = person();
  const event = alice.event(1, 'newline\n quote" back\\slash tab\t bell\u0007 null\u0000 π 🦀 \u2028', [
    ['t', 'Größe'], ['e', '0'.repeat(64), '', 'root'], ['x'], ['y', ''], ['z', '"\\\n'],
  ]);
  assert.equal(await relay.publish(event), '');
  const [found, ...more] = await query(relay, { ids: [event.id] });
  assert.deepEqual(more, []);
  const plain = JSON.parse(JSON.stringify(event));
  assert.deepEqual(JSON.parse(JSON.stringify(found)), plain);
  assert.ok(verifyEvent(plain));
  assert.match(await relay.publish(event), /^duplicate: /);
});

test('what the library signs wrongly is refused and not found', async (cleanup) => {
  const relay = await connect(cleanup);
  const alice = person();
  const event = alice.note('signed');
  const forged = { ...event, sig: alice.note('another').sig };
  assert.match(await refusal(relay.publish(forged)), /^invalid: /);
  const changed = { ...event, content: 'changed' };
  assert.match(await refusal(relay.publish(changed)), /^invalid: /);
  assert.deepEqual(await query(relay, { authors: [alice.key] }), []);
});

test('filters by id, author, kind, tag, since, until and limit give what the library expects', async (cleanup) => {
  const relay = await connect(cleanup);
  const [alice, bob] = [person(), person()];
  const topic = alice.key.slice(0, 16);
  const start = now() - 1000;
  const events = [];
  for (let n = 0; n < 40; n += 1) {
    const who = n % 2 ? alice : bob;
    events.push(who.event(n % 4 ? 1 : 7, `event ${n}`, [['t', n % 3 ? topic : topic + 'x'], ['p', alice.key]], start + n));
  }
  await Promise.all(events.map((event) => relay.publish(event)));
  const newest = [...events].reverse();
  const both = { authors: [alice.key, bob.key] };
  const gives = async (filter, expected) => assert.deepEqual(ids(await query(relay, filter)), ids(expected));
  await gives(both, newest);
  await gives({ ...both, limit: 5 }, newest.slice(0, 5));
  await gives({ authors: [alice.key] }, newest.filter((event) => event.pubkey === alice.key));
  await gives({ '#p': [alice.key], kinds: [7] }, newest.filter((event) => event.kind === 7));
  await gives({ '#t': [topic] }, newest.filter((event) => event.tags[0][1] === topic));
  await gives({ '#t': [topic, topic + 'x'], since: start + 10, until: start + 19 },
    newest.filter((event) => event.created_at >= start + 10 && event.created_at <= start + 19));
  await gives({ ids: [events[3].id, events[30].id], ...both }, [events[30], events[3]]);
  const several = await query(relay, { ids: [events[1].id] }, { ids: [events[2].id] }, { ids: [events[1].id] });
  assert.deepEqual(sorted(several), sorted([events[1], events[2]]));
  assert.equal(await relay.count([both], {}), 40);
  assert.equal(await relay.count([{ ...both, kinds: [7] }, { ...both, kinds: [1] }], {}), 40);
});

test('a follower gets stored events, EOSE, then each new one once and in order', async (cleanup) => {
  const [relay, publisher] = [await connect(cleanup), await connect(cleanup)];
  const alice = person();
  const stored = [alice.note('stored')];
  await publisher.publish(stored[0]);
  const following = follow(relay, { authors: [alice.key] }, { kinds: [1], authors: [alice.key] });
  assert.deepEqual(ids(await following.eose), ids(stored));
  const live = Array.from({ length: 200 }, (_, n) => alice.note(`live ${n}`));
  for (const event of live) await publisher.publish(event);
  assert.deepEqual(ids(await following.until(live.at(-1).id)), ids([...stored, ...live]));
  following.close();
  const after = follow(relay, { authors: [alice.key], limit: 0 });
  assert.deepEqual(await after.eose, []);
  const last = alice.note('last');
  await publisher.publish(last);
  assert.deepEqual(ids(await after.until(last.id)), [last.id]);
});

test('ephemeral events reach followers and are not stored', async (cleanup) => {
  const [relay, publisher] = [await connect(cleanup), await connect(cleanup)];
  const alice = person();
  const following = follow(relay, { kinds: [20_001], authors: [alice.key] });
  await following.eose;
  const event = alice.event(20_001, 'passing by');
  assert.equal(await publisher.publish(event), '');
  assert.deepEqual(ids(await following.until(event.id)), [event.id]);
  assert.deepEqual(await query(relay, { authors: [alice.key] }), []);
});

test('a SimplePool publishes, queries, gets and follows', async (cleanup) => {
  const simple = pool(cleanup);
  const alice = person();
  const events = Array.from({ length: 10 }, (_, n) => alice.event(1, `pool ${n}`, [], now() - n));
  assert.deepEqual(await Promise.all(events.flatMap((event) => simple.publish([url], event))), events.map(() => ''));
  assert.deepEqual(ids(await simple.querySync([url], { authors: [alice.key] })), ids(events));
  assert.equal((await simple.get([url], { ids: [events[4].id] })).id, events[4].id);
  const next = deferred();
  const ready = deferred();
  simple.subscribeMany([url], { authors: [alice.key], limit: 0 }, { onevent: next.resolve, oneose: ready.resolve });
  await ready.promise;
  const live = alice.note('live');
  await Promise.all(simple.publish([url], live));
  assert.equal((await next.promise).id, live.id);
});

test('of a profile only the newest is kept, and of two in one second the one with the lowest id', async (cleanup) => {
  const relay = await connect(cleanup);
  const alice = person();
  const at = now() - 100;
  const profile = (content, created_at) => alice.event(0, content, [], created_at);
  const [older, newer] = [profile('older', at), profile('newer', at + 1)];
  await relay.publish(newer);
  assert.match(await refusal(relay.publish(older)), /^duplicate: /);
  const ties = [profile('a', at + 2), profile('b', at + 2), profile('c', at + 2)];
  for (const event of ties) await relay.publish(event).catch(() => {});
  const lowest = sorted(ties)[0];
  assert.deepEqual(ids(await query(relay, { kinds: [0], authors: [alice.key] })), [lowest]);
  assert.deepEqual(await query(relay, { ids: [newer.id] }), []);
});

test('of an addressable event each address keeps its newest version', async (cleanup) => {
  const relay = await connect(cleanup);
  const alice = person();
  const article = (d, age) => alice.event(30_023, `${d} ${age}`, [['d', d]], now() - age);
  const versions = [article('one', 30), article('two', 20), article('one', 10), article('', 5), article('two', 3)];
  for (const event of versions) await relay.publish(event);
  const kept = [versions[4], versions[3], versions[2]];
  assert.deepEqual(ids(await query(relay, { kinds: [30_023], authors: [alice.key] })), ids(kept));
  const one = await query(relay, { kinds: [30_023], authors: [alice.key], '#d': ['one'] });
  assert.deepEqual(ids(one), [versions[2].id]);
});

test('authors delete their own events by id and by address, nobody else does', async (cleanup) => {
  const relay = await connect(cleanup);
  const [alice, mallory] = [person(), person()];
  const at = now() - 100;
  const [note, kept] = [alice.event(1, 'note', [], at), alice.event(1, 'kept', [], at)];
  const article = alice.event(30_023, 'article', [['d', 'x']], at);
  const later = alice.event(30_023, 'again', [['d', 'x']], at + 50);
  for (const event of [note, kept, article]) await relay.publish(event);
  assert.match(await refusal(relay.publish(mallory.event(5, '', [['e', kept.id]]))), /^invalid: /);
  const deletion = alice.event(5, '', [['e', note.id], ['a', `30023:${alice.key}:x`]], at + 10);
  await relay.publish(deletion);
  assert.deepEqual(sorted(await query(relay, { authors: [alice.key] })), sorted([kept, deletion]));
  for (const event of [note, article]) assert.match(await refusal(relay.publish(event)), /^blocked: /);
  await relay.publish(later);
  assert.deepEqual(sorted(await query(relay, { authors: [alice.key] })), sorted([kept, deletion, later]));
});

test('a request to vanish removes everything of its author and lets nothing old return', async (cleanup) => {
  const relay = await connect(cleanup);
  const [alice, bob] = [person(), person()];
  const at = now() - 100;
  const old = [alice.event(1, 'old', [], at), alice.event(0, '{}', [], at), alice.event(30_023, '', [['d', '']], at)];
  const other = bob.event(1, 'about her', [['p', alice.key]], at);
  for (const event of [...old, other]) await relay.publish(event);
  const elsewhere = alice.event(62, '', [['relay', 'wss://elsewhere.example.com/']], at + 1);
  assert.match(await refusal(relay.publish(elsewhere)), /^invalid: /);
  assert.equal(await relay.count([{ authors: [alice.key] }], {}), old.length);
  const request = alice.event(62, 'goodbye', [['relay', url]], at + 2);
  assert.equal(await relay.publish(request), '');
  assert.deepEqual(ids(await query(relay, { authors: [alice.key] })), [request.id]);
  assert.deepEqual(ids(await query(relay, { authors: [bob.key] })), [other.id]);
  for (const event of old) assert.match(await refusal(relay.publish(event)), /^blocked: /);
  const fresh = alice.note('here again');
  await relay.publish(fresh);
  assert.deepEqual(sorted(await query(relay, { authors: [alice.key] })), sorted([request, fresh]));
});

test('protected events are taken from their author alone', async (cleanup) => {
  const simple = pool(cleanup);
  const [alice, bob] = [person(), person()];
  const event = alice.event(1, 'only from me', [['-']]);
  const as = (who) => ({ onauth: who.sign });
  assert.match(await refusal(simple.publish([url], event)[0]), /^auth-required: /);
  // The pool authenticates when it is told to, and tries again.
  assert.match(await refusal(simple.publish([url], event, as(bob))[0]), /^restricted: /);
  const own = pool(cleanup);
  assert.equal(await own.publish([url], event, as(alice))[0], '');
  assert.deepEqual(ids(await own.querySync([url], { ids: [event.id] })), [event.id]);
});

test('AUTH is accepted once and refused for another relay or challenge', async (cleanup) => {
  const alice = person();
  await connectAs(alice, cleanup);
  const wrong = (change) => async (template) => alice.sign({ ...template, tags: template.tags.map(change) });
  const elsewhere = await challenged(cleanup);
  const named = wrong(([name, value]) => [name, name === 'relay' ? 'wss://elsewhere.example.com/' : value]);
  assert.match(await refusal(elsewhere.auth(named)), /^invalid: /);
  const guessing = await challenged(cleanup);
  const guessed = wrong(([name, value]) => [name, name === 'challenge' ? 'guess' : value]);
  assert.match(await refusal(guessing.auth(guessed)), /^invalid: /);
});

test('COUNT sends the HyperLogLog registers that the library computes', async (cleanup) => {
  const relay = await connect(cleanup);
  const simple = pool(cleanup);
  const note = person().note('liked');
  await relay.publish(note);
  const fans = Array.from({ length: 60 }, person);
  await Promise.all(fans.map((fan) => relay.publish(fan.event(7, '+', [['e', note.id], ['p', note.pubkey]]))));
  const offset = computeOffset(note.id);
  const registers = fans.reduce((hll, fan) => feedPubkey(hll, fan.key, offset), newHll());
  const expected = { count: fans.length, hll: hllEncode(registers) };
  assert.deepEqual(await relay.countWithHLL([{ '#e': [note.id], kinds: [7] }], {}), expected);
  assert.deepEqual(await simple.countMany([url], note.id, 'reactions'), expected);
});

test('EOSE ends a page with two elements, and pages by until meet without a gap', async (cleanup) => {
  const [wire, relay] = [await raw(cleanup), await connect(cleanup)];
  const alice = person();
  const events = Array.from({ length: 30 }, (_, n) => alice.event(1, `page ${n}`, [], now() - 100 + Math.floor(n / 3)));
  await Promise.all(events.map((event) => relay.publish(event)));
  const page = async (filter) => {
    wire.send('REQ', 'page', { authors: [alice.key], ...filter });
    const found = [];
    for (;;) {
      const [verb, sub, ...rest] = await wire.next();
      assert.equal(sub, 'page');
      if (verb !== 'EOSE') found.push(...rest);
      else {
        // Libraries in use take a third for malformed.
        assert.deepEqual(rest, []);
        return found;
      }
    }
  };
  const got = new Map();
  let until = now();
  for (let size = -1; got.size > size;) {
    size = got.size;
    // Three share a second, so a page reaches beyond the second at which it begins.
    const found = await page({ limit: 4, until });
    assert.ok(found.length <= 4);
    for (const event of found) got.set(event.id, event);
    until = found.at(-1).created_at;
  }
  assert.deepEqual(sorted([...got.values()]), sorted(events));
});
