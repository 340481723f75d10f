// What the dashboard shows in every state of the relay: empty, full, stopping, and with a million decisions.

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { admin, connect, enter, openPage, person, SCHEMES, shoot, startRelay, test, until } from './stage.mjs';

const config = (name = 'By the sea') => `
[info]
name = "${name}"
[management]
admins = ["${admin.key}"]
[dashboard]
on_relay_address = true
`;

const state = (page, text) => until(`“${text}” is told`, async () => (await page.textContent('#state')).includes(text));

test('an empty store says so in every part, and a name in Arabic keeps its direction', async (browser, cleanup) => {
  const relay = await startRelay(config('مرحل البحر'));
  cleanup(relay.end);
  const { page, check, tab } = await enter(browser, cleanup, relay);
  const direction = (selector) => page.evaluate((one) => getComputedStyle(document.querySelector(one)).direction, selector);
  assert.deepEqual([await page.textContent('h1 span'), await direction('h1 span'), await direction('h1')],
    ['مرحل البحر', 'rtl', 'ltr']);
  for (const text of ['The store is empty.', 'Nothing was refused.', 'There are no streams, and there is no cluster.', 'No query was slow.']) {
    await page.waitForSelector(`text=${text}`);
  }
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    await shoot(page, `dashboard-empty-${colorScheme}`);
    await check(relay.address);
  }
  await tab('moderation');
  await page.waitForSelector('text=The list is empty.');
  await check(relay.address);
  await tab('audit');
  await page.waitForSelector('text=Nobody has done anything yet.');
  await check(relay.address);
  await tab('lookup');
  await page.fill('input[name=lookup]', person().key);
  await page.click('form[aria-label="Look up"] button');
  await page.waitForSelector('[data-found=key] >> text=None is open.');
  await check(relay.address);
});

test('a full store is told on both pages, whatever part is shown', async (browser, cleanup) => {
  const relay = await startRelay(`${config()}[storage]\nmax_bytes = 1048576\n`);
  cleanup(relay.end);
  const [client, bob] = [await connect(relay.address), person()];
  cleanup(client.close);
  const { page, check, tab } = await enter(browser, cleanup, relay);
  await state(page, 'up since');
  let answer;
  for (let number = 0; answer?.[2] !== false; number += 1) {
    assert.ok(number < 100, 'a megabyte holds no hundred notes of 60 KB');
    answer = await client.publish(bob.note(`${number}${'x'.repeat(60_000)}`));
  }
  assert.match(answer[3], /^error: storage full/);
  const full = 'The storage is full: reads go on, events are refused.';
  await state(page, full);
  await page.waitForSelector('[aria-label=Refusals] >> text=full');
  await page.waitForSelector('[aria-label="Storage by kind"]');
  await shoot(page, 'dashboard-full');
  await check(relay.address);
  await page.goto('about:blank');
  await page.goto(`http://${relay.address}/dashboard#configuration`);
  await state(page, full);
  await tab('audit');
  await page.waitForSelector('text=Nobody has done anything yet.');
  await check(relay.address);
  const landing = await openPage(browser);
  cleanup(landing.close);
  await landing.page.goto(`http://${relay.address}/`);
  await landing.page.waitForSelector('text=The storage is full');
  await shoot(landing.page, 'landing-page-full');
  await landing.check(relay.address);
});

test('a relay that stops says so until it is gone', async (browser, cleanup) => {
  // A client that is owed an answer holds it.
  const plugin = '[plugin]\ncommand = "sleep 60"\ntimeout_ms = 60000\n[server]\ndrain_timeout_s = 60\n';
  const address = '[metrics]\nlisten = "127.0.0.1:0"\n';
  const relay = await startRelay(`${config().replace('on_relay_address', 'on_metrics_address')}${plugin}${address}`);
  const client = await connect(relay.address);
  cleanup(client.close);
  const mayFail = (message) => message.text().includes('ERR_CONNECTION');
  const { page, check } = await openPage(browser, { mayFail });
  cleanup(() => page.context().close());
  await page.goto(relay.link());
  await state(page, 'up since');
  client.publish(person().note('owed'));
  // Until the plugin has it.
  await until('the event waits', async () => Number(await waiting(page)) > 0);
  const gone = relay.end();
  await state(page, 'The relay is stopping.');
  await shoot(page, 'dashboard-stopping');
  await check(relay.monitor);
  await page.click('nav a[href="#audit"]');
  await page.waitForSelector('text=Nobody has done anything yet.');
  assert.equal(await page.textContent('#state'), 'The relay is stopping.');
  client.close();
  await gone;
  await state(page, 'The relay does not answer. What is shown is from');
});

const waiting = (page) => page.evaluate(() => {
  const rows = [...document.querySelectorAll('[aria-label=Queues] tbody tr')];
  return rows.find((row) => row.textContent.startsWith('plugin'))?.children[1].textContent;
});

