// What the suites share: the list of tests, connections that end with their test, and a subscription that can be
// awaited. It must never take the relay's part: whatever is not what the library expects is a failure.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay';
import { SimplePool, useWebSocketImplementation as usePoolWebSocket } from 'nostr-tools/pool';
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure';

useWebSocketImplementation(WebSocket);
usePoolWebSocket(WebSocket);

/// How long a test may take, in milliseconds.
const PATIENCE_MS = 90_000;

/// The relay's URL, as the library writes URLs.
export const url = required('RELAY_URL') + '/';

export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; start this with tests/interop/run`);
  return value;
}

export const now = () => Math.floor(Date.now() / 1000);

/// A person: a key of its own, and what it signs.
export function person() {
  const secret = generateSecretKey();
  const sign = async (template) => finalizeEvent(template, secret);
  return {
    secret,
    key: getPublicKey(secret),
    sign,
    event: (kind, content = '', tags = [], created_at = now()) =>
      finalizeEvent({ kind, content, tags, created_at }, secret),
    note: (content) => finalizeEvent({ kind: 1, content, tags: [], created_at: now() }, secret),
  };
}

const tests = [];

/// A test: a sentence and the function that proves it. It is given `cleanups`, run whatever happens.
export function test(sentence, body) {
  tests.push({ sentence, body });
}

/// Runs all tests one after the other; the number that failed.
export async function runAll() {
  let failed = 0;
  for (const { sentence, body } of tests) {
    const cleanups = [];
    const started = performance.now();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end within ${PATIENCE_MS} ms`)), PATIENCE_MS);
    });
    try {
      await Promise.race([body((cleanup) => cleanups.push(cleanup)), late]);
      console.log(`ok      ${sentence} (${Math.round(performance.now() - started)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${sentence}\n${error?.stack ?? error}`);
    } finally {
      clearTimeout(timer);
      for (const cleanup of cleanups.reverse()) cleanup();
    }
  }
  return { passed: tests.length - failed, failed };
}

/// A connection of the library's Relay class.
export async function connect(cleanup) {
  const relay = await Relay.connect(url);
  cleanup(() => relay.close());
  // The library gives up after 4.4 s, which a busy machine may need for hundreds of events at once.
  relay.publishTimeout = PATIENCE_MS;
  relay.onnotice = (text) => assert.fail(`NOTICE ${text}`);
  return relay;
}

/// A connection that has been asked for a key: the challenge comes before the refusal of what needs one.
export async function challenged(cleanup) {
  const relay = await connect(cleanup);
  await follow(relay, { kinds: [1059] }).closed;
  return relay;
}

/// A connection that has proven `who`.
export async function connectAs(who, cleanup) {
  const relay = await challenged(cleanup);
  assert.equal(await relay.auth(who.sign), '');
  return relay;
}

export function pool(cleanup) {
  const made = new SimplePool();
  cleanup(() => made.destroy());
  return made;
}

/// A promise and the functions that settle it.
export function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/// A subscription: its events in the order they come, and promises for EOSE and for the end.
export function follow(relay, ...filters) {
  const events = [];
  let wake = () => {};
  let ended = false;
  const eose = deferred();
  const closed = deferred();
  const subscription = relay.subscribe(filters, {
    onevent: (event) => (events.push(event), wake()),
    oninvalidevent: (event) => eose.reject(new Error(`the library refuses ${JSON.stringify(event)}`)),
    oneose: () => eose.resolve(events.slice()),
    onclose: (reason) => {
      ended = true;
      eose.reject(new Error(`closed: ${reason}`));
      closed.resolve(reason);
      wake();
    },
    eoseTimeout: PATIENCE_MS,
  });
  // A closed subscription that nobody waits for is no error by itself.
  eose.promise.catch(() => {});
  /// The events once one with this id has come.
  const until = async (id) => {
    while (!events.some((event) => event.id === id)) {
      if (ended) throw new Error('the subscription ended');
      await new Promise((resolve) => (wake = resolve));
    }
    return events.slice();
  };
  return { events, eose: eose.promise, closed: closed.promise, until, close: () => subscription.close() };
}

/// The stored events that match.
export async function query(relay, ...filters) {
  const following = follow(relay, ...filters);
  const events = await following.eose;
  following.close();
  return events;
}

/// Why a publication is refused.
export async function refusal(publication) {
  const reason = await publication.then(() => null, (error) => error.message);
  assert.notEqual(reason, null, 'the event was accepted');
  return reason;
}

export const ids = (events) => events.map((event) => event.id);

/// As sets: the library's own order and repeats do not count.
export const sorted = (events) => ids(events).sort();

/// The wire as it is, for what the library does not show: frames in, parsed frames out.
export async function raw(cleanup) {
  const socket = new WebSocket(url);
  const frames = [];
  let wake = () => {};
  socket.on('message', (data) => (frames.push(JSON.parse(data)), wake()));
  cleanup(() => socket.terminate());
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  const next = async () => {
    while (frames.length === 0) await new Promise((resolve) => (wake = resolve));
    return frames.shift();
  };
  const send = (...message) => socket.send(JSON.stringify(message));
  return { send, next };
}
