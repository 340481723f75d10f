// What an admin does and looks up: bans, purges, look-ups, the audit and the configuration.

import { bytes, count, el, facts, foreign, section, shortKey, table, time } from './dom.js';

const PAGE = 50;

/// A form whose submission runs `act` and says what became of it.
function form(label, fields, buttons, act) {
  const said = el('p', { class: 'said', role: 'status' });
  const node = el('form', {
    'aria-label': label,
    onsubmit: async (event) => {
      event.preventDefault();
      const button = event.submitter;
      if (button) button.disabled = true;
      said.className = 'said';
      said.textContent = 'Working …';
      try {
        said.textContent = await act(button?.value ?? '', said) ?? '';
        said.className = 'said good';
      } catch (error) {
        said.textContent = error.message;
        said.className = 'said bad';
      } finally {
        if (button) button.disabled = false;
      }
    },
  }, fields, buttons);
  return [node, said];
}

/// A labelled input, which takes the room of others, or is `short` or `wide`.
const field = (label, input, size = null) => el('label', { class: size }, label, input);

/// A list with pages, of which the relay is asked for one at a time. `load` tells how long the whole list is, if that is
/// known.
function paged(load) {
  let skip = 0;
  const body = el('div', { tabindex: '-1' });
  const said = el('p', { class: 'said', role: 'status' });
  const turn = (text, to, isOff) =>
    el('button', { type: 'button', class: 'plain small', disabled: isOff, onclick: () => tell(() => show(to)) }, text);
  async function show(to = skip) {
    const { node, length, total } = await load(to, PAGE);
    skip = to;
    const last = total === undefined ? null : Math.max(0, Math.ceil(total / PAGE) - 1) * PAGE;
    const isEnd = last === null ? length < PAGE : skip >= last;
    const had = body.contains(document.activeElement);
    body.replaceChildren(node, (length > 0 || skip > 0) && el('div', { class: 'pages' },
      turn('Newest', 0, skip === 0), turn('Newer', Math.max(0, skip - PAGE), skip === 0),
      el('span', { class: 'soft' }, (length ? `${count(skip + 1)} to ${count(skip + length)}` : 'none here')
        + (total === undefined ? '' : ` of ${count(total)}`)),
      turn('Older', skip + PAGE, isEnd), last !== null && turn('Oldest', last, isEnd)) || '');
    // What was pressed is gone; the keyboard goes on from here.
    if (had) body.focus();
  }
  /// Does something with the list and says what became of it.
  async function tell(act) {
    said.className = 'said';
    try {
      said.textContent = await act() ?? '';
      said.classList.add('good');
    } catch (error) {
      said.textContent = error.message;
      said.classList.add('bad');
    }
  }
  return { node: [said, body], show, tell };
}

const LISTS = [
  ['listbannedpubkeys', 'Banned keys', 'pubkey', 'unbanpubkey'],
  ['listallowedpubkeys', 'Allowed keys', 'pubkey', 'unallowpubkey'],
  ['listbannedevents', 'Banned events', 'id', 'unbanevent'],
  ['listblockedips', 'Blocked addresses', 'ip', 'unblockip'],
];

/// What an act about a subject is called.
function methods(text) {
  const subject = text.trim().replace(/^nostr:/, '');
  if (/^(note1|event:)/.test(subject)) return { ban: 'banevent', allow: 'allowevent', of: subject.replace(/^event:/, '') };
  if (/^kind:\d+$/.test(subject)) return { ban: 'disallowkind', allow: 'allowkind', of: Number(subject.slice(5)) };
  if (/^(npub1|key:)|^[0-9a-f]{64}$/.test(subject)) {
    return { ban: 'banpubkey', allow: 'allowpubkey', of: subject.replace(/^key:/, '') };
  }
  return { ban: 'blockip', allow: 'unblockip', of: subject.replace(/^address:/, '') };
}

