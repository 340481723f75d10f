'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add('js');

  byId('copy')?.addEventListener('click', async () => {
    const address = byId('address');
    let copied = false;
    try {
      await navigator.clipboard.writeText(address.textContent);
      copied = true;
    } catch {
      // Without TLS there is no clipboard; the selection can be copied by hand.
      getSelection().selectAllChildren(address);
      copied = document.execCommand('copy');
    }
    byId('copied').textContent = copied ? 'Copied.' : 'Selected: copy it with your keyboard.';
    setTimeout(() => { byId('copied').textContent = ''; }, 4000);
  });

  // The page is its own source of fresh figures; it is the same bytes while nothing has changed.
  if (!byId('stale')) return;
  let fresh = new Date();
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: 'text/html' } });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      byId('stats').replaceWith(document.adoptNode(page.getElementById('stats')));
      fresh = new Date();
    } catch {
      byId('stale').textContent = `No answer since ${fresh.toLocaleTimeString()}.`;
    }
  };
  setInterval(refresh, 10000);
  document.addEventListener('visibilitychange', refresh);
})();
