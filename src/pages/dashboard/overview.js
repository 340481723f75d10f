// What the relay does: cards, plots and tables, refreshed while the page is seen.

import { bytes, count, el, ms, rate, section, table } from './dom.js';
import { plot } from './plot.js';

const PLOTS = [
  ['Events', ['events_in', 'events_out'], ['in/s', 'delivered/s'], rate],
  ['Requests', ['queries', 'rows_out'], ['REQ/s', 'stored events/s'], rate],
  ['EVENT to OK', ['event_ok_p50', 'event_ok_p99'], ['median', '99 %'], ms],
  ['REQ to EOSE', ['req_eose_p50', 'req_eose_p99'], ['median', '99 %'], ms],
  ['Commit', ['commit_p50', 'commit_p99'], ['median', '99 %'], ms],
  ['Fan-out', ['fan_out_p50', 'fan_out_p99'], ['median', '99 %'], ms],
  ['Connections', ['connections', 'subscriptions'], ['open', 'subscriptions'], rate],
  ['Traffic', ['bytes_in', 'bytes_out'], ['in/s', 'out/s'], bytes],
  ['Refusals and queues', ['refusals', 'fullest_queue'], ['refused/s', 'fullest queue in %'], rate],
];

const CARDS = [
  ['Events held', (figures) => count(figures.events)],
  ['Storage', (figures) => bytes(figures.used_bytes)],
  ['Storage used', ({ used_bytes: used, full_bytes: full }) =>
    (full > 0 && full < 2 ** 62 ? `${Math.round(100 * used / full)} %` : '–')],
  ['Disk free', (figures) => bytes(figures.disk_free_bytes)],
  ['Connections', (figures) => count(figures.connections)],
  ['Held back', (figures) => count(figures.held)],
  ['Subscriptions', (figures) => count(figures.subscriptions)],
  ['CPU cores', (_, last) => rate(last('cpu'))],
  ['Memory', (figures) => bytes(figures.private_bytes)],
];

const LATENCIES = [['event_ok', 'EVENT to OK'], ['req_eose', 'REQ to EOSE'], ['commit', 'Commit'], ['fan_out', 'Fan-out']];

const WHAT = { answer: 'answers', event: 'events', connection: 'connections', close: 'closed' };

