//! The files of a journal: reading them back, and writing them so that a kill at any step leaves a whole state.
//!
//! | file | holds |
//! |---|---|
//! | `audit.jsonl` | the acts since the last checkpoint, one JSON object per line, in order |
//! | `audit.1.jsonl` … `audit.4.jsonl` | older acts, the newest first; `1` ends where `audit.jsonl` begins |
//! | `state.jsonl` | the checkpoint: a header with the number of the last act in it, and one decision per line |
//! | `used.jsonl` | the authorizations that were used, whether they led to an act or not (`used_authorizations.rs`) |
//! | `requests.jsonl` | the same of the requests of members (NIP-43) |
//! | `lock` | held, with flock(2), while an act is recorded |
//!
//! `lock` is created after `audit.jsonl`, and nothing removes either. So where any of these files is, `audit.jsonl` is,
//! or it was lost. What root creates belongs to the owner of the directory around it, so that the relay can open it.
//!
//! A line without its end at the end of `audit.jsonl` was being written when the process died: its act never took
//! effect and nobody was told so, so it is dropped. Anything else that is not as written here is damage, and an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, Decision};
use super::error::JournalError;
use super::state::State;
use super::subject::Subject;
use crate::store::{create_directory, give_to_owner, sync_names};

/// The version of the format.
const FORMAT: u32 = 1;

/// Once the audit has this many bytes, about ten thousand acts, a checkpoint is made and a new file begun.
pub const AUDIT_BYTES: u64 = 4 << 20;

/// Older files that are kept.
pub const OLDER: usize = 4;

/// The longest line: a description of 4 KiB, before and after, with every byte escaped.
const MAX_LINE: usize = 64 << 10;

/// The names.
const AUDIT: &str = "audit.jsonl";
const STATE: &str = "state.jsonl";
const LOCK: &str = "lock";

/// The first line of the checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    /// The number of the last act in it.
    last: u64,
    /// Lines that follow.
    decisions: u64,
}

/// Every other line of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    subject: Subject,
    decision: Decision,
}

/// A line of the checkpoint.
#[derive(Serialize)]
#[serde(untagged)]
enum Checkpoint {
    Header(Header),
    Decision(Line),
}

/// What identifies a file that was read: another process may have written to it since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileVersion {
    inode: u64,
    bytes: u64,
}

impl FileVersion {
    /// How long the file was.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Whether it is the same file, with more in it.
    #[must_use]
    pub const fn is_after(self, before: Self) -> bool {
        self.inode == before.inode && self.bytes > before.bytes
    }
}