export function moderation(call) {
  const subject = el('input', { name: 'subject', required: true, autocomplete: 'off', spellcheck: 'false',
    placeholder: 'npub1…, note1…, kind:1984 or 192.0.2.7' });
  const reason = el('input', { name: 'reason', maxlength: '500', autocomplete: 'off' });
  const decide = form('Ban or allow', [field('Key, event, kind or address', subject, 'wide'), field('Reason', reason)], [
    el('button', { value: 'ban', class: 'danger' }, 'Ban'),
    el('button', { value: 'allow', class: 'plain' }, 'Allow'),
  ], async (which) => {
    let { [which]: method, of } = methods(subject.value);
    if (typeof of === 'string' && of.startsWith('note1')) of = (await call('lookup', [of])).id;
    await call(method, [of, reason.value]);
    await list.show(0);
    return which === 'ban' ? `Banned ${subject.value}.` : `Allowed ${subject.value}.`;
  });

  const which = el('select', { onchange: () => list.tell(() => list.show(0)) }, LISTS.map(([method, title]) => el('option', { value: method }, title)));
  const list = paged(async (skip, most) => {
    const [method, title, name, undo] = LISTS.find(([method]) => method === which.value);
    const [entries, totals] = [await call(method, [most, skip]), await call('countdecisions', [])];
    const rows = entries.map((entry) => [el('code', {}, entry[name]), foreign(entry.reason ?? ''), el('button', {
      type: 'button', class: 'plain small', 'aria-label': `Take back ${entry[name]}`,
      onclick: () => list.tell(async () => {
        await call(undo, [entry[name]]);
        await list.show();
        return `${entry[name]} was taken back.`;
      }),
    }, 'Take back')]);
    const node = table(title, [name, 'reason', ''], rows, totals[method] ? 'Nothing here.' : 'The list is empty.');
    return { node, length: entries.length, total: totals[method] };
  });

  return {
    parts: [
      section('Ban or allow', { class: 'half' }, ...decide),
      purging(call),
      section('Decisions in force', {}, el('form', {}, field('List', which, 'short')), list.node),
    ],
    refresh: () => list.show(),
  };
}

function purging(call) {
  const subject = el('input', { name: 'purge', required: true, autocomplete: 'off', spellcheck: 'false',
    placeholder: 'npub1…, note1… or kind:1984', oninput: () => { confirm.hidden = true; } });
  const reason = el('input', { name: 'purge-reason', maxlength: '500', autocomplete: 'off' });
  const confirm = el('button', { value: 'purge', class: 'danger', hidden: true }, 'Remove');
  const progress = el('div');
  let counted = null;

  async function watch() {
    const [last] = await call('purges', []);
    if (!last) return progress.replaceChildren();
    const of = Math.max(last.events, last.removed, 1);
    const texts = { running: 'Removing', done: 'Removed', stopped: 'Stopped after', failed: `Failed (${last.error}) after` };
    progress.replaceChildren(el('div', {},
      el('p', { class: last.state === 'failed' ? 'bad' : null },
        `${texts[last.state]} ${count(last.removed)} of ${count(last.events)} events of `, el('code', {}, last.subject)),
      el('progress', { max: of, value: last.state === 'done' ? of : last.removed, 'aria-label': 'Progress of the purge' }),
      last.state === 'running' && el('button', { type: 'button', class: 'plain small',
        onclick: () => call('stoppurge', []).then(watch) }, 'Stop')));
    if (last.state === 'running') setTimeout(() => progress.isConnected && watch().catch(() => {}), 500);
  }

  const parts = form('Purge', [field('Key, event or kind', subject, 'wide'), field('Reason', reason)], [
    el('button', { value: 'count', class: 'plain' }, 'Count'), confirm,
  ], async (step) => {
    if (step === 'purge' && counted) {
      const { subject: of, events } = counted;
      confirm.hidden = true;
      counted = null;
      await call('startpurge', [of, events, reason.value]);
      await watch();
      return '';
    }
    counted = await call('countevents', [subject.value]);
    confirm.hidden = counted.events === 0;
    const least = counted.is_whole ? '' : 'at least ';
    confirm.textContent = `Remove ${count(counted.events)} events`;
    return `${least}${count(counted.events)} events are stored, ${bytes(counted.bytes)}. Removing them cannot be undone.`;
  });
  watch().catch(() => {});
  return section('Purge', { class: 'half' }, ...parts, progress);
}

export function lookup(call) {
  const input = el('input', { name: 'lookup', required: true, autocomplete: 'off', spellcheck: 'false',
    placeholder: 'npub1…, note1…, 64 hex digits, kind:1 or 192.0.2.7' });
  const result = el('div');
  const find = form('Look up', [field('Key, event, kind or address', input)], [el('button', {}, 'Look up')], async () => {
    result.replaceChildren(shown(await call('lookup', [input.value])));
    return '';
  });
  const filter = el('textarea', { name: 'filter', required: true, spellcheck: 'false', placeholder: '{"kinds":[1],"limit":100}' });
  const plan = el('div');
  const explain = form('Explain a filter', [field('Filter', filter)], [el('button', {}, 'Explain')], async () => {
    let read;
    try {
      read = JSON.parse(filter.value);
    } catch {
      throw new Error('This is not JSON.');
    }
    const told = await call('explain', [read]);
    plan.replaceChildren(facts([
      ['Plan', told.plans.join('; ')],
      ['Events', (told.is_whole ? '' : 'at least ') + count(told.events)],
      ['Rows examined', count(told.rows)],
      ['Time', `${told.milliseconds.toFixed(2)} ms`],
    ]));
    return '';
  });
  return {
    parts: [section('Look up', { class: 'half' }, ...find, result), section('Explain a filter', { class: 'half' }, ...explain, plan)],
    refresh: async () => {},
  };
}

