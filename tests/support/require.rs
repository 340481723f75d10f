//! What a machine may lack. A test that needs it is skipped there, with a line that says so, unless `WEIR_REQUIRE`
//! names it: then the test fails. So a test can only be skipped on a machine that nobody said has what it needs.
//!
//! `WEIR_REQUIRE` is a list such as `avx512,mount,root`; `.ci/run` sets it to what the machine has.

/// What a test may need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A CPU with AVX-512 IFMA.
    Avx512,
    /// The right to mount file systems, in memory and from a file.
    Mount,
    /// The right to give files to other users.
    Root,
    /// Real events: a file that is not part of the repository.
    Corpus,
    /// A server of NATS.
    Nats,
}

impl Need {
    const ALL: [Self; 5] = [Self::Avx512, Self::Mount, Self::Root, Self::Corpus, Self::Nats];

    const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Mount => "mount",
            Self::Root => "root",
            Self::Corpus => "corpus",
            Self::Nats => "nats",
        }
    }
}

/// Whether a test can run, given whether the machine has what it needs.
///
/// # Panics
/// When the machine lacks it and `WEIR_REQUIRE` names it, or `WEIR_REQUIRE` names something unknown.
#[track_caller]
pub fn has(need: Need, is_there: bool) -> bool {
    let required = std::env::var("WEIR_REQUIRE").unwrap_or_default();
    if let Err(why) = decide(&required, need, is_there) {
        panic!("{why}");
    }
    if !is_there {
        eprintln!("skipped: this machine lacks what WEIR_REQUIRE calls {}", need.name());
    }
    is_there
}

fn decide(required: &str, need: Need, is_there: bool) -> Result<(), String> {
    let names = || required.split(',').map(str::trim).filter(|name| !name.is_empty());
    if let Some(unknown) = names().find(|name| Need::ALL.iter().all(|need| need.name() != *name)) {
        return Err(format!("WEIR_REQUIRE names {unknown:?}, which no test needs"));
    }
    if !is_there && names().any(|name| name == need.name()) {
        return Err(format!("WEIR_REQUIRE names {}, and this machine lacks it", need.name()));
    }
    Ok(())
}

#[test]
fn a_test_is_skipped_only_where_nobody_required_what_it_needs() {
    assert_eq!(decide("", Need::Mount, false), Ok(()));
    assert_eq!(decide("avx512, root,", Need::Mount, false), Ok(()));
    assert_eq!(decide("avx512,mount,root", Need::Mount, true), Ok(()));
    let lacking = Err("WEIR_REQUIRE names mount, and this machine lacks it".to_owned());
    assert_eq!(decide("avx512, mount", Need::Mount, false), lacking);
    let unknown = Err("WEIR_REQUIRE names \"avx\", which no test needs".to_owned());
    assert_eq!(decide("avx,mount", Need::Mount, true), unknown);
}
