// What the tests share: relays, pages that must not complain, a signer that signs, and screenshots.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import axe from 'axe-core';
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export const WIDTHS = [360, 768, 1440];
export const SCHEMES = ['light', 'dark'];

/// How long anything may take, in milliseconds.
export const PATIENCE_MS = 30_000;

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; start this with tests/browser/run`);
  return value;
}

const weir = required('WEIR');

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });

export function person() {
  const secret = generateSecretKey();
  const key = getPublicKey(secret);
  const event = (kind, content, tags = []) =>
    finalizeEvent({ kind, content, tags, created_at: Math.floor(Date.now() / 1000) }, secret);
  return { key, sign: (template) => finalizeEvent(template, secret), event, note: (content) => event(1, content) };
}

let number = 0;

/// A relay with this configuration, started once `prepare` has put what it wants into the directory of its data. `link`
/// asks it for a link to its dashboard, at its last address.
export async function startRelay(config, prepare = () => {}) {
  const directory = join(required('DIRECTORY'), `relay-${number += 1}`);
  mkdirSync(directory, { recursive: true });
  const [file, data] = [join(directory, 'weir.toml'), join(directory, 'data')];
  writeFileSync(file, config);
  prepare(data);
  const start = async (address) => {
    const child = spawn(weir, ['serve', '--config', file, '--data', data, '--listen', address],
      { stdio: ['ignore', 'ignore', 'pipe'] });
    const found = await new Promise((resolve, reject) => {
      const log = [];
      let monitor;
      createInterface({ input: child.stderr }).on('line', (line) => {
        log.push(line);
        monitor ??= line.match(/metrics on http:\/\/([0-9.:]+)/)?.[1];
        const match = line.match(/listening on ([0-9.:]+)/);
        if (match) resolve({ address: match[1], monitor });
      });
      child.once('exit', () => reject(new Error(log.join('\n'))));
    });
    return { child, ...found };
  };
  const relay = await start('127.0.0.1:0');
  const end = () => new Promise((resolve) => (relay.child.once('exit', resolve), relay.child.kill()));
  return {
    get address() { return relay.address; },
    get monitor() { return relay.monitor; },
    end,
    again: async () => { relay.child = (await start(relay.address)).child; },
    link: () => execFileSync(weir, ['dashboard', '--config', file, '--data', data]).toString().trim().split('\n').at(-1),
  };
}

/// A connection of a client: `publish` resolves with the OK.
export async function connect(address) {
  const socket = new WebSocket(`ws://${address}`);
  const waiting = new Map();
  const frames = [];
  socket.on('message', (data) => {
    const frame = JSON.parse(data);
    frames.push(frame);
    if (frame[0] === 'OK') waiting.get(frame[1])?.(frame);
  });
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  const publish = (event) => new Promise((resolve) => {
    waiting.set(event.id, resolve);
    socket.send(JSON.stringify(['EVENT', event]));
  });
  return { publish, frames, send: (...message) => socket.send(JSON.stringify(message)), close: () => socket.terminate() };
}

/// A page on which every error, every request to another host and every shift of the layout counts.
export async function openPage(browser, options = {}) {
  const { width = 1440, colorScheme = 'light', signer, mayFail = () => false, ...rest } = options;
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, ...rest });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !mayFail(message)) {
      complaints.push(`${message.type()}: ${message.text()} ${message.location().url}`);
    }
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  const hosts = new Set();
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  await page.addInitScript(() => {
    window.shift = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
    }).observe({ type: 'layout-shift', buffered: true });
  });
  if (signer) {
    await page.exposeFunction('signAsAdmin', (template) => signer.sign(template));
    await page.addInitScript((key) => {
      window.nostr = { getPublicKey: async () => key, signEvent: (template) => window.signAsAdmin(template) };
    }, signer.key);
  }
  const check = async (host, allowed = []) => {
    assert.deepEqual(complaints, [], 'nothing complains');
    assert.deepEqual([...hosts].filter((other) => other !== host && other !== '' && !allowed.includes(other)), [],
      'no other host is asked');
    const shift = await page.evaluate(() => window.shift);
    assert.ok(shift < 0.01, `the layout shifts by ${shift}`);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], 'axe finds nothing');
  };
  return { page, check, close: () => context.close() };
}

/// The admin of relays that have one.
export const admin = person();

/// A page of the dashboard on which the admin has logged in; `tab` turns to one of its parts.
export async function enter(browser, cleanup, relay, options = {}) {
  const opened = await openPage(browser, { signer: admin, ...options });
  cleanup(opened.close);
  const { page } = opened;
  await page.goto(`http://${relay.address}/dashboard`);
  await page.click('text=Log in with your signer');
  await page.waitForSelector('nav a');
  return { ...opened, tab: (name) => page.click(`nav a[href="#${name}"]`) };
}

export const shoot = (page, name) => page.screenshot({ path: `artefacts/${name}.png`, fullPage: true });

/// Waits until `holds` is true of the page.
export async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/// A server of pictures that answers 404, for a banner that does not load.
export async function brokenPictures() {
  const server = createServer((_, response) => response.writeHead(404).end());
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { host: `127.0.0.1:${server.address().port}`, close: () => server.close() };
}

const tests = [];

/// A test: a sentence and the function that proves it. It is given the browser and `cleanup`.
export const test = (sentence, body) => tests.push({ sentence, body });

export async function runAll() {
  const browser = await launch();
  let failed = 0;
  for (const { sentence, body } of tests) {
    const cleanups = [];
    const started = performance.now();
    try {
      await body(browser, (cleanup) => cleanups.push(cleanup));
      console.log(`ok      ${sentence} (${Math.round(performance.now() - started)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${sentence}\n${error?.stack ?? error}`);
    }
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
  await browser.close();
  return { passed: tests.length - failed, failed };
}
