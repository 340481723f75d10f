// The landing page in a browser: every width and colour scheme, hostile texts, without JavaScript, and live figures.

import assert from 'node:assert/strict';
import { brokenPictures, connect, openPage, person, SCHEMES, shoot, startRelay, test, until, WIDTHS } from './stage.mjs';

const INFO = (pictures) => `
[info]
name = "مرحل البحر"
description = "A relay by the sea, for everybody who likes it slow.\\n<script>window.hacked = 1</script>"
banner = "http://${pictures}/banner.png"
icon = "http://${pictures}/icon.png"
pubkey = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6"
contact = "mailto:admin@example.com"
terms_of_service = "https://example.com/terms"
payments_url = "https://example.com/pay"
public_stats = true
[info.fees]
admission = [{ amount = 21000, unit = "msats" }]
`;

test('the landing page is whole at every width in both schemes, with a banner that does not load', async (browser, cleanup) => {
  const pictures = await brokenPictures();
  cleanup(pictures.close);
  const relay = await startRelay(INFO(pictures.host));
  cleanup(relay.end);
  for (const width of WIDTHS) {
    for (const colorScheme of SCHEMES) {
      const mayFail = (message) => message.location().url.includes(pictures.host);
      const { page, check, close } = await openPage(browser, { width, colorScheme, mayFail });
      await page.goto(`http://${relay.address}/`);
      await page.waitForLoadState('networkidle');
      assert.equal(await page.textContent('h1'), 'مرحل البحر');
      assert.equal(await page.evaluate(() => window.hacked), undefined, 'a description is no script');
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wide, 0, `nothing sticks out at ${width}`);
      await shoot(page, `landing-page-${width}-${colorScheme}`);
      await check(relay.address, [pictures.host]);
      await close();
    }
  }
});

test('the address is copied, figures are live, and without JavaScript everything is there', async (browser, cleanup) => {
  const relay = await startRelay('[info]\npublic_stats = true\n');
  const mayFail = (message) => /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(message.text());
  const { page, check, close } = await openPage(browser, { permissions: ['clipboard-read', 'clipboard-write'], mayFail });
  await page.goto(`http://${relay.address}/`);
  await page.click('#copy');
  await until('the address is copied', async () => (await page.textContent('#copied')) === 'Copied.');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `ws://${relay.address}/`);
  const client = await connect(relay.address);
  cleanup(client.close);
  await client.publish(person().note('counted'));
  await until('the event is counted', async () => (await page.textContent('#stats')).includes('Events held1'));
  await check(relay.address);

  const look = () => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await relay.end();
  await look();
  await until('it is stale', async () => /^No answer since \d/.test(await page.textContent('#stale')));
  await shoot(page, 'landing-page-stale');
  await relay.again();
  cleanup(relay.end);
  await look();
  await until('it is fresh again', async () => (await page.textContent('#stale')) === '');
  await close();

  const plain = await openPage(browser, { javaScriptEnabled: false });
  await plain.page.goto(`http://${relay.address}/`);
  assert.equal(await plain.page.textContent('#address'), `ws://${relay.address}/`);
  assert.ok((await plain.page.textContent('#stats')).includes('Events held1'));
  assert.equal(await plain.page.isVisible('#copy'), false, 'what cannot work is not shown');
  await plain.close();
});

test('an operator’s own page keeps the policy', async (browser, cleanup) => {
  const { writeFileSync } = await import('node:fs');
  const file = `${process.env.DIRECTORY}/own.html`;
  writeFileSync(file, `<!doctype html><html lang="en"><meta charset="utf-8"><title>{{name}}</title>
<style>body { color: rgb(1, 2, 3); background: #fff }</style><body><main><h1>{{name}}</h1>
<p id="own" onclick="window.hacked = 1">{{description}}</p>{{connect}}</main>{{script}}</body></html>`);
  const relay = await startRelay(`[info]\nname = "</title><img src=x onerror=window.hacked=1>"\ntemplate_file = "${file}"\n`);
  cleanup(relay.end);
  const mayFail = (message) => message.text().includes('inline event handler');
  const { page, check, close } = await openPage(browser, { mayFail });
  await page.goto(`http://${relay.address}/`);
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).color), 'rgb(1, 2, 3)', 'its style applies');
  await page.click('#own');
  assert.equal(await page.evaluate(() => window.hacked), undefined, 'no handler runs');
  assert.equal(await page.title(), '</title><img src=x onerror=window.hacked=1>');
  await check(relay.address);
  await close();
});
