//! The new process's end of a hand-over.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context as _;

use super::sockets::Inherited;
use super::words::{BYE, MAX_LINE, READY, SERVING, TAKE, TAKE_OVER};

/// How long the old process may take to say the next word: longer than it waits for this one.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The relay that this process is to replace.
pub struct Predecessor(BufReader<UnixStream>);

impl Predecessor {
    /// The relay that started this process to be replaced by it, if one did, and its sockets.
    ///
    /// # Errors
    /// When standard input is not the conversation that it should be.
    pub fn find() -> anyhow::Result<(Option<Self>, Inherited)> {
        if std::env::var_os(TAKE_OVER).is_none() {
            return Ok((None, Inherited::default()));
        }
        let find = || {
            let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            // What this process starts later shall not find it.
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            let inherited = Inherited::receive(&stream)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            anyhow::Ok((Some(Self(BufReader::new(stream))), inherited))
        };
        find().with_context(|| format!("{TAKE_OVER} is set, but no relay hands over its sockets at standard input"))
    }

    /// Waits until the store is this process's: the old one stores no more events of clients, or is dead.
    ///
    /// # Errors
    /// When the old process says something else.
    pub fn take_over(&mut self) -> anyhow::Result<()> {
        // A process that has died does not listen, and its end is found below.
        let _ = self.say(READY);
        match self.hear()?.as_deref() {
            Some(TAKE) => Ok(()),
            None => {
                tracing::warn!("the former process died before it handed over");
                Ok(())
            }
            Some(other) => anyhow::bail!("the former process sent {other:?} instead of {TAKE:?}"),
        }
    }

    /// Tells the old process that this one serves, and waits until systemd was told too.
    pub fn serve(mut self) {
        let _ = self.say(SERVING);
        match self.hear() {
            Ok(Some(word)) if word == BYE => {}
            Ok(None) => {}
            other => tracing::warn!(?other, "the former process did not confirm that it leaves"),
        }
    }

    fn say(&self, word: &str) -> std::io::Result<()> {
        self.0.get_ref().write_all(format!("{word}\n").as_bytes())
    }

    /// The next line; `None` when the old process has ended.
    fn hear(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        match self.0.by_ref().take(MAX_LINE as u64).read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line.trim_end().into())),
            // It died with lines of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_taken_when_the_old_process_says_so_or_is_dead_and_not_otherwise() {
        for (said, expected) in [("take\nbye\n", true), ("", true), ("tak", false), ("stay\n", false)] {
            let (mut old, new) = UnixStream::pair().expect("a pair");
            old.write_all(said.as_bytes()).expect("it is sent");
            let mut predecessor = Predecessor(BufReader::new(new));
            if !said.starts_with("take") {
                drop(old);
            }
            assert_eq!(predecessor.take_over().is_ok(), expected, "{said:?}");
        }
    }
}
