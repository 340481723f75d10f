//! Rewrites parts: drops records that no remembered state holds, and joins small parts when there are many.
//!
//! A part is never changed in place: the new file becomes part of the backup when the manifest lists it.

use std::path::Path;

use super::contents;
use super::error::BackupError;
use super::file::Listed;
use super::part::{PartReader, PartWriter, put_record};
use super::seq_set::SeqSet;
use crate::store::Seq;

/// With more parts than this, adjacent small ones are joined.
const MANY_PARTS: usize = 64;

/// Parts below this size count as small.
const SMALL_BYTES: u64 = 64 << 20;

/// When a part is rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RewriteWhen {
    /// Once half of its records are unused, so that each byte is written at most twice.
    HalfIsUnused,
    /// As soon as one record is unused.
    AnyIsUnused,
}

impl RewriteWhen {
    const fn is_due(self, needed: u64, rows: u64) -> bool {
        match self {
            Self::HalfIsUnused => needed * 2 < rows,
            Self::AnyIsUnused => needed < rows,
        }
    }
}

/// Rewrites the parts that are due, keeping only the `needed` records; other parts stay as they are. `run` is used in
/// the names of new files.
pub(super) fn parts(
    dir: &Path,
    run: u64,
    records: Vec<Listed>,
    needed: &SeqSet,
    when: RewriteWhen,
) -> Result<Vec<Listed>, BackupError> {
    let is_many = records.len() > MANY_PARTS;
    let (mut kept, mut part): (Vec<Listed>, Option<PartWriter>) = (Vec::new(), None);
    let mut counted = needed.ascending();
    for listed in records {
        let rows = counted.count(listed.first_seq..listed.last_seq + 1);
        let is_to_be_joined = is_many && listed.bytes < SMALL_BYTES;
        if !when.is_due(rows, listed.rows) && !is_to_be_joined {
            kept.extend(part.take().map(PartWriter::finish).transpose()?);
            kept.push(listed);
            continue;
        }
        if rows == 0 {
            continue;
        }
        let out = match &mut part {
            Some(part) => part,
            None => part.insert(PartWriter::new(dir, unused_name(dir, run))?),
        };
        copy(dir, &listed, needed, out)?;
        if out.is_large() {
            kept.extend(part.take().map(PartWriter::finish).transpose()?);
        }
    }
    kept.extend(part.map(PartWriter::finish).transpose()?);
    Ok(kept)
}

/// An unused file name: pruning twice after one run must not overwrite the files of the first time.
fn unused_name(dir: &Path, run: u64) -> String {
    let names = (0_u64..).map(|number| format!("records-{run}-rewritten-{number}.weir"));
    names.into_iter().find(|name| !dir.join(name).exists()).expect("a directory holds fewer than 2^64 files")
}

fn copy(dir: &Path, listed: &Listed, needed: &SeqSet, out: &mut PartWriter) -> Result<(), BackupError> {
    let (mut part, mut last, mut needed) = (PartReader::open(dir, listed)?, Seq(0), needed.ascending());
    while let Some((seq, record)) = part.record(&mut last)? {
        if needed.contains(seq) {
            contents::event(&part, &record)?;
            let mut bytes = Vec::new();
            put_record(seq, &record, &mut bytes);
            out.records(&bytes, &[seq])?;
        }
    }
    Ok(())
}
