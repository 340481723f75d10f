//! The fuzz targets of the configuration file and of strfry's router file.

use std::time::Duration;

use super::strfry::{self, Outside};
use super::{Config, ConfigError};

const FILE: &str = "weir.toml";

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "[server]\nlisten = \"127.0.0.1:0\"\nping_after_s = \"2m\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n",
        "[storage]\nmax_bytes = \"40 GiB\"\n[[storage.retention]]\nkinds = [1, \"30000-39999\"]\nkeep = { max_age = \"30d\" }\n",
        "[[storage.retention]]\nkinds = [7]\nmax_events = 5\n[[storage.retention]]\nkeep = \"none\"\n",
        "tiers.listed.max_limit = 9000\n[tiers.anonymous]\nevents = { per_second = 7, burst = 3 }\n",
        "[limits]\nmax_filters = 0\nmax_limit = -1\nmin_pow_difficulty = 300\nmax_fliters = 3\n",
        "[access]\nlisted_pubkeys = [\"npub1\", \"abc\"]\nkinds = [70000]\n",
        "[info]\nname = \"\\u00e9\"\nfees = { admission = [{ amount = 1, unit = \"msats\" }] }\n[log]\nlevel = 3\n",
        "limits = 5\n[memory]\nfilters = 1\nfilters = 2\n",
        "[verify]\nengine = \"fastest\"\n[pipeline]\nio_threads = 1e3\ncommit_interval_ms = 1979-05-27\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A text is a configuration that survives being written and read, or every mistake in it names its file, the key
/// unless the text is no TOML, and the line unless the key is not in the text.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let error = match Config::parse(FILE, text) {
        Ok(config) => {
            let again = Config::parse(FILE, &config.to_toml()).expect("what was valid is valid when it is written");
            assert_eq!(again, config);
            assert_eq!(config.changes(&again), config.changes(&config));
            config.warnings().iter().for_each(|warning| assert!(!warning.is_empty()));
            return assert!(config.validate().is_ok());
        }
        Err(error) => error,
    };
    let said = error.to_string();
    let ConfigError::Wrong { file, problems } = error else { panic!("nothing was opened") };
    assert!(file == FILE && !problems.is_empty(), "{said}");
    let is_toml = text.parse::<toml::Table>().is_ok();
    for problem in &problems {
        assert!(!is_toml || !problem.key.is_empty(), "{said}");
        let lines = text.split('\n').count();
        match problem.place {
            Some((line, column)) => {
                let length = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
                assert!(line <= lines && (1..=length + 1).contains(&column), "{said}");
            }
            None => assert!(is_toml, "{said}"),
        }
        assert!(!problem.text.is_empty(), "{said}");
    }
    assert!(said.lines().next().is_some_and(|line| line.starts_with(FILE)), "{said}");
}

pub(crate) fn router_seeds() -> Vec<Vec<u8>> {
    let streams = [
        "connectionTimeout = 20 verbose = true streams { a { dir = \"down\" urls = [\"wss://relay\"] } }",
        "streams { b { dir: 'both', urls: ['relay.example', \"ws://[::1]:7777/x\"], filter { kinds = [0 3] limit = 1 } } }",
        "streams.c { dir = \"up\" urls = [\"wss://a\"] pluginUp = \"/bin/up\" } streams += { d = 5 } more = 1",
        "/* none */ streams { } # at all",
    ];
    streams.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Any text is a router file whose streams can be run, or has mistakes, each with a place in the text.
pub(crate) fn router(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let outside = Outside { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let Ok(root) = strfry::parse("router.conf", text, &outside) else { return };
    let remarks = match strfry::router(&root) {
        Ok(file) => {
            let streams = &file.replication.streams;
            assert!(streams.iter().all(|stream| stream.stream(Duration::from_secs(1)).is_some()), "{streams:?}");
            assert!(streams.iter().map(|stream| stream.urls.len()).sum::<usize>() <= 256);
            file.warnings
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            errors
        }
    };
    let lines = text.split('\n').count();
    for remark in remarks {
        assert!((1..=lines).contains(&remark.place.line) && remark.place.column > 0, "{remark}");
        assert!(!remark.key.is_empty() && !remark.text.is_empty(), "{remark:?}");
    }
}
