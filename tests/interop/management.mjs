// @welshman/util manages a relay of its own (NIP-86 with NIP-98), unmodified, as the consoles built on it do.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ManagementMethod, makeHttpAuth, sendManagementRequest } from '@welshman/util';
import { drivers } from './drivers.mjs';
import { person, required, test } from './harness.mjs';
import { startRelay } from './libraries.mjs';

test('@welshman/util bans and allows, lists, renames and blocks', async (cleanup) => {
  const [admin, bob, stranger] = [person(), person(), person()];
  const directory = join(required('DATA'), '..', 'managed');
  mkdirSync(directory, { recursive: true });
  const config = join(directory, 'weir.toml');
  writeFileSync(config, `[management]\nadmins = ["${admin.key}"]\n`);
  const relay = await startRelay(join(directory, 'data'), '127.0.0.1:0', config);
  cleanup(() => relay.child.kill());
  const url = `http://${relay.address}/`;
  const call = async (method, params = [], who = admin) => {
    const request = { method, params };
    const auth = await who.sign(await makeHttpAuth(url, 'POST', JSON.stringify(request)));
    return sendManagementRequest(url, request, auth);
  };

  const { result: methods } = await call(ManagementMethod.SupportedMethods);
  const known = Object.values(ManagementMethod).filter((method) => method !== ManagementMethod.SupportedMethods);
  assert.deepEqual(known.filter((method) => !methods.includes(method)), [], 'every method of the library is there');

  const publisher = await drivers['nostr-tools'](`ws://${relay.address}/`);
  cleanup(() => publisher.close());
  const before = bob.note('before');
  await publisher.publish(before);
  assert.deepEqual(await call(ManagementMethod.BanPubkey, [bob.key, 'spam']), { result: true });
  await assert.rejects(publisher.publish(bob.note('banned')), /blocked: the author is not welcome here/);
  assert.deepEqual(await call(ManagementMethod.ListBannedPubkeys), { result: [{ pubkey: bob.key, reason: 'spam' }] });
  assert.deepEqual(await call(ManagementMethod.AllowPubkey, [bob.key, '']), { result: true });
  await publisher.publish(bob.note('allowed'));
  assert.deepEqual(await call(ManagementMethod.BanEvent, [before.id, 'doxing']), { result: true });
  await assert.rejects(publisher.publish(before), /blocked: this event is not welcome here/);
  assert.deepEqual(await call(ManagementMethod.ListBannedEvents), { result: [{ id: before.id, reason: 'doxing' }] });
  assert.deepEqual(await call(ManagementMethod.DisallowKind, [7]), { result: true });
  await assert.rejects(publisher.publish(bob.event(7, '+')), /blocked: kind 7 is not accepted here/);
  assert.deepEqual(await call(ManagementMethod.BlockIp, ['192.0.2.7', 'flood']), { result: true });
  assert.deepEqual(await call(ManagementMethod.ListBlockedIps), { result: [{ ip: '192.0.2.7', reason: 'flood' }] });
  assert.deepEqual(await call(ManagementMethod.ChangeRelayName, ['By the sea']), { result: true });
  const document = await (await fetch(url, { headers: { Accept: 'application/nostr+json' } })).json();
  assert.equal(document.name, 'By the sea');
  assert.ok(document.supported_nips.includes(86));
  assert.deepEqual(await call(ManagementMethod.ListEventsNeedingModeration), { result: [] });
  const refused = await call(ManagementMethod.BanPubkey, [admin.key], stranger);
  assert.deepEqual(refused, { error: 'this key is not an admin of this relay' });
});
