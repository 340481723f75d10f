// The dashboard in a browser, as an admin uses it.

import assert from 'node:assert/strict';
import { admin, connect, enter, openPage, person, SCHEMES, shoot, startRelay, test, until, WIDTHS } from './stage.mjs';

const CONFIG = `
[dashboard]
on_relay_address = true
[management]
admins = ["${admin.key}"]
[info]
name = "By the sea"
`;

const HOSTILE = ['<script>window.hacked = 1</script>', '"><img src=x onerror="window.hacked = 1">', '{{name}}', '\u202ertl'];

async function relayWith(cleanup) {
  const relay = await startRelay(CONFIG);
  cleanup(relay.end);
  return relay;
}

const said = (page, form, text) =>
  until(`“${text}” is said`, async () => (await page.textContent(`section:has(form[aria-label="${form}"]) .said`)).includes(text));

test('an admin bans a key, sees its client refused, and undoes it', async (browser, cleanup) => {
  const [relay, bob] = [await relayWith(cleanup), person()];
  const client = await connect(relay.address);
  cleanup(client.close);
  const { page, check, tab } = await enter(browser, cleanup, relay);
  await tab('moderation');
  await page.waitForSelector('text=The list is empty.');
  await page.fill('input[name=subject]', bob.key);
  await page.fill('input[name=reason]', HOSTILE[0]);
  await page.click('button[value=ban]');
  await said(page, 'Ban or allow', 'Banned');
  assert.deepEqual((await client.publish(bob.note('no'))).slice(2), [false, 'blocked: the author is not welcome here']);
  await page.waitForSelector(`main >> text=${HOSTILE[0]}`);
  await check(relay.address);
  await tab('audit');
  await page.click('button[aria-label="Undo act 1"]');
  await page.waitForSelector('text=Act 1 was undone.');
  assert.equal((await client.publish(bob.note('yes')))[2], true);
  assert.equal(await page.evaluate(() => window.hacked), undefined, 'a reason is no script');
  await check(relay.address);
});

test('a purge shows the count first and its end, and a key is looked up', async (browser, cleanup) => {
  const [relay, bob] = [await relayWith(cleanup), person()];
  const client = await connect(relay.address);
  cleanup(client.close);
  await client.publish(bob.event(0, JSON.stringify({ name: HOSTILE[1], about: HOSTILE[0], nip05: HOSTILE[3] })));
  for (const content of HOSTILE) await client.publish(bob.note(content));
  const { page, check, tab } = await enter(browser, cleanup, relay);
  await tab('lookup');
  await page.fill('input[name=lookup]', bob.key);
  await page.click('form[aria-label="Look up"] button');
  await page.waitForSelector('[data-found=key]');
  const found = await page.textContent('[data-found=key]');
  for (const text of [HOSTILE[0], HOSTILE[1], bob.key, 'npub1', '5, ']) assert.ok(found.includes(text), text);
  await page.fill('textarea[name=filter]', JSON.stringify({ authors: [bob.key], kinds: [1] }));
  await page.click('form[aria-label="Explain a filter"] button');
  await page.waitForSelector('text=author index');
  await shoot(page, 'dashboard-lookup');
  await check(relay.address);
  await tab('moderation');
  await page.fill('input[name=purge]', bob.key);
  assert.equal(await page.isVisible('button[value=purge]'), false, 'nothing is removed before it is counted');
  await page.click('button[value=count]');
  await said(page, 'Purge', '5 events are stored');
  await page.click('text=Remove 5 events');
  await page.waitForSelector('text=Removed 5 of 5 events');
  await shoot(page, 'dashboard-moderation');
  await check(relay.address);
  client.send('REQ', 'left', { authors: [bob.key] });
  await until('nothing is left', () => client.frames.some((frame) => frame[0] === 'EOSE'));
  assert.equal(client.frames.filter((frame) => frame[0] === 'EVENT').length, 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined, 'content is no script');
});

