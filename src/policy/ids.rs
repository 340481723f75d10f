//! A large set of keys or ids that changes now and then, while others hold it as it was.
//!
//! It is kept in parts, so that a change copies one of them and not all: a million keys would be 64 MiB. It only
//! answers look-ups.

use std::sync::Arc;

use hashbrown::HashSet;

/// How many parts.
const PARTS: usize = 256;

/// A key or an id.
type Digits = [u8; 32];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids {
    /// By the last byte.
    parts: Arc<[Arc<HashSet<Digits>>]>,
    len: usize,
}

impl Default for Ids {
    fn default() -> Self {
        let empty = Arc::default();
        Self { parts: (0..PARTS).map(|_| Arc::clone(&empty)).collect(), len: 0 }
    }
}

impl Ids {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds the value. Most sets are empty, and then nothing is hashed.
    #[must_use]
    pub fn holds(&self, value: &Digits) -> bool {
        self.len > 0 && self.parts[usize::from(value[31])].contains(value)
    }

    /// Adds a value, or takes it out.
    pub fn put(&mut self, value: Digits, is_in: bool) {
        if self.holds(&value) == is_in {
            return;
        }
        let part = Arc::make_mut(&mut Arc::make_mut(&mut self.parts)[usize::from(value[31])]);
        if is_in {
            part.insert(value);
            self.len += 1;
        } else {
            part.remove(&value);
            self.len -= 1;
        }
    }

    /// The values that are not in `before`, of which this one was made by changes.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Digits> + 'a {
        // What no change touched is the same memory.
        let changed = self.parts.iter().zip(&*before.parts).filter(|(part, former)| !Arc::ptr_eq(part, former));
        changed.flat_map(|(part, former)| part.difference(former)).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_change_is_seen_in_the_set_alone_and_copies_one_part() {
        let value = |number: u16| {
            let mut value = [7; 32];
            value[30..].copy_from_slice(&number.to_be_bytes());
            value
        };
        let mut ids = Ids::default();
        let mut plain = BTreeSet::new();
        for number in (0..3_000).chain((0..3_000).step_by(3)).chain([5, 5]) {
            let is_in = !plain.contains(&value(number));
            ids.put(value(number), is_in);
            ids.put(value(number), is_in);
            if is_in {
                plain.insert(value(number))
            } else {
                plain.remove(&value(number))
            };
        }
        assert_eq!(ids.len(), plain.len());
        assert!((0..4_000).all(|number| ids.holds(&value(number)) == plain.contains(&value(number))));
        let before = ids.clone();
        ids.put(value(3_500), true);
        ids.put(value(1), false);
        assert_eq!((before.holds(&value(3_500)), before.holds(&value(1))), (false, true), "others hold the former one");
        assert_eq!(ids.since(&before).collect::<Vec<_>>(), [value(3_500)]);
        assert_eq!(before.since(&ids).collect::<Vec<_>>(), [value(1)]);
        assert_eq!(ids.since(&Ids::default()).collect::<BTreeSet<_>>().len(), ids.len());
        let copied = ids.parts.iter().zip(&*before.parts).filter(|(part, former)| !Arc::ptr_eq(part, former)).count();
        assert_eq!(copied, 2);
        ids.put(value(3_500), false);
        ids.put(value(1), true);
        assert_eq!(ids, before);
    }
}
