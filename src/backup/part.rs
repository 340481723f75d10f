//! Files of rows, hashed while they are written and read. They are written once and read from beginning to end.
//!
//! | offset | bytes | field                                                       |
//! |-------:|------:|-------------------------------------------------------------|
//! |      0 |     8 | magic                                                       |
//! |      8 |     … | rows: length of the head (1 byte), of the body (4, big-endian), head, body |
//!
//! The head of a record is its arrival number in six bytes, that of a tombstone is the number of its table and its key.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::BackupError;
use super::file::{Listed, create_file};
use crate::nostr::hex;
use crate::store::{Seq, keys};

pub(super) const MAGIC: [u8; 8] = *b"weir\0bak";

/// The maximum length of a body: no record is longer, and a damaged length must not allocate gigabytes.
const LONGEST: u32 = 1 << 28;

/// The least bytes of a record: the two lengths and its arrival number.
pub(super) const LEAST_RECORD_BYTES: u64 = 1 + 4 + keys::SIX as u64;

const BUFFER: usize = 1 << 20;

/// A part is closed once it has this many bytes, so that rewriting one stays cheap.
const LARGE: u64 = 1 << 30;

/// The head and the body of a row.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Writes a part.
pub(super) struct PartWriter {
    out: BufWriter<File>,
    hash: Sha256,
    path: PathBuf,
    listed: Listed,
}

impl PartWriter {
    pub fn new(dir: &Path, name: String) -> Result<Self, BackupError> {
        let path = dir.join(&name);
        let file = create_file(&path).map_err(BackupError::io(&path))?;
        let listed = Listed { name, bytes: 0, sha256: String::new(), rows: 0, first_seq: 0, last_seq: 0 };
        let mut part = Self { out: BufWriter::with_capacity(BUFFER, file), hash: Sha256::new(), path, listed };
        part.write(&MAGIC)?;
        Ok(part)
    }

    /// Whether the next record should go into another part.
    pub fn is_large(&self) -> bool {
        self.listed.bytes >= LARGE
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        self.listed.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(BackupError::io(&self.path))
    }

    /// Writes rows that [`put_row`] encoded into `bytes`.
    pub fn rows(&mut self, bytes: &[u8], rows: u64) -> Result<(), BackupError> {
        self.listed.rows += rows;
        self.write(bytes)
    }

    /// Writes records that [`put_record`] encoded into `bytes`.
    pub fn records(&mut self, bytes: &[u8], seqs: &[Seq]) -> Result<(), BackupError> {
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(()) };
        if self.listed.rows == 0 {
            self.listed.first_seq = first.0;
        }
        self.listed.last_seq = last.0;
        self.rows(bytes, seqs.len() as u64)
    }

    /// Closes the file durably.
    pub fn finish(self) -> Result<Listed, BackupError> {
        let Self { out, hash, path, mut listed } = self;
        let file =
            out.into_inner().map_err(|error| BackupError::Io { path: path.clone(), source: error.into_error() })?;
        file.sync_all().map_err(BackupError::io(&path))?;
        listed.sha256 = hex::encode(&hash.finalize());
        Ok(listed)
    }
}

/// Appends a row.
pub(super) fn put_row(head: &[u8], body: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(head.len()).expect("a head is a number or a key of at most 32 bytes"));
    out.extend_from_slice(&u32::try_from(body.len()).expect("a record is below 256 MiB").to_be_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(body);
}

/// Appends a record.
pub(super) fn put_record(seq: Seq, record: &[u8], out: &mut Vec<u8>) {
    put_row(&keys::six(seq.0), record, out);
}

/// Reads a part and compares it with its entry in the manifest.
pub(super) struct PartReader<'m> {
    file: BufReader<File>,
    hash: Sha256,
    path: PathBuf,
    listed: &'m Listed,
    bytes_left: u64,
    rows: u64,
}

impl<'m> PartReader<'m> {
    pub fn open(dir: &Path, listed: &'m Listed) -> Result<Self, BackupError> {
        let path = dir.join(&listed.name);
        let file = File::open(&path).map_err(BackupError::io(&path))?;
        let bytes = file.metadata().map_err(BackupError::io(&path))?.len();
        if bytes != listed.bytes {
            return Err(BackupError::damaged(&path, "it has a different length"));
        }
        let file = BufReader::with_capacity(BUFFER, file);
        let mut part = Self { file, hash: Sha256::new(), path, listed, bytes_left: bytes, rows: 0 };
        if part.take(MAGIC.len())? == MAGIC { Ok(part) } else { Err(part.damaged("it is not a file of a backup")) }
    }

    /// The error that this file is damaged.
    pub fn damaged(&self, what: &'static str) -> BackupError {
        BackupError::damaged(&self.path, what)
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, BackupError> {
        self.bytes_left = self.bytes_left.checked_sub(len as u64).ok_or_else(|| self.damaged("it is cut short"))?;
        let mut bytes = vec![0; len];
        self.file.read_exact(&mut bytes).map_err(BackupError::io(&self.path))?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// The next bytes, undecoded; `None` at the end, after comparing the hash.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        match self.bytes_left.min(BUFFER as u64) {
            0 => self.compare_hash().map(|()| None),
            bytes => self.take(bytes as usize).map(Some),
        }
    }

    /// The next row; `None` at the end, after comparing the hash.
    pub fn row(&mut self) -> Result<Option<Row>, BackupError> {
        if self.bytes_left == 0 {
            self.compare_hash()?;
            let is_all = self.rows == self.listed.rows;
            return if is_all { Ok(None) } else { Err(self.damaged("it has a different number of rows")) };
        }
        let head_len = self.take(1)?[0];
        let body_len = u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were asked for"));
        if body_len > LONGEST {
            return Err(self.damaged("a row is too long"));
        }
        self.rows += 1;
        Ok(Some((self.take(head_len.into())?, self.take(body_len as usize)?)))
    }

    /// The next record. Arrival numbers must ascend, and lie where the manifest says.
    pub fn record(&mut self, last: &mut Seq) -> Result<Option<(Seq, Vec<u8>)>, BackupError> {
        let Some((head, record)) = self.row()? else { return Ok(None) };
        let listed = self.listed.first_seq..=self.listed.last_seq;
        let seq = keys::read_six(&head).filter(|seq| head.len() == keys::SIX && *seq > last.0 && listed.contains(seq));
        let seq = Seq(seq.ok_or_else(|| self.damaged("an arrival number is out of order"))?);
        *last = seq;
        Ok(Some((seq, record)))
    }

    /// Compares the hash of the file, which must have been read to the end, with the manifest.
    fn compare_hash(&self) -> Result<(), BackupError> {
        let hash = hex::encode(&self.hash.clone().finalize());
        if hash == self.listed.sha256 { Ok(()) } else { Err(self.damaged("the SHA-256 does not match")) }
    }
}