test('plots move during a storm, and are whole at every width in both schemes', async (browser, cleanup) => {
  const [relay, bob] = [await relayWith(cleanup), person()];
  const client = await connect(relay.address);
  cleanup(client.close);
  client.send('REQ', 'live', { kinds: [1] });
  let isOver = false;
  const storm = (async () => {
    for (let number = 0; !isOver; number += 1) {
      await client.publish(bob.note(`storm ${number}`));
      client.send('REQ', `q${number % 4}`, { kinds: [1], limit: 20 });
    }
  })();
  const first = await enter(browser, cleanup, relay);
  const line = () => first.page.getAttribute('section[data-plot=events_in] path.line', 'd');
  await until('a line is drawn', async () => ((await line()) ?? '').includes('L'));
  const before = await line();
  await until('the line moves', async () => (await line()) !== before);
  const rate = await first.page.textContent('section[data-plot=events_in] .legend b');
  assert.ok(Number(rate.replace(/,/g, '')) > 1, `${rate} events a second`);
  await first.check(relay.address);
  for (const width of WIDTHS) {
    for (const colorScheme of SCHEMES) {
      await first.page.setViewportSize({ width, height: 900 });
      await first.page.emulateMedia({ colorScheme });
      await until('the relay is up', async () => (await first.page.textContent('#state')).startsWith('weir '));
      await until('the storage is measured', async () => !(await first.page.textContent('main')).includes('Measuring'));
      const wide = await first.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wide, 0, `nothing sticks out at ${width}`);
      await shoot(first.page, `dashboard-${width}-${colorScheme}`);
    }
  }
  isOver = true;
  await storm;
});

test('a relay that goes away is told as stale since when, and found again with a new login', async (browser, cleanup) => {
  const relay = await startRelay(CONFIG);
  const mayFail = (message) => /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|401/.test(message.text());
  const { page, check } = await enter(browser, cleanup, relay, { mayFail });
  await until('it is up', async () => (await page.textContent('#state')).startsWith('weir '));
  await relay.end();
  await until('it is stale', async () => /does not answer. What is shown is from \d\d:\d\d:\d\d/.test(await page.textContent('#state')));
  await shoot(page, 'dashboard-stale');
  await relay.again();
  cleanup(relay.end);
  await page.waitForSelector('text=The session has ended. Log in again.');
  await check(relay.address);
  await page.click('text=Log in with your signer');
  await page.waitForSelector('nav a');
});

test('a link logs in once, a stranger and a browser without a signer are told what to do', async (browser, cleanup) => {
  const relay = await relayWith(cleanup);
  const link = relay.link();
  const mayFail = (message) => message.text().includes('401');
  const first = await openPage(browser, { mayFail });
  cleanup(first.close);
  await first.page.goto(link);
  await first.page.waitForSelector('nav a');
  assert.ok(!first.page.url().includes(link.split('#')[1]), 'the link does not stay in the history');
  await first.page.click('nav a[href="#configuration"]');
  await first.page.waitForSelector('text=management.admins');
  await first.page.click('text=Reload the configuration');
  await first.page.waitForSelector('text=The configuration was read again.');
  await shoot(first.page, 'dashboard-configuration');
  await first.check(relay.address);
  const second = await openPage(browser, { mayFail, signer: person() });
  cleanup(second.close);
  await second.page.goto(link);
  await second.page.waitForSelector('text=this link was used before');
  await second.page.click('text=Log in with your signer');
  await second.page.waitForSelector('text=this key is not an admin of this relay');
  await shoot(second.page, 'dashboard-login');
  await second.check(relay.address);
  const third = await openPage(browser, { mayFail });
  cleanup(third.close);
  await third.page.goto(`http://${relay.address}/dashboard`);
  await third.page.click('text=Log in with your signer');
  await third.page.waitForSelector('text=This browser has no signer (NIP-07).');
  await third.check(relay.address);
});