/// The files of one journal.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// The files in `dir`, which need not exist.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Whether there is anything.
    ///
    /// # Errors
    /// When that cannot be told, for example because the directory is another user's, or a link that leads nowhere.
    pub fn exist(&self) -> Result<bool, JournalError> {
        let failed = |source| JournalError::File { file: self.dir.clone(), source };
        if is_there(&self.dir)? && !self.dir.try_exists().map_err(failed)? {
            let why = "a link to a directory that is not there; is its disk mounted?";
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, why)));
        }
        for file in [self.path(LOCK), self.audit(), self.path(STATE), self.older(1)] {
            if is_there(&file)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// An older file of the audit, the newest being 1.
    #[must_use]
    pub fn older(&self, age: usize) -> PathBuf {
        self.path(&format!("audit.{age}.jsonl"))
    }

    /// The file of the audit.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.path(AUDIT)
    }

    /// Every file that there may be, but for the lock.
    pub fn all(&self) -> impl Iterator<Item = PathBuf> {
        let older = (1..=OLDER).map(|age| self.older(age));
        [self.path(STATE), self.path(AUDIT), self.used(), self.requests()].into_iter().chain(older)
    }

    /// Creates the directory and an empty audit, if there is nothing, and waits until no other process records an act.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn lock(&self) -> Result<File, JournalError> {
        let failed = |source| JournalError::File { file: self.dir.clone(), source };
        if !self.exist()? {
            self.create().map_err(failed)?;
        }
        let path = self.path(LOCK);
        let failed = |source| JournalError::File { file: path.clone(), source };
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed)?;
        give(&path).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(lock)
    }

    fn create(&self) -> io::Result<()> {
        let is_missing = |one: &&Path| !one.as_os_str().is_empty() && !one.exists();
        let missing: Vec<&Path> = self.dir.ancestors().take_while(is_missing).collect();
        create_directory(&self.dir, 0o700)?;
        missing.into_iter().rev().try_for_each(give)?;
        let audit = self.audit();
        OpenOptions::new().append(true).create(true).mode(0o600).open(&audit)?;
        give(&audit)?;
        sync_names(&self.dir)
    }

    /// The file of the authorizations that were used.
    #[must_use]
    pub fn used(&self) -> PathBuf {
        self.path("used.jsonl")
    }

    /// The file of the requests of members that were carried out.
    #[must_use]
    pub fn requests(&self) -> PathBuf {
        self.path("requests.jsonl")
    }

    /// What a file is now.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn seen(path: &Path) -> Result<FileVersion, JournalError> {
        match fs::metadata(path) {
            Ok(file) => Ok(FileVersion { inode: file.ino(), bytes: file.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileVersion::default()),
            Err(source) => Err(JournalError::File { file: path.into(), source }),
        }
    }

    /// Reads the decisions. Call it with the lock held.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read(&self) -> Result<(State, FileVersion), JournalError> {
        let mut state = self.read_state()?;
        let checkpoint = state.last();
        let path = self.path(AUDIT);
        if !is_there(&path)? {
            return Err(JournalError::Missing(path));
        }
        let mut before = None;
        let end = read_lines(&path, |line, entry: AuditEntry| {
            let follows = before.map_or(entry.number <= checkpoint + 1, |before| entry.number == before + 1);
            if !follows {
                let expected = before.unwrap_or(checkpoint) + 1;
                return Err(damaged(&path, line, format!("act {} is where act {expected} belongs", entry.number)));
            }
            before = Some(entry.number);
            if entry.number > checkpoint {
                state.apply(&entry);
            }
            Ok(())
        })?;
        if let Some(before) = before.filter(|before| *before < checkpoint) {
            let text = format!("it ends with act {before}, but {STATE} goes to {checkpoint}");
            return Err(damaged(&path, end.lines, text));
        }
        end.cut(&path)?;
        Ok((state, Self::seen(&path)?))
    }

    /// Every act of one file of the audit, in order; of none if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn entries(path: &Path, mut each: impl FnMut(AuditEntry)) -> Result<(), JournalError> {
        let each = |_, entry| {
            each(entry);
            Ok(())
        };
        read_lines(path, each).map(|_| ())
    }

    fn read_state(&self) -> Result<State, JournalError> {
        let path = self.path(STATE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => return Err(JournalError::File { file: path, source }),
        };
        let mut lines = Lines::new(file, &path);
        let Some(text) = lines.next()? else { return Err(damaged(&path, 1, "the file is empty".into())) };
        let header: Header = serde_json::from_str(&text).map_err(|error| damaged(&path, 1, error.to_string()))?;
        if header.format != FORMAT {
            let text = format!("format {} is of another version of weir; this one reads {FORMAT}", header.format);
            return Err(damaged(&path, 1, text));
        }
        let mut state = State::after(header.last);
        while let Some(text) = lines.next()? {
            let line: Line =
                serde_json::from_str(&text).map_err(|error| damaged(&path, lines.number, error.to_string()))?;
            if state.get(&line.subject).is_some() {
                return Err(damaged(&path, lines.number, format!("{} is decided twice", line.subject)));
            }
            state.put(line.subject, Some(line.decision));
        }
        let found = lines.number.saturating_sub(1);
        if lines.torn > 0 || found != header.decisions {
            let text = format!("the file ends early: {found} of {} decisions are in it", header.decisions);
            return Err(damaged(&path, lines.number, text));
        }
        Ok(state)
    }

    /// Adds a line to a file, which is created if need be, and waits until it is on disk. If that fails, the file is
    /// left as it was.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, path: &Path, line: &impl Serialize) -> Result<FileVersion, JournalError> {
        let failed = |source| JournalError::File { file: path.into(), source };
        let is_new = !is_there(path)?;
        let mut file = OpenOptions::new().append(true).create(is_new).mode(0o600).open(path).map_err(failed)?;
        if is_new {
            give(path).and_then(|()| sync_names(&self.dir)).map_err(failed)?;
        }
        let before = file.metadata().map_err(failed)?.len();
        let mut line = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        if let Err(source) = file.write_all(&line).and_then(|()| file.sync_all()) {
            // Should this fail as well, the next start drops a line without an end, and takes a whole one for an act.
            let _ = file.set_len(before).and_then(|()| file.sync_all());
            return Err(failed(source));
        }
        Self::seen(path)
    }

    /// Whether the audit is long enough for a checkpoint.
    #[must_use]
    pub const fn is_long(seen: FileVersion) -> bool {
        seen.bytes >= AUDIT_BYTES
    }

    /// Writes the state and begins a new file of the audit. A kill in between leaves acts in `audit.jsonl` that are in
    /// the checkpoint too; they are applied once.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing is lost then.
    pub fn checkpoint(&self, state: &State) -> Result<FileVersion, JournalError> {
        let audit = self.path(AUDIT);
        let failed = |source| JournalError::File { file: self.dir.clone(), source };
        let header = Header { format: FORMAT, last: state.last(), decisions: state.iter().len() as u64 };
        let line = |(subject, decision): (&Subject, &Decision)| Line { subject: *subject, decision: decision.clone() };
        let lines = state.iter().map(line).map(Checkpoint::Decision);
        self.replace(&self.path(STATE), std::iter::once(Checkpoint::Header(header)).chain(lines))?;
        let inode = |path: &Path| fs::metadata(path).map(|file| file.ino()).ok();
        // They are one file after a kill between the next two steps.
        if inode(&audit) != inode(&self.older(1)) {
            for age in (1..OLDER).rev() {
                if is_there(&self.older(age))? {
                    fs::rename(self.older(age), self.older(age + 1)).map_err(failed)?;
                }
            }
            fs::hard_link(&audit, self.older(1)).map_err(failed)?;
        }
        let new = self.path("audit.new");
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        give(&new).map_err(failed)?;
        fs::rename(&new, &audit).map_err(failed)?;
        sync_names(&self.dir).map_err(failed)?;
        Self::seen(&audit)
    }

    /// Writes these lines in place of a file, durably: a kill leaves the one or the other.
    ///
    /// # Errors
    /// When the file cannot be written; the former one stays then.
    pub fn replace(&self, path: &Path, lines: impl Iterator<Item: Serialize>) -> Result<FileVersion, JournalError> {
        let new = path.with_extension("new");
        let written = write(&new, lines).and_then(|()| {
            fs::rename(&new, path)?;
            sync_names(&self.dir)
        });
        written.map_err(|source| JournalError::File { file: path.into(), source })?;
        Self::seen(path)
    }
}