/// The overview; `call` calls a method. `refresh` is called as long as the tab is in front.
export function overview(call) {
  // They are there from the beginning, so that nothing moves when their values come.
  const values = CARDS.map(() => el('dd', {}, '–'));
  const cards = el('div', { class: 'cards' }, CARDS.map(([name], place) =>
    el('dl', { class: 'card' }, el('dt', {}, name), values[place])));
  const plots = PLOTS.map(([title, names, labels, written]) => plot(title, names, labels, written));
  const latencies = el('div');
  const queues = el('div');
  const refusals = el('div');
  const links = el('div');
  const storage = el('div', {}, el('p', { class: 'soft' }, 'Measuring …'));
  const slow = el('div');
  const span = el('select', { 'aria-label': 'Time shown', onchange: () => { series = null; refresh(); } },
    el('option', { value: 'recent' }, 'last 10 minutes'), el('option', { value: 'day' }, 'last day'));
  let series = null;
  let storageAt = 0;
  let slowAt = 0;
  /// Whether the forecast gets better if it is asked for again.
  let isReading = false;

  /// Numbers with commas in between, one point after another; what is left out is not known.
  const read = (points) => (points === '' ? [] : points.split(';').map((point) =>
    point.split(',').map((number) => (number === '' ? null : Number(number)))));

  function extend({ points, ...told }) {
    told.points = read(points);
    if (!series || told.step_s !== series.step_s || told.end < series.end) series = told;
    else {
      series.points = [...series.points, ...told.points].slice(-told.most);
      series.end = told.end;
    }
    for (const one of plots) one.draw(series);
  }

  async function refresh() {
    const figures = await call('figures', [span.value, series ? series.end : 0]);
    extend(figures.series);
    const last = (name) => series.points.at(-1)?.[series.names.indexOf(name)];
    CARDS.forEach(([, written], place) => { values[place].textContent = written(figures, last); });
    latencies.replaceChildren(
      el('p', { class: 'soft' }, figures.minutes >= 60 ? 'The last hour.' : `The last ${Math.max(figures.minutes, 1)} min.`),
      table('Latencies', ['', '#median', '#90 %', '#99 %', '#count'], LATENCIES.map(([name, title]) => {
        const one = figures.latencies[name];
        return [title, ms(one.p50), ms(one.p90), ms(one.p99), count(one.count)];
      }), ''));
    queues.replaceChildren(table('Queues', ['queue', '#waiting', '#bound', ''], figures.queues.map(([name, entries, bound]) =>
      [name, count(entries), count(bound), el('meter', { 'aria-label': `How full ${name} is`, value: bound > 0 ? entries / bound : 0, high: 0.8 })]), ''));
    refusals.replaceChildren(table('Refusals', ['what', 'why', '#count'],
      figures.refusals.slice(0, 12).map(([what, why, number]) => [WHAT[what] ?? what, why, count(number)]),
      'Nothing was refused.'));
    links.replaceChildren(table('Replication', ['with', '', '#behind'], figures.links.map((link) => [
      link.link.replace(/[{}"]/g, '').replace(/,/g, ', '),
      el('span', { class: link.connected ? 'good' : 'bad' }, link.connected ? 'connected' : 'not connected'),
      [[link.behind_events, 'events'], [link.behind_seconds, 's']].filter(([number]) => number !== null)
        .map(([number, unit]) => `${count(number)} ${unit}`).join(', '),
    ]), 'There are no streams, and there is no cluster.'));
    const now = Date.now();
    if (isReading || now - storageAt > 10000) {
      storageAt = now;
      call('storage', []).then(showStorage, (error) => storage.replaceChildren(el('p', { class: 'bad' }, error.message)));
    }
    if (now - slowAt > 10000) {
      slowAt = now;
      call('view', [0]).then((view) => slow.replaceChildren(table('Slow queries', ['who', 'filters', 'plan', '#worked'],
        view.slow_queries.slice(0, 8).map((query) => [query.address, el('code', {}, query.filters), query.plan,
          ms(query.worked_ms)]), 'No query was slow.')), () => {});
    }
    return figures;
  }

  function showStorage({ kinds, forecast: told }) {
    isReading = told.read < told.to_read;
    const days = (number) => (number === null ? 'more than 10 years' : `about ${count(number)} days`);
    const then = told.has_rules ? 'then the rules remove events' : 'then events are refused';
    storage.replaceChildren(
      told.is_sure
        ? el('p', {}, `Room for ${days(told.room_days)}, ${then}, because of `, el('code', {}, told.limit), '. ',
          `A day adds ${count(told.added.events)} events and ${bytes(told.added.bytes)}.`)
        : el('p', { class: 'soft' }, isReading
          ? `Reading events for a forecast: ${count(told.read)} of at most ${count(told.to_read)}.`
          : 'There are too few events of the last 7 days for a forecast.'),
      table('Storage by kind', ['kind', '#events', '#size'],
        kinds.slice(0, 12).map(([kind, events, size]) => [String(kind), count(events), bytes(size)]),
        'The store is empty.'));
  }

  const parts = [
    cards,
    el('form', { class: 'span', onsubmit: (event) => event.preventDefault() },
      el('label', { class: 'short' }, 'Time shown', span)),
    ...plots.map((one) => one.node),
    section('Latencies', { class: 'half' }, latencies),
    section('Queues', { class: 'half' }, queues),
    section('Refusals of the last hour', { class: 'half' }, refusals),
    section('Storage', { class: 'half' }, storage),
    section('Replication', { class: 'half' }, links),
    section('Slow queries', { class: 'half' }, slow),
  ];
  return { parts, refresh, every: 2000 };
}
