//! The free space of the file system, and a reserve in it for deletions.
//!
//! When the disk is nearly full, blocks behind the end of the data file are allocated in advance without changing its
//! length (`fallocate(2)`, `FALLOC_FL_KEEP_SIZE`). When that fails, events are refused before the writer meets the full
//! disk, and deletions can still use those blocks. Nothing here waits or writes data.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::store::{Room, Space, Store};

/// The largest reserve, in bytes.
const RESERVE: u64 = 16 << 20;

/// Watches the disk of one store.
#[derive(Default)]
pub struct Disk {
    /// The file, and the offset up to which it has blocks.
    allocated: Option<(PathBuf, u64)>,
    /// The file system cannot allocate in advance, so only the watermark counts.
    is_unable: bool,
    is_low: bool,
}

impl Disk {
    /// Whether there is too little space for anything but deletions: less than the watermark, or too little for the
    /// reserve. It ends when 1/16 more than the watermark is free.
    pub fn watch(&mut self, store: &Store, space: Space, room: Room, min_free_bytes: u64) -> bool {
        let mark = if self.is_low { min_free_bytes + min_free_bytes / 16 } else { min_free_bytes };
        self.is_low = space.free_bytes < mark || !self.reserve(store, space, room);
        self.is_low
    }

    /// Whether the disk may fill up within moments.
    #[must_use]
    pub fn is_near(space: Space, min_free_bytes: u64) -> bool {
        space.free_bytes < min_free_bytes + 8 * RESERVE
    }

    /// Allocates the reserve if it may be needed; false when there is no space for it.
    fn reserve(&mut self, store: &Store, space: Space, room: Room) -> bool {
        let reserve = (space.total_bytes / 64).clamp(1 << 20, RESERVE);
        if self.is_unable || space.free_bytes > 8 * RESERVE {
            return space.free_bytes > 0;
        }
        // The store may have moved to another file since.
        let path = store.data_file();
        let has_blocks = |(of, bytes): &(PathBuf, u64)| *of == path && *bytes >= room.file_bytes + reserve / 2;
        if self.allocated.as_ref().is_some_and(has_blocks) {
            return true;
        }
        match File::options().write(true).open(&path).and_then(|file| allocate(&file, room.file_bytes, reserve)) {
            Ok(()) => {
                self.allocated = Some((path, room.file_bytes + reserve));
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => false,
            // No descriptor is free; the next check tries again.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) => true,
            Err(error) => {
                tracing::info!(%error, "no room can be held in reserve on this file system");
                self.is_unable = true;
                true
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
