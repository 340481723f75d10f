// Elements, and how figures are written. Texts only ever become text nodes: nothing here parses HTML.

/// An element with attributes, listeners (`onclick`) and children: texts, elements, or lists of them.
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/// A part of the page under a heading.
export function section(title, attributes = {}, ...children) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  return el('section', { 'aria-labelledby': id, ...attributes }, el('h2', { id }, title), ...children);
}

/// A table that scrolls sideways where it does not fit. A head that begins with `#` is of numbers.
export function table(name, heads, rows, empty) {
  if (rows.length === 0) return el('p', { class: 'soft' }, empty);
  const isNumber = heads.map((head) => head.startsWith('#'));
  const of = (place) => (isNumber[place] ? { class: 'number' } : {});
  return el('div', { class: 'scroll', role: 'group', 'aria-label': name, tabindex: '0' },
    el('table', {},
      el('thead', {}, el('tr', {}, heads.map((head, place) =>
        head === '' ? el('td') : el('th', { scope: 'col', ...of(place) }, head.replace(/^#/, ''))))),
      el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, place) => el('td', of(place), cell)))))));
}

export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: 'facts' }, known.map(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number);

export function rate(number) {
  if (number === null || number === undefined) return '–';
  return number >= 1000 ? whole.format(number) : short.format(number);
}

export function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let place = 0;
  while (number >= 1024 && place < units.length - 1) {
    number /= 1024;
    place += 1;
  }
  return `${short.format(number)} ${units[place]}`;
}

export function ms(number) {
  if (number === null || number === undefined) return '–';
  return number >= 1000 ? `${short.format(number / 1000)} s` : `${short.format(number)} ms`;
}

export function time(unix) {
  return el('time', { datetime: new Date(unix * 1000).toISOString() },
    new Date(unix * 1000).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' }));
}

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString('en-GB');

/// A text of somebody else's, in its own direction.
export const foreign = (text) => el('bdi', {}, text);

export const shortKey = (key) => el('code', { title: key }, key.length > 20 ? `${key.slice(0, 10)}…${key.slice(-6)}` : key);