const decided = (decision) => decision && [`${decision.verdict} by `, shortKey(decision.by), ' on ', time(decision.at),
  decision.text ? [': ', foreign(decision.text)] : ''];

function connections(list) {
  return table('Connections', ['number', 'address', 'key', '#CPU', '#queries'], list.map((one) =>
    [String(one.id), one.address, one.key ? shortKey(one.key) : '', `${(one.cpu_us / 1000).toFixed(1)} ms`, count(one.queries)]),
  'None is open.');
}

function shown(found) {
  const least = found.is_whole === false ? 'at least ' : '';
  const held = found.events === undefined ? null : `${least}${count(found.events)}, ${bytes(found.bytes)}`;
  if (found.what === 'key') {
    const profile = found.profile;
    return el('div', { 'data-found': 'key' },
      profile && el('h3', {}, foreign(profile.display_name || profile.name || 'without a name')),
      facts([
        ['npub', el('code', {}, found.npub)],
        ['hex', el('code', {}, found.pubkey)],
        ['about', profile?.about && foreign(profile.about)],
        ['NIP-05', profile?.nip05 && foreign(profile.nip05)],
        ['decision', decided(found.decision) ?? 'none'],
        ['lists', found.lists.join(', ') || 'none'],
        ['events', held],
        ['kinds', found.kinds.map(([kind, number]) => `${kind}: ${count(number)}`).join(', ')],
      ]),
      el('h3', {}, 'Connections'), connections(found.connections));
  }
  if (found.what === 'event') {
    return el('div', { 'data-found': 'event' },
      facts([['id', el('code', {}, found.id)], ['stored', found.stored ? bytes(found.bytes) : 'no'],
        ['decision', decided(found.decision) ?? 'none']]),
      found.event && el('pre', { tabindex: '0', 'aria-label': 'The event' }, JSON.stringify(found.event, null, 2)));
  }
  if (found.what === 'address') {
    return el('div', { 'data-found': 'address' },
      facts([['address', el('code', {}, found.subject.replace(/^address:/, ''))],
        ['served', found.blocked || found.denied ? 'no' : 'yes'], ['decision', decided(found.decision) ?? 'none']]),
      el('h3', {}, 'Connections'), connections(found.connections));
  }
  return el('div', { 'data-found': 'kind' },
    facts([['kind', found.subject.replace(/^kind:/, '')], ['accepted', found.accepted ? 'yes' : 'no'],
      ['decision', decided(found.decision) ?? 'none'], ['events', held]]));
}

export function audit(call) {
  const list = paged(async (skip, most) => {
    const acts = await call('audit', [most, skip]);
    const rows = acts.map((act) => [String(act.number), time(act.at), shortKey(act.by), act.method, el('code', {}, act.subject),
      foreign(act.reason ?? ''), act.change && el('button', {
        type: 'button', class: 'plain small', 'aria-label': `Undo act ${act.number}`,
        onclick: () => list.tell(async () => {
          await call('undo', [act.number]);
          await list.show();
          return `Act ${act.number} was undone.`;
        }),
      }, 'Undo')]);
    const heads = ['#', 'when', 'who', 'what', 'about', 'reason', ''];
    return { node: table('Audit', ['act', ...heads.slice(1)], rows, 'Nobody has done anything yet.'), length: acts.length };
  });
  return { parts: [section('Audit', {}, list.node)], refresh: () => list.show() };
}

export function configuration(call) {
  const all = el('input', { type: 'checkbox', onchange: () => show() });
  const body = el('div');
  let settings = [];
  const show = () => {
    const rows = settings.filter((one) => all.checked || one.default !== undefined).map((one) =>
      [el('code', {}, one.key), el('code', {}, one.value), one.default === undefined ? '' : el('code', {}, one.default)]);
    body.replaceChildren(table('Configuration', ['key', 'value', 'default'], rows, 'Every key has its default.'));
  };
  const reload = form('Reload', [], [el('button', {}, 'Reload the configuration')], async () => {
    await call('reload', []);
    settings = await call('configuration', []);
    show();
    return 'The configuration was read again.';
  });
  return {
    parts: [section('Configuration', {}, ...reload,
      el('form', {}, el('label', { class: 'check' }, all, 'also what has its default')), body)],
    refresh: async () => {
      settings = await call('configuration', []);
      show();
    },
  };
}
