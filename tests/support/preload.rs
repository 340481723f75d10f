//! Libraries in front of the system's calls of one process (LD_PRELOAD), compiled from C when a test needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source`, a path in this package, into a library called `name`.
pub fn compiled(source: &str, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let (library, partial) = (format!("{name}.so"), format!("{name}-{}.so", std::process::id()));
    let [library, partial] = [library, partial].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    let flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
    let status = Command::new("cc").args(flags).arg(&partial).arg(&source).arg("-ldl").status();
    assert!(status.expect("cc runs: weir is built with a C compiler").success(), "{} is compiled", source.display());
    // Another run may have the old one loaded.
    std::fs::rename(partial, &library).expect("the library takes its place");
    library
}
