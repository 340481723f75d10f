//! The disk after a power cut: what a record of calls leaves of a directory.
//!
//! A write before a completed sync of its file is there. Of the writes since then, each 512-byte sector holds what any
//! of them left in it, or what was there before: the disk writes sectors whole, when it likes and in any order. A name
//! that was created, removed or changed stays so once its directory was synced, and a sync of a file says nothing about
//! its name. Lengths change with the writes and truncations that are kept.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::recorder::{Id, Op, What};
use crate::corpus::Random;

const SECTOR: usize = 512;

/// Files that the relay makes again whenever nobody has them open, and one that tests write.
const IGNORED: [&str; 2] = ["lock.mdb", "weir.toml"];

/// What becomes of the writes that no sync has covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All are kept: a process was killed, or the disk was quick.
    Kept,
    /// All are dropped.
    Dropped,
    /// Some first ones are kept: the disk keeps their order.
    Prefix,
    /// Some are kept whole.
    Some,
    /// Each sector was written after any one of them.
    Torn,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Kept, Self::Dropped, Self::Prefix, Self::Some, Self::Torn];
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// Writes and truncations that no sync has covered yet, by their places in the record.
    pending: Vec<usize>,
}

#[derive(Default)]
struct Directory {
    durable: BTreeMap<String, Id>,
    pending: Vec<(usize, Change)>,
}

/// A change of a directory's names.
#[derive(Clone)]
enum Change {
    Set(String, Id),
    Remove(String),
    Rename(String, String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Set(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }

    fn names(&self) -> Vec<&String> {
        match self {
            Self::Set(name, _) | Self::Remove(name) => vec![name],
            Self::Rename(from, to) => vec![from, to],
        }
    }
}

/// The disk at one instant of a record. Instants only move forward.
pub struct Disk<'o> {
    ops: &'o [Op],
    next: usize,
    now: u64,
    root: Id,
    files: HashMap<Id, File>,
    directories: HashMap<Id, Directory>,
    /// What every path leads to for the processes that run.
    live: BTreeMap<PathBuf, Id>,
    /// Syncs under way, by their places in the record.
    syncing: Vec<usize>,
}

/// The durable contents of a directory before anything is recorded.
#[derive(Clone, Default)]
pub struct Base {
    root: Option<Id>,
    files: HashMap<Id, Vec<u8>>,
    directories: HashMap<Id, BTreeMap<String, Id>>,
    live: BTreeMap<PathBuf, Id>,
}

impl Base {
    /// Reads a directory that no process changes.
    pub fn of(root: &Path) -> Self {
        let mut base = Self::default();
        base.root = Some(base.add(root));
        base
    }

    fn add(&mut self, path: &Path) -> Id {
        let found = path.metadata().expect("it exists");
        let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let id = Id { inode: found.ino(), birth: born.map_or(0, |born| born.as_nanos() as u64) };
        self.live.insert(path.into(), id);
        if found.is_dir() {
            let mut names = BTreeMap::new();
            for entry in path.read_dir().expect("a directory") {
                let entry = entry.expect("an entry");
                let name = entry.file_name().into_string().expect("UTF-8");
                names.insert(name, self.add(&entry.path()));
            }
            self.directories.insert(id, names);
        } else {
            self.files.insert(id, std::fs::read(path).expect("a file"));
        }
        id
    }
}

impl<'o> Disk<'o> {
    /// The disk before the first call.
    pub fn new(base: Base, ops: &'o [Op]) -> Self {
        let root = base.root.expect("a base has a root");
        let file = |(id, durable)| (id, File { durable, pending: Vec::new() });
        let directory = |(id, durable)| (id, Directory { durable, pending: Vec::new() });
        Self {
            ops,
            next: 0,
            now: 0,
            root,
            files: base.files.into_iter().map(file).collect(),
            directories: base.directories.into_iter().map(directory).collect(),
            live: base.live,
            syncing: Vec::new(),
        }
    }

    /// Goes on to a later instant.
    pub fn advance(&mut self, now: u64) {
        assert!(now >= self.now, "instants move forward");
        self.now = now;
        while let Some(op) = self.ops.get(self.next).filter(|op| op.begin <= now) {
            self.begin(self.next, op);
            self.next += 1;
        }
        let ops = self.ops;
        let (mut ended, syncing): (Vec<usize>, Vec<usize>) = self.syncing.iter().partition(|&&at| ops[at].end <= now);
        self.syncing = syncing;
        ended.sort_by_key(|&at| ops[at].end);
        ended.into_iter().for_each(|at| self.sync(&ops[at]));
    }

