//! The local socket of a running relay, `admin.sock` in the directory of its store: where it is, how it is bound, and
//! the client's side of what is spoken there.
//!
//! Both sides send lines of JSON. A request is one of NIP-86, `{"method":…,"params":[…]}`; its answer is
//! `{"result":…}` or `{"error":"…"}`. Any number of `{"progress":…}` may come before. Whoever may open the file may do
//! everything, so only its owner and root can.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// The name of the socket.
pub const NAME: &str = "admin.sock";

/// The longest answer. Lists end at 4 MiB.
pub const MAX_ANSWER: usize = 16 << 20;

/// The longest request.
pub const MAX_REQUEST: usize = 64 << 10;

/// How long a client waits for a line. A purge tells its progress more often.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The longest path that fits in an address (unix(7)).
const MAX_PATH: usize = 107;

/// A bound socket, removed when dropped.
pub struct Bound {
    path: PathBuf,
    inode: u64,
}

/// Binds the socket of the relay whose store is in `data`, in place of one that an earlier relay left there.
///
/// # Errors
/// When the directory cannot be written.
pub fn bind(data: &Path) -> io::Result<(Bound, UnixListener)> {
    let path = data.join(NAME);
    // Nobody may connect before the file has its permissions, so it is bound where nobody else gets to.
    let private = data.join(".admin-new");
    let bound = private.join("s");
    match DirBuilder::new().mode(0o700).create(&private) {
        // Of a process that was killed here.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(fs::remove_file(&bound)),
        created => created?,
    }
    let listener = short(&bound, |path| UnixListener::bind(path)).and_then(|listener| {
        fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&bound)?.ino();
        fs::rename(&bound, &path)?;
        Ok((Bound { path, inode }, listener))
    });
    if listener.is_err() {
        // What failed is told; these are only leftovers.
        let _ = fs::remove_file(&bound);
    }
    fs::remove_dir(&private)?;
    listener
}

impl Drop for Bound {
    fn drop(&mut self) {
        // A relay that took over has bound its own.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // The next relay takes its place if this fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Calls `with` with a path to the same file that fits in an address.
fn short<T>(path: &Path, with: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_PATH {
        return with(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return with(path) };
    let dir = File::open(dir)?;
    with(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// A connection to a running relay.
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the relay whose store is in `data`; `None` when none runs.
    ///
    /// # Errors
    /// When there is a relay but it cannot be reached, for example because it is another user's.
    pub fn connect(data: &Path) -> io::Result<Option<Self>> {
        match short(&data.join(NAME), |path| UnixStream::connect(path)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Some(Self { reader: BufReader::new(stream) }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls a method and waits for its result. `progress` is told what comes before.
    ///
    /// # Errors
    /// Outside, when the relay does not answer; inside, what it says is wrong.
    pub fn call(
        &mut self,
        method: &str,
        params: Value,
        mut progress: impl FnMut(&Value),
    ) -> io::Result<Result<Value, String>> {
        let request = json!({ "method": method, "params": params }).to_string() + "\n";
        self.reader.get_mut().write_all(request.as_bytes())?;
        loop {
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut self.reader, MAX_ANSWER as u64);
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.len() == MAX_ANSWER {
                return Err(io::Error::other("the answer is longer than 16 MiB"));
            }
            let mut answer: Value = serde_json::from_slice(&line)?;
            if let Some(now) = answer.get("progress") {
                progress(now);
            } else if let Some(error) = answer.get("error").and_then(Value::as_str) {
                return Ok(Err(error.into()));
            } else {
                return Ok(Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()));
            }
        }
    }
}