/// Writes decisions as the relay keeps them: `count` keys that are banned, the last one the latest.
function ban(data, count) {
  mkdirSync(`${data}/management`, { recursive: true, mode: 0o700 });
  writeFileSync(`${data}/management/audit.jsonl`, '', { mode: 0o600 });
  const file = openSync(`${data}/management/state.jsonl`, 'w', 0o600);
  writeSync(file, `${JSON.stringify({ format: 1, last: count, decisions: count })}\n`);
  for (let number = 1, lines = []; number <= count; number += 1) {
    // Any order will do.
    const key = (BigInt(number) * 0x9e3779b97f4a7c15n % (1n << 64n)).toString(16).padStart(64, '0');
    lines.push(`{"subject":"key:${key}","decision":{"verdict":"ban","text":"spam ${number}","number":${number},"at":1,"by":"uid:0"}}\n`);
    if (lines.length === 10_000 || number === count) writeSync(file, lines.splice(0).join(''));
  }
  closeSync(file);
}

test('a list of a million bans is shown page by page', async (browser, cleanup) => {
  const relay = await startRelay(config(), (data) => ban(data, 999_999));
  cleanup(relay.end);
  const { page, check, tab } = await enter(browser, cleanup, relay);
  await tab('moderation');
  const shows = (text) => page.waitForSelector(`.pages >> text=${text}`);
  const first = () => page.textContent('[aria-label="Banned keys"] tbody tr bdi');
  await shows('1 to 50 of 999,999');
  assert.equal(await first(), 'spam 999999');
  await page.click('text=Older');
  await shows('51 to 100 of 999,999');
  assert.equal(await first(), 'spam 999949');
  await page.click('text=Oldest');
  await shows('999,951 to 999,999 of 999,999');
  assert.deepEqual([await first(), await page.isDisabled('text=Older')], ['spam 49', true]);
  assert.equal(await page.evaluate(() => document.activeElement.contains(document.querySelector('.pages'))), true,
    'the keyboard goes on from the list');
  await shoot(page, 'dashboard-million');
  await check(relay.address);
  await page.click('text=Newer');
  await shows('999,901 to 999,950 of 999,999');
  await page.click('text=Newest');
  const bob = person();
  const decide = async (key, said) => {
    await page.fill('input[name=subject]', key);
    await page.click('button[value=ban]');
    await page.waitForSelector(`.said >> text=${said}`);
  };
  await decide(bob.key, `Banned ${bob.key}.`);
  await shows('1 to 50 of 1,000,000');
  await decide(person().key, 'there are already 1000000 decisions of this kind, the most that are kept');
  await page.click(`button[aria-label="Take back ${bob.key}"]`);
  await page.waitForSelector(`text=${bob.key} was taken back.`);
  await shows('1 to 50 of 999,999');
  await page.selectOption('select', 'listallowedpubkeys');
  await page.waitForSelector('text=The list is empty.');
  assert.equal(await page.isVisible('.pages'), false, 'there is nothing to turn to');
});

test('the dashboard is used with a keyboard alone', async (browser, cleanup) => {
  const relay = await startRelay(config());
  cleanup(relay.end);
  const { page, check } = await openPage(browser, { signer: admin });
  cleanup(() => page.context().close());
  await page.goto(`http://${relay.address}/dashboard`);
  await page.waitForSelector('text=Log in with your signer');
  const focused = () => page.evaluate(() => {
    const { textContent, name, value, ariaLabel } = document.activeElement;
    return name || ariaLabel || textContent || value;
  });
  const tabTo = async (name) => {
    for (let pressed = 0; (await focused()) !== name; pressed += 1) {
      assert.ok(pressed < 40, `no way to ${name}, but to ${await focused()}`);
      await page.keyboard.press('Tab');
    }
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, 'none', `${name} is seen to be chosen`);
  };
  await tabTo('Log in with your signer');
  await page.keyboard.press('Enter');
  await page.waitForSelector('nav a');
  await tabTo('Moderation');
  await page.keyboard.press('Enter');
  await page.waitForSelector('text=The list is empty.');
  assert.deepEqual([await focused(), await page.getAttribute('nav a[aria-current]', 'href')], ['Moderation', '#moderation']);
  await tabTo('subject');
  const bob = person();
  await page.keyboard.type(bob.key);
  await page.keyboard.press('Enter');
  await page.waitForSelector(`text=Banned ${bob.key}.`);
  await tabTo(`Take back ${bob.key}`);
  await page.keyboard.press('Enter');
  await page.waitForSelector(`text=${bob.key} was taken back.`);
  await check(relay.address);
});

test('without JavaScript the dashboard says what does the same', async (browser, cleanup) => {
  const relay = await startRelay(config());
  cleanup(relay.end);
  const { page } = await openPage(browser, { javaScriptEnabled: false });
  cleanup(() => page.context().close());
  await page.goto(`http://${relay.address}/dashboard`);
  assert.equal(await page.textContent('main'), 'The dashboard needs JavaScript. `weir top` and `weir manage` do not.');
});