fn write(new: &Path, lines: impl Iterator<Item: Serialize>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    give(new)?;
    let mut out = BufWriter::new(file);
    for line in lines {
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Whether there is a file of this name, be it a link that leads nowhere.
fn is_there(path: &Path) -> Result<bool, JournalError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(JournalError::File { file: path.into(), source }),
    }
}

/// Gives what was created to the owner of the directory around it.
pub(super) fn give(new: &Path) -> io::Result<()> {
    // The parent of a relative path may be the empty path.
    let parent = new.parent().filter(|parent| !parent.as_os_str().is_empty());
    give_to_owner(parent.unwrap_or(Path::new(".")), new)
}

/// The error of a line that is not as it was written.
pub(super) fn damaged(file: &Path, line: u64, text: String) -> JournalError {
    JournalError::Damaged { file: file.into(), line, text }
}

/// Where the whole lines of a file end.
pub(super) struct LinesEnd {
    pub lines: u64,
    bytes: u64,
    /// Bytes of a line without its end.
    torn: usize,
}

impl LinesEnd {
    /// Cuts off a line that was not written completely: nobody was told that it was.
    pub fn cut(&self, path: &Path) -> Result<(), JournalError> {
        if self.torn == 0 {
            return Ok(());
        }
        tracing::warn!(file = %path.display(), bytes = self.torn, "a line that was not written completely is dropped");
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| {
            file.set_len(self.bytes)?;
            file.sync_all()
        });
        cut.map_err(|source| JournalError::File { file: path.into(), source })
    }
}

