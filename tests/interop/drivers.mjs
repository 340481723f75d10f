// Libraries that we did not write, behind one interface: what the suite in libraries.mjs needs of each.
//
//   open(url, { who }) → { publish(event), query(filter), follow(filter, onEvent), close() }
//
// `publish` ends with the relay's OK, `query` with all that is stored, and `follow` with EOSE, after which it goes on.
// Signatures are not checked here: it is the relay that is looked at, and thousands of them take these libraries seconds.

import WebSocket from 'ws';
import NDK, { NDKEvent, NDKPrivateKeySigner, NDKRelayAuthPolicies } from '@nostr-dev-kit/ndk';
import { NRelay1 } from '@nostrify/nostrify';
import { Pool, PublishStatus, Socket, defaultSocketPolicies, makeSocketPolicyAuth, publish, requestOne } from '@welshman/net';
import { NostrFetcher } from 'nostr-fetch';
import { SimplePool } from 'nostr-tools/pool';
import { createRxBackwardReq, createRxForwardReq, createRxNostr, noopSigner, noopVerifier } from 'rx-nostr';

// Node 20 has none of its own.
globalThis.WebSocket ??= WebSocket;

const hex = (bytes) => Buffer.from(bytes).toString('hex');

async function nostrTools(url, { who } = {}) {
  const pool = new SimplePool({ enableReconnect: true });
  pool.verifyEvent = () => true;
  const onauth = who?.sign;
  const collect = (filter, handlers) => new Promise((resolve, reject) => {
    const events = [];
    const subscription = pool.subscribeMany([url], filter, {
      onauth,
      maxWait: 60_000,
      onevent: (event) => (events.push(event), handlers.onEvent?.(event)),
      oneose: () => (handlers.isQuery && subscription.close(), resolve(events)),
      onclose: (reasons) => reject(new Error(`closed: ${reasons}`)),
    });
  });
  return {
    publish: (event) => pool.publish([url], event, { onauth })[0],
    query: (filter) => collect(filter, { isQuery: true }),
    follow: (filter, onEvent) => collect(filter, { onEvent }),
    close: () => pool.destroy(),
  };
}

async function ndk(url, { who } = {}) {
  const signer = who && new NDKPrivateKeySigner(hex(who.secret));
  const made = new NDK({
    explicitRelayUrls: [url], signer, enableOutboxModel: false, signatureVerificationFunction: async () => true,
  });
  if (signer) made.relayAuthDefaultPolicy = NDKRelayAuthPolicies.signIn({ signer, ndk: made });
  await made.connect(10_000);
  return {
    publish: (event) => new NDKEvent(made, event).publish(undefined, 30_000, 1),
    query: async (filter) => [...await made.fetchEvents(filter, { closeOnEose: true, groupable: false })].map((event) => event.rawEvent()),
    follow: (filter, onEvent) => {
      const subscribe = () => new Promise((resolve) => {
        made.subscribe(filter, { closeOnEose: false, groupable: false }, { onEvent, onEose: resolve });
      });
      // It connects again by itself, and leaves it to the application to subscribe again.
      made.pool.on('relay:connect', subscribe);
      return subscribe();
    },
    close: () => made.pool.relays.forEach((relay) => relay.disconnect()),
  };
}

async function nostrify(url, { who } = {}) {
  const auth = who && ((challenge) => who.sign({
    kind: 22242, content: '', created_at: Math.floor(Date.now() / 1000), tags: [['relay', url], ['challenge', challenge]],
  }));
  const relay = new NRelay1(url, { auth, verifyEvent: () => true });
  return {
    publish: (event) => relay.event(event),
    query: (filter) => relay.query([filter]),
    follow: (filter, onEvent) => new Promise((resolve, reject) => {
      const run = async () => {
        for await (const [verb, , event] of relay.req([filter])) {
          if (verb === 'EOSE') resolve();
          else if (verb === 'EVENT') onEvent(event);
        }
      };
      run().catch(reject);
    }),
    close: () => relay.close(),
  };
}

async function welshman(url, { who } = {}) {
  // It handles 20 messages in a tenth of a second by default: 25 s for 5,000 events, whatever the relay does.
  Socket.batchSize = 1000;
  const policies = who ? [...defaultSocketPolicies, makeSocketPolicyAuth({ sign: who.sign })] : defaultSocketPolicies;
  const context = { pool: new Pool({ makeSocket: (address) => new Socket(address, policies) }) };
  const options = { relay: url, context, isEventValid: () => true, isEventDeleted: () => false };
  return {
    publish: async (event) => {
      const { status, detail } = await publish({ relays: [url], event, context }).then((results) => Object.values(results)[0]);
      if (status !== PublishStatus.Success) throw new Error(`${status}: ${detail}`);
    },
    query: (filter) => requestOne({ ...options, filters: [filter], autoClose: true, signal: AbortSignal.timeout(60_000) }),
    follow: (filter, onEvent) => new Promise((resolve) => {
      requestOne({ ...options, filters: [filter], onEvent, onEose: resolve });
    }),
    close: () => context.pool.clear(),
  };
}

async function rxNostr(url, { who } = {}) {
  const signEvent = (template) => who.sign({ created_at: Math.floor(Date.now() / 1000), ...template });
  const signer = who && { getPublicKey: async () => who.key, signEvent };
  const made = createRxNostr({
    signer: noopSigner(), verifier: noopVerifier, skipVerify: true, websocketCtor: WebSocket, authenticator: signer && { signer },
    eoseTimeout: 60_000, connectionStrategy: 'lazy-keep',
  });
  made.setDefaultRelays([url]);
  const each = (request, filter, onEvent, isQuery) => new Promise((resolve, reject) => {
    made.use(request).subscribe({ next: ({ event }) => onEvent(event), complete: resolve, error: reject });
    request.emit(filter);
    if (isQuery) request.over();
  });
  return {
    publish: (event) => new Promise((resolve, reject) => {
      made.send(event).subscribe({ next: ({ ok, notice }) => (ok ? resolve() : reject(new Error(notice))), error: reject });
    }),
    query: async (filter) => {
      const events = [];
      await each(createRxBackwardReq(), filter, (event) => events.push(event), true);
      return events;
    },
    follow: (filter, onEvent) => new Promise((resolve, reject) => {
      made.createAllMessageObservable().subscribe(({ message }) => message[0] === 'EOSE' && resolve());
      each(createRxForwardReq(), filter, onEvent).catch(reject);
    }),
    close: () => made.dispose(),
  };
}

/// Reads only: it takes pages of what is stored until there is no more.
async function nostrFetch(url) {
  const fetcher = NostrFetcher.init({ webSocketConstructor: WebSocket });
  return {
    query: ({ since, until, limit, ...filter }) =>
      fetcher.fetchAllEvents([url], filter, { since, until }, { skipVerification: true, limitPerReq: 500 }),
    pages: true,
    close: () => fetcher.shutdown(),
  };
}

export const drivers = {
  'nostr-tools': nostrTools,
  '@nostr-dev-kit/ndk': ndk,
  '@nostrify/nostrify': nostrify,
  '@welshman/net': welshman,
  'rx-nostr': rxNostr,
  'nostr-fetch': nostrFetch,
};
