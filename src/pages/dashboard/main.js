// Sessions, tabs, and the connection to the relay: what is shown is marked as stale as soon as the relay is silent.

import { clock, el } from './dom.js';
import { overview } from './overview.js';
import { audit, configuration, lookup, moderation } from './acts.js';

const path = document.documentElement.dataset.path;
const byId = (id) => document.getElementById(id);
const main = byId('main');

const TABS = [
  ['overview', 'Overview', overview],
  ['moderation', 'Moderation', moderation],
  ['lookup', 'Look up', lookup],
  ['audit', 'Audit', audit],
  ['configuration', 'Configuration', configuration],
];

/// How often the relay is asked how it is, in milliseconds, where nothing else is asked.
const PULSE_MS = 4000;

class LoggedOut extends Error {}

let lastAnswer = new Date();
let isStopping = false;
let tab = null;
let timer = null;

function state(kind, text) {
  const shown = byId('state');
  if (shown.textContent === text) return;
  shown.className = kind;
  shown.textContent = text;
}

async function request(name, options = {}) {
  let response;
  try {
    response = await fetch(path + name, { credentials: 'same-origin', signal: AbortSignal.timeout(15000), ...options });
  } catch {
    throw new Error('The relay does not answer.');
  }
  const told = await response.json().catch(() => ({ error: `The relay answered ${response.status}.` }));
  if (response.status === 401) throw new LoggedOut(told.error);
  if (told.error) throw new Error(told.error);
  return told;
}

/// Calls a method of the management API.
async function call(method, params) {
  try {
    const told = await request('/call', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ method, params }),
    });
    lastAnswer = new Date();
    isStopping = told.stopping === true;
    if (isStopping) state('warn', 'The relay is stopping.');
    return told.result;
  } catch (error) {
    if (error instanceof LoggedOut) {
      clearTimeout(timer);
      await logIn('The session has ended. Log in again.');
    }
    throw error;
  }
}

function judge(figures) {
  if (isStopping) return;
  if (figures.trouble) state('bad', `Trouble: ${figures.trouble}`);
  else if (!figures.writable) state('bad', 'The storage is full: reads go on, events are refused.');
  else state('good', `weir ${figures.version}, up since ${new Date(figures.started * 1000).toLocaleString('en-GB')}`);
}

/// Refreshes the tab in front, and again later if it is one that moves. Of every tab, the relay is asked how it is.
async function refresh(isOpening = true) {
  clearTimeout(timer);
  const shown = tab;
  let isMissing = isOpening;
  try {
    if (!document.hidden) {
      const figures = isOpening || shown.every ? await shown.refresh() : undefined;
      isMissing = false;
      judge(figures ?? await call('figures', ['recent', Number.MAX_SAFE_INTEGER]));
    }
  } catch (error) {
    if (error instanceof LoggedOut) return;
    const since = clock(lastAnswer.getTime() / 1000);
    state('bad', `${error.message} What is shown is from ${since}; trying again.`);
  }
  if (shown === tab) timer = setTimeout(() => refresh(isMissing), shown.every ?? PULSE_MS);
}

function open(name) {
  const [chosen, title, make] = TABS.find(([known]) => known === name) ?? TABS[0];
  const tabs = byId('tabs');
  // The link that was pressed stays, and with it the place of the keyboard.
  if (!tabs.children.length) tabs.append(...TABS.map(([known, title]) => el('a', { href: `#${known}` }, title)));
  for (const link of tabs.children) {
    if (link.hash === `#${chosen}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  tab = make(call);
  main.replaceChildren(...tab.parts);
  main.setAttribute('aria-label', title);
  refresh();
}

async function logIn(why) {
  const session = await request('/session');
  byId('tabs').replaceChildren();
  byId('who').replaceChildren();
  state('good', '');
  const said = el('p', { class: why ? 'said warn' : 'said', role: 'status' }, why ?? '');
  const sign = async () => {
    said.className = 'said';
    said.textContent = 'Waiting for your signer …';
    try {
      if (!window.nostr) throw new Error('This browser has no signer (NIP-07).');
      const { challenge } = await request('/session');
      const event = await window.nostr.signEvent({
        kind: 27235,
        created_at: Math.floor(Date.now() / 1000),
        tags: [['u', `${location.origin}${path}/login`], ['method', 'POST'], ['challenge', challenge]],
        content: '',
      });
      const text = btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(event))));
      await request('/login', { method: 'POST', headers: { Authorization: `Nostr ${text}` } });
      await begin();
    } catch (error) {
      said.className = 'said bad';
      said.textContent = error.message;
    }
  };
  const button = el('button', { type: 'button', onclick: sign }, 'Log in with your signer');
  // A signer may come later than the page.
  const hint = el('p', { class: 'soft' },
    session.admins
      ? 'Your key must be one of management.admins. Without a signer (NIP-07) in this browser, run `weir dashboard` on the relay’s machine and open the link that it prints.'
      : 'No key is an admin (management.admins). Run `weir dashboard` on the relay’s machine and open the link that it prints.');
  main.replaceChildren(el('section', { class: 'login', 'aria-labelledby': 'login' }, el('h2', { id: 'login' }, 'Log in'),
    el('p', {}, button), hint, said));
}

async function begin() {
  const link = location.hash.match(/^#([0-9a-f]{64})$/)?.[1];
  let why;
  if (link) {
    history.replaceState(null, '', location.pathname);
    try {
      await request('/login', { method: 'POST', body: link });
    } catch (error) {
      why = error.message;
    }
  }
  const session = await request('/session');
  if (!session.who) return logIn(why);
  byId('who').replaceChildren(el('span', {}, `Logged in as ${session.who.length > 24 ? `${session.who.slice(0, 12)}…${session.who.slice(-6)}` : session.who}`),
    el('button', { type: 'button', class: 'plain small', onclick: async () => {
      await request('/logout', { method: 'POST' }).catch(() => {});
      clearTimeout(timer);
      logIn();
    } }, 'Log out'));
  open(location.hash.slice(1));
}

window.addEventListener('hashchange', () => {
  if (/^#[0-9a-f]{64}$/.test(location.hash)) begin().catch(failed);
  else if (tab && byId('tabs').children.length) open(location.hash.slice(1));
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && tab && byId('tabs').children.length) refresh();
});

function failed(error) {
  state('bad', `${error.message} Trying again.`);
  setTimeout(() => begin().catch(failed), 3000);
}

begin().catch(failed);