/// Reads every line of a file, in order; none if there is no such file.
pub(super) fn read_lines<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(u64, T) -> Result<(), JournalError>,
) -> Result<LinesEnd, JournalError> {
    let Some(mut lines) = Lines::open(path)? else { return Ok(LinesEnd { lines: 0, bytes: 0, torn: 0 }) };
    while let Some(text) = lines.next()? {
        let line = serde_json::from_str(&text).map_err(|error| damaged(path, lines.number, error.to_string()))?;
        each(lines.number, line)?;
    }
    Ok(LinesEnd { lines: lines.number, bytes: lines.bytes, torn: lines.torn })
}

/// The whole lines of a file.
pub(super) struct Lines<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    /// Bytes of the last line, if it has no end.
    pub(super) torn: usize,
}

impl<'a> Lines<'a> {
    /// From the beginning; `None` if there is no such file.
    pub(super) fn open(path: &'a Path) -> Result<Option<Self>, JournalError> {
        if !is_there(path)? {
            return Ok(None);
        }
        let file = File::open(path).map_err(|source| JournalError::File { file: path.into(), source })?;
        Ok(Some(Self::new(file, path)))
    }

    /// Goes to `place`, where a line begins. From then on lines are counted from there.
    pub(super) fn seek(&mut self, place: u64) -> Result<(), JournalError> {
        let sought = self.reader.seek(io::SeekFrom::Start(place));
        (self.number, self.bytes) = (0, 0);
        sought.map(|_| ()).map_err(|source| JournalError::File { file: self.path.into(), source })
    }

    /// Goes to where the next line after `place` begins, and tells where that is.
    pub(super) fn seek_after(&mut self, place: u64) -> Result<u64, JournalError> {
        self.seek(place)?;
        let passed = self.reader.skip_until(b'\n');
        let passed = passed.map_err(|source| JournalError::File { file: self.path.into(), source })?;
        Ok(place + passed as u64)
    }

    fn new(file: File, path: &'a Path) -> Self {
        Self { reader: BufReader::new(file), path, line: Vec::new(), number: 0, bytes: 0, torn: 0 }
    }

    /// The next line that has its end.
    pub(super) fn next(&mut self) -> Result<Option<String>, JournalError> {
        self.line.clear();
        let mut limited = io::Read::take(&mut self.reader, MAX_LINE as u64);
        let length = limited.read_until(b'\n', &mut self.line);
        let length = length.map_err(|source| JournalError::File { file: self.path.into(), source })?;
        if length == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            if length == MAX_LINE {
                return Err(damaged(self.path, self.number + 1, format!("a line of more than {MAX_LINE} bytes")));
            }
            self.torn = length;
            return Ok(None);
        }
        self.number += 1;
        self.bytes += length as u64;
        let line = std::mem::take(&mut self.line);
        String::from_utf8(line).map(Some).map_err(|error| damaged(self.path, self.number, error.to_string()))
    }
}
