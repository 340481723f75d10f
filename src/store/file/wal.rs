//! The write-ahead log makes events durable before LMDB's commit does, with one small write instead of many pages.
//!
//! The log is a file of fixed size next to the data file. Each group overwrites it from its start. A frame holds the
//! records that one batch stored, and the number of the LMDB transaction that will commit them. The commit of that
//! transaction makes the frame obsolete, so nothing has to be removed. A process that takes LMDB's write lock
//! recognises the frames of a dead process: they carry the number of the transaction that it begins. Nobody writes the
//! log without that lock.
//!
//! After a power cut the log may hold frames of a later transaction, if commits do not wait for their meta page: the
//! commits before it are lost. They are erased, or they would return when transactions reach that number again.
//!
//! | bytes | of a frame                                                          |
//! |------:|---------------------------------------------------------------------|
//! |     8 | the transaction's number, little-endian like all of these           |
//! |     4 | bytes of records that follow                                        |
//! |     4 | the frame's offset in the file                                    |
//! |     8 | SipHash-2-4 of these three and the records, under the store's secret |
//! |     … | records, each preceded by its length, 4                           |

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use siphasher::sip::SipHasher24;

use crate::store::file::file_identity::FileIdentity;
use crate::store::file::names::sync_names;
use crate::store::file::owner::give_to_owner;
use crate::store::format::error::StoreError;
use crate::store::format::error::is_want_of_room;
use crate::store::format::keys::Secret;

/// The log's file name. The file lies next to LMDB's data file.
pub(in crate::store) const LOG_FILE: &str = "write-ahead.log";

/// The size of the file, and the most that one group may hold, in bytes. A larger log would save little, since the
/// batches of a group that fills it already share most pages, and LMDB keeps every page that a transaction changes in
/// memory.
pub(in crate::store) const LOG_BYTES: usize = 2 << 20;

/// Bytes of a frame's header.
pub(in crate::store) const FRAME: usize = 24;

/// Bytes of the length before a record.
pub(in crate::store) const LENGTH: usize = 4;

/// The log of one generation.
pub(in crate::store) struct Wal {
    path: PathBuf,
    secret: Secret,
    /// The store's directory. The file is given to its owner.
    home: PathBuf,
    file: OnceLock<File>,
    /// Whether frames were synced by themselves since [`Wal::may_overwrite`] last looked.
    is_synced: AtomicBool,
}

impl Wal {
    /// The log of the generation in `directory`. The file need not exist yet.
    pub fn new(home: &Path, directory: &Path, secret: Secret) -> Self {
        Self {
            path: directory.join(LOG_FILE),
            secret,
            home: home.into(),
            file: OnceLock::new(),
            is_synced: AtomicBool::new(false),
        }
    }