    fn begin(&mut self, at: usize, op: &Op) {
        match &op.what {
            What::Write { file, .. } | What::Truncate { file, .. } => {
                self.files.entry(*file).or_default().pending.push(at);
            }
            What::Sync { .. } => self.syncing.push(at),
            What::Link { path, id, is_directory } => {
                if self.live.insert(path.clone(), *id) == Some(*id) {
                    return;
                }
                if *is_directory {
                    self.directories.entry(*id).or_default();
                } else {
                    self.files.entry(*id).or_default();
                }
                let (directory, name) = self.place(path);
                directory.pending.push((at, Change::Set(name, *id)));
            }
            What::Unlink { path } => {
                let (directory, name) = self.place(path);
                directory.pending.push((at, Change::Remove(name)));
                self.live.remove(path);
            }
            What::Rename { from, to } => {
                // A socket is bound, not opened, so it is not among the files, and it holds nothing.
                let Some(id) = self.live.remove(from) else { return };
                assert_eq!(from.parent(), to.parent(), "a rename within one directory");
                let (directory, name) = self.place(from);
                directory.pending.push((at, Change::Rename(name, name_of(to))));
                self.live.insert(to.clone(), id);
            }
            What::Lie => {}
        }
    }

    fn place(&mut self, path: &Path) -> (&mut Directory, String) {
        let parent = path.parent().expect("a path below the root");
        let id = self.live.get(parent).unwrap_or_else(|| panic!("{} is known", parent.display()));
        (self.directories.entry(*id).or_default(), name_of(path))
    }

    /// Makes durable what had ended when the sync began.
    fn sync(&mut self, sync: &Op) {
        let What::Sync { of, .. } = &sync.what else { unreachable!("only syncs are under way") };
        let ops = self.ops;
        let is_covered = |at: usize| ops[at].end <= sync.begin;
        if let Some(File { durable, pending }) = self.files.get_mut(of) {
            pending.iter().filter(|&&at| is_covered(at)).for_each(|&at| apply(&ops[at], durable, |_| true));
            pending.retain(|&at| !is_covered(at));
        }
        if let Some(Directory { durable, pending }) = self.directories.get_mut(of) {
            pending.iter().filter(|(at, _)| is_covered(*at)).for_each(|(_, change)| change.apply(durable));
            pending.retain(|(at, _)| !is_covered(*at));
        }
    }

    /// Writes what the disk may hold after a cut at this instant to an empty directory; says what was decided.
    pub fn cut(&self, random: &mut Random, to: &Path) -> String {
        let all = random.once_in(2).then(|| *random.pick(&Outcome::ALL));
        let mut said = Vec::new();
        self.write_directory(self.root, random, all, to, &mut said);
        said.join(", ")
    }

    fn write_directory(&self, id: Id, random: &mut Random, all: Option<Outcome>, to: &Path, said: &mut Vec<String>) {
        let directory = &self.directories[&id];
        let outcome = all.unwrap_or_else(|| *random.pick(&Outcome::ALL));
        if !directory.pending.is_empty() {
            said.push(format!("{} changed names of {}: {outcome:?}", directory.pending.len(), to.display()));
        }
        for (name, id) in names_after(directory, outcome, random) {
            let path = to.join(&name);
            if self.directories.contains_key(&id) {
                std::fs::create_dir(&path).expect("a directory");
                self.write_directory(id, random, all, &path, said);
            } else if name == "lock.mdb" {
                write_lock(random, &path);
            } else if !IGNORED.contains(&name.as_str()) {
                let outcome = all.unwrap_or_else(|| *random.pick(&Outcome::ALL));
                let file = &self.files[&id];
                if !file.pending.is_empty() {
                    said.push(format!("{} writes of {}: {outcome:?}", file.pending.len(), path.display()));
                }
                std::fs::write(path, self.contents(file, outcome, random)).expect("a file");
            }
        }
    }