    fn error(&self) -> impl Fn(std::io::Error) -> StoreError + '_ {
        |source| match is_want_of_room(&source) {
            true => StoreError::Full,
            false => StoreError::Io { path: self.path.clone(), source },
        }
    }

    /// Checks that the path still leads to the open file, if one is open: a process that recovers after a crash opens
    /// the file by its path.
    pub fn check_file(&self) -> Result<(), StoreError> {
        match self.file.get() {
            Some(file) => FileIdentity::new(self.path.clone(), &file.metadata().map_err(self.error())?).check(),
            None => Ok(()),
        }
    }

    /// Waits until everything written to the log is on disk, for frames that were written without waiting. From then on
    /// they are promised to survive a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        let Some(file) = self.file.get() else { return Ok(()) };
        // First, so that frames written while this waits count too.
        self.is_synced.store(true, Ordering::SeqCst);
        file.sync_data().map_err(self.error())
    }

    /// Ensures that the frames of earlier transactions may be overwritten. If [`Wal::sync`] has put any on disk, the
    /// commit that makes them obsolete must be on disk too: `sync_commits` waits for that.
    ///
    /// # Errors
    /// Those of `sync_commits`. Then the frames must stay.
    pub fn may_overwrite(&self, sync_commits: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        if !self.is_synced.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        sync_commits().inspect_err(|_| self.is_synced.store(true, Ordering::SeqCst))
    }

    /// The open file; opens it if it exists.
    fn file(&self) -> Result<Option<&File>, StoreError> {
        if let Some(file) = self.file.get() {
            return Ok(Some(file));
        }
        match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => Ok(Some(self.file.get_or_init(|| file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error()(error)),
        }
    }

    /// Whether [`Wal::left`] finds any records.
    pub fn is_left(&self, txn: u64) -> Result<bool, StoreError> {
        Ok(!self.left(txn)?.is_empty())
    }

    /// The number in the first frame, whole or not. `None` if there is no file, or an empty one: a process created it
    /// and died before it filled it.
    fn first_number(&self) -> Result<Option<u64>, StoreError> {
        let Some(file) = self.file()? else { return Ok(None) };
        let mut number = [0; 8];
        match file.read_exact_at(&mut number, 0) {
            Ok(()) => Ok(Some(u64::from_le_bytes(number))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.error()(error)),
        }
    }

    /// The records left for the transaction `txn`, as [`Wal::left`], for the owner of the write lock. Erases frames of
    /// later transactions.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn take_over(&self, txn: u64) -> Result<Vec<u8>, StoreError> {
        match self.first_number()? {
            Some(number) if number == txn => self.records(txn),
            Some(number) if number > txn => self.erase().map(|()| Vec::new()),
            _ => Ok(Vec::new()),
        }
    }

    /// Overwrites the log with zeros, durably.
    fn erase(&self) -> Result<(), StoreError> {
        let Some(file) = self.file()? else { return Ok(()) };
        let len = file.metadata().map_err(self.error())?.len().min(LOG_BYTES as u64);
        file.write_all_at(&vec![0; len as usize], 0).and_then(|()| file.sync_data()).map_err(self.error())
    }

    /// The records left for the transaction `txn`, by a process that died before its commit or by a commit that failed:
    /// the records of all whole frames, each preceded by its length. Nearly always there are none, and then the call
    /// costs one small read.
    pub fn left(&self, txn: u64) -> Result<Vec<u8>, StoreError> {
        if self.first_number()? == Some(txn) { self.records(txn) } else { Ok(Vec::new()) }
    }

    /// The records of all whole frames of the transaction `txn`.
    fn records(&self, txn: u64) -> Result<Vec<u8>, StoreError> {
        let Some(file) = self.file()? else { return Ok(Vec::new()) };
        let mut bytes = vec![0; LOG_BYTES];
        let mut len = 0;
        while len < bytes.len() {
            match file.read_at(&mut bytes[len..], len as u64).map_err(self.error())? {
                0 => break,
                read => len += read,
            }
        }
        bytes.truncate(len);
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(frame) = self.frame(&bytes, at, txn) {
            records.extend_from_slice(frame);
            at += FRAME + frame.len();
        }
        Ok(records)
    }

    /// The records of the frame at `at`, if it is whole.
    fn frame<'b>(&self, bytes: &'b [u8], at: usize, txn: u64) -> Option<&'b [u8]> {
        let (header, rest) = bytes.get(at..)?.split_first_chunk::<FRAME>()?;
        let len = u32::from_le_bytes(*header[8..].first_chunk()?) as usize;
        let records = rest.get(..len)?;
        (*header == self.header(txn, at, records)).then_some(records)
    }

    fn header(&self, txn: u64, at: usize, records: &[u8]) -> [u8; FRAME] {
        let mut header = [0; FRAME];
        header[..8].copy_from_slice(&txn.to_le_bytes());
        header[8..12].copy_from_slice(&(records.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(at as u32).to_le_bytes());
        let mut hasher = SipHasher24::new_with_key(&self.secret.0);
        hasher.write(&header[..16]);
        hasher.write(records);
        header[16..].copy_from_slice(&hasher.finish().to_le_bytes());
        header
    }

    /// Writes `frame` at `at`: space for the header, then records. With `is_durable`, waits until the frame is on disk.
    ///
    /// # Errors
    /// When the disk fails. The caller must then acknowledge nothing of this frame before LMDB's commit.
    pub fn write(&self, txn: u64, at: usize, frame: &mut [u8], is_durable: bool) -> Result<(), StoreError> {
        let (header, records) = frame.split_first_chunk_mut::<FRAME>().expect("a frame begins with its header");
        *header = self.header(txn, at, records);
        let file = self.file()?.ok_or(StoreError::Damaged("the write-ahead log is gone"))?;
        file.write_all_at(frame, at as u64).map_err(self.error())?;
        if is_durable {
            // The blocks are allocated and written, so this syncs only the data.
            file.sync_data().map_err(self.error())?;
        }
        Ok(())
    }

    /// Creates the file, or completes one that an earlier attempt left short. Fills the whole file once, so that later
    /// writes need no space and change nothing but their own bytes.
    pub fn create(&self) -> Result<(), StoreError> {
        let is_whole = |file: &File| file.metadata().map(|found| found.len() >= LOG_BYTES as u64);
        if let Some(file) = self.file()?
            && is_whole(file).map_err(self.error())?
        {
            return Ok(());
        }
        let create = || {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&self.path)?;
            give_to_owner(&self.home, &self.path)?;
            file.write_all(&vec![0; LOG_BYTES])?;
            file.sync_all()?;
            sync_names(self.path.parent().unwrap_or(&self.home))?;
            Ok(file)
        };
        let file = create().map_err(self.error())?;
        self.file.get_or_init(|| file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal(directory: &Path) -> Wal {
        let wal = Wal::new(directory, directory, Secret([7; 16]));
        wal.create().expect("a log");
        wal
    }

    fn write(wal: &Wal, txn: u64, at: usize, records: &[u8]) -> usize {
        let mut frame = vec![0; FRAME];
        frame.extend_from_slice(records);
        wal.write(txn, at, &mut frame, true).expect("a write");
        at + frame.len()
    }

    #[test]
    fn frames_of_one_transaction_are_read_back_and_others_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let wal = wal(dir.path());
        assert!(!wal.is_left(0).expect("a read"), "zeros are not a frame");
        let second = write(&wal, 5, 0, b"one");
        write(&wal, 5, second, b"two");
        assert_eq!(wal.left(5).expect("a read"), b"onetwo");
        assert!(wal.is_left(5).expect("a read"));
        assert_eq!((wal.is_left(4).expect("a read"), wal.is_left(6).expect("a read")), (false, false));
        write(&wal, 6, 0, b"six");
        assert_eq!(wal.left(6).expect("a read"), b"six", "the second frame is of an older transaction");
        assert_eq!(wal.left(5).expect("a read"), b"", "its first frame is gone");
    }

    #[test]
    fn reading_ends_before_a_frame_that_was_cut_off_or_changed_anywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let wal = wal(dir.path());
        let second = write(&wal, 5, 0, b"first");
        let end = write(&wal, 5, second, b"second");
        let file = wal.file().expect("a file").expect("it was made");
        for at in second..end {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).expect("a read");
            file.write_all_at(&[byte[0] ^ 0x10], at as u64).expect("a write");
            assert_eq!(wal.left(5).expect("a read"), b"first", "byte {at}");
            file.write_all_at(&byte, at as u64).expect("a write");
        }
        for len in second..end {
            file.set_len(len as u64).expect("cut off");
            assert_eq!(wal.left(5).expect("a read"), b"first", "{len} bytes");
            file.set_len(0).expect("cut off");
            let again = write(&wal, 5, 0, b"first");
            write(&wal, 5, again, b"second");
        }
        assert_eq!(wal.left(5).expect("a read"), b"firstsecond");
    }

    #[test]
    fn frames_that_a_sync_put_on_disk_are_overwritten_only_after_their_commit_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let wal = wal(dir.path());
        let synced = std::cell::Cell::new(0);
        let overwrite = |result: fn() -> Result<(), StoreError>| {
            wal.may_overwrite(|| {
                synced.set(synced.get() + 1);
                result()
            })
        };
        overwrite(|| Ok(())).expect("nothing was synced by itself");
        assert_eq!(synced.get(), 0);
        wal.sync().expect("a sync");
        assert!(overwrite(|| Err(StoreError::Full)).is_err());
        overwrite(|| Ok(())).expect("the commits are on disk");
        assert_eq!(synced.get(), 2, "a sync that failed is done again");
        overwrite(|| Ok(())).expect("nothing was synced since");
        assert_eq!(synced.get(), 2);
    }

    #[test]
    fn frames_of_a_later_transaction_are_erased_by_the_next_owner_of_the_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let wal = wal(dir.path());
        let second = write(&wal, 7, 0, b"first");
        write(&wal, 7, second, b"second");
        assert_eq!(wal.take_over(7).expect("a read"), b"firstsecond");
        assert_eq!(wal.take_over(6).expect("a read"), b"");
        assert_eq!(std::fs::read(dir.path().join(LOG_FILE)).expect("the log"), vec![0; LOG_BYTES]);
        write(&wal, 7, 0, b"other");
        assert_eq!(wal.take_over(8).expect("a read"), b"");
        assert_eq!(wal.take_over(7).expect("a read"), b"other", "an older one is left alone");
    }

    #[test]
    fn a_log_of_another_store_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&wal(dir.path()), 5, 0, b"theirs");
        let other = Wal::new(dir.path(), dir.path(), Secret([8; 16]));
        assert!(!other.is_left(5).expect("a read"));
    }

    #[test]
    fn a_log_that_was_not_finished_is_created_again() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(LOG_FILE), b"short").expect("a file");
        let wal = wal(dir.path());
        assert_eq!(std::fs::metadata(dir.path().join(LOG_FILE)).expect("a file").len(), LOG_BYTES as u64);
        write(&wal, 1, 0, b"one");
        assert_eq!(wal.left(1).expect("a read"), b"one");
    }
}