    /// What a file may hold.
    fn contents(&self, file: &File, outcome: Outcome, random: &mut Random) -> Vec<u8> {
        let pending = &file.pending;
        // The writes that touch each sector, and how many of them the disk has for certain.
        let mut touching: HashMap<usize, (Vec<usize>, usize)> = HashMap::new();
        for (place, &at) in pending.iter().enumerate() {
            let op = &self.ops[at];
            let What::Write { at, bytes, is_through, .. } = &op.what else { continue };
            for sector in at / SECTOR..=(at + bytes.len() - 1) / SECTOR {
                let (writes, least) = touching.entry(sector).or_default();
                writes.push(place);
                if *is_through && op.end <= self.now {
                    *least = writes.len();
                }
            }
        }
        let prefix = random.below(pending.len() as u64 + 1) as usize;
        let is_kept: Vec<bool> = pending.iter().map(|_| random.once_in(2)).collect();
        // For each sector the place after the last write that reached it.
        let mut sectors: Vec<_> = touching.into_iter().collect();
        sectors.sort_unstable_by_key(|(sector, _)| *sector);
        let mut until = HashMap::new();
        for (sector, (writes, least)) in sectors {
            let reached = match outcome {
                Outcome::Kept => writes.len(),
                Outcome::Dropped => 0,
                Outcome::Prefix => writes.iter().filter(|&&place| place < prefix).count(),
                Outcome::Some => writes.iter().rposition(|&place| is_kept[place]).map_or(0, |last| last + 1),
                Outcome::Torn => random.below(writes.len() as u64 + 1) as usize,
            };
            until.insert(sector, reached.max(least).checked_sub(1).map_or(0, |last| writes[last] + 1));
        }
        let is_cut = |place: usize| match outcome {
            Outcome::Kept => true,
            Outcome::Dropped => false,
            Outcome::Prefix => place < prefix,
            Outcome::Some | Outcome::Torn => is_kept[place],
        };
        let mut bytes = file.durable.clone();
        for (place, &at) in pending.iter().enumerate() {
            let op = &self.ops[at];
            match &op.what {
                What::Truncate { .. } if !is_cut(place) => {}
                _ => apply(op, &mut bytes, |sector| until.get(&sector).is_none_or(|&until| place < until)),
            }
        }
        bytes
    }

    /// The paths and contents of all files as running processes see them, without those that are ignored.
    pub fn live(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.live.iter().filter(|(path, id)| self.files.contains_key(id) && !is_ignored(path));
        let contents = |id: &Id| {
            let file = &self.files[id];
            let mut bytes = file.durable.clone();
            file.pending.iter().for_each(|&at| apply(&self.ops[at], &mut bytes, |_| true));
            bytes
        };
        files.map(|(path, id)| (path.clone(), contents(id))).collect()
    }
}

/// The files below a directory, as [`Disk::live`] gives them.
pub fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let base = Base::of(root);
    let Base { mut files, live, .. } = base;
    let found = live.into_iter().filter(|(path, _)| !is_ignored(path));
    found.filter_map(|(path, id)| Some((path, files.remove(&id)?))).collect()
}

fn is_ignored(path: &Path) -> bool {
    IGNORED.contains(&name_of(path).as_str())
}

fn name_of(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").into()
}

/// Applies a write, in the sectors that it reached, or a truncation.
fn apply(op: &Op, to: &mut Vec<u8>, reaches: impl Fn(usize) -> bool) {
    match &op.what {
        What::Truncate { length, .. } => to.resize(*length, 0),
        What::Write { at, bytes, .. } => {
            let (mut from, end) = (*at, at + bytes.len());
            while from < end {
                let next = end.min((from / SECTOR + 1) * SECTOR);
                if reaches(from / SECTOR) {
                    if to.len() < next {
                        to.resize(next, 0);
                    }
                    to[from..next].copy_from_slice(&bytes[from - at..next - at]);
                }
                from = next;
            }
        }
        _ => unreachable!("only these change a file"),
    }
}

/// The names of a directory. Changes of one name happen in their order, those of different names in any; a rename is
/// whole or not at all.
fn names_after(directory: &Directory, outcome: Outcome, random: &mut Random) -> BTreeMap<String, Id> {
    let mut names = directory.durable.clone();
    let pending = &directory.pending;
    let prefix = random.below(pending.len() as u64 + 1) as usize;
    // A change that is dropped takes with it all later ones of its names, and what depends on those.
    let mut stuck: Vec<&String> = Vec::new();
    for (place, (_, change)) in pending.iter().enumerate() {
        let is_kept = match outcome {
            Outcome::Kept => true,
            Outcome::Dropped => false,
            Outcome::Prefix => place < prefix,
            Outcome::Some | Outcome::Torn => random.once_in(2),
        };
        if is_kept && !change.names().iter().any(|name| stuck.contains(name)) {
            change.apply(&mut names);
        } else {
            stuck.extend(change.names());
        }
    }
    names
}

/// LMDB's lock file after a cut: gone, as long as it was, or garbage.
fn write_lock(random: &mut Random, path: &Path) {
    let bytes = match random.below(3) {
        0 => return,
        1 => vec![0; 8192],
        _ => (0..1024).flat_map(|_| random.next().to_le_bytes()).collect(),
    };
    std::fs::write(path, bytes).expect("a file");
}
