//! Tests of reading, checking and comparing configurations.

use super::*;

const SAMPLE: &str = include_str!("../../config/weir.toml");

fn errors(text: &str) -> Vec<String> {
    let error = Config::parse("weir.toml", text).expect_err("an error");
    error.to_string().lines().map(String::from).collect()
}

#[test]
fn the_sample_file_holds_every_key_at_its_default() {
    assert_eq!(Config::parse("weir.toml", SAMPLE).expect("the sample is valid"), Config::default());
    let mut missing = Vec::new();
    let sample: toml::Table = SAMPLE.parse().expect("the sample is TOML");
    let default: toml::Table = Config::default().to_toml().parse().expect("the default is TOML");
    missing_keys(&default, &sample, "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

fn missing_keys(wanted: &toml::Table, held: &toml::Table, prefix: &str, missing: &mut Vec<String>) {
    for (name, value) in wanted {
        let path = format!("{prefix}{name}");
        match (value.as_table(), held.get(name)) {
            (_, None) => missing.push(path),
            (Some(wanted), Some(held)) => {
                let held = held.as_table().expect("a section");
                missing_keys(wanted, held, &format!("{path}."), missing);
            }
            (None, Some(_)) => {}
        }
    }
}

#[test]
fn every_key_of_the_sample_file_has_a_comment_before_it() {
    let mut commented = false;
    for line in SAMPLE.lines() {
        let is_key = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_key || commented, "no comment before: {line}");
        commented = line.starts_with('#') || (commented && is_key);
    }
}

#[test]
fn no_file_at_all_is_a_valid_configuration() {
    assert_eq!(Config::parse("weir.toml", "").expect("valid"), Config::default());
    assert!(Config::default().validate().is_ok());
    let again = Config::parse("weir.toml", &Config::default().to_toml()).expect("valid");
    assert_eq!(again, Config::default());
}

#[test]
fn a_silent_client_is_pinged_before_any_common_proxy_cuts_it_off() {
    // haproxy's example configurations cut off after 50 s, nginx and most load balancers after 60 s; a ping that is
    // lost is to be followed by another one before that.
    assert!((25..=30).contains(&Config::default().server.ping_after_s));
}

#[test]
fn developers_of_clients_are_told_the_defaults() {
    let page = include_str!("../../docs/clients.md").split_whitespace().collect::<Vec<_>>().join(" ").replace(',', "");
    let Config { server, rates, tiers, .. } = Config::default();
    let anonymous = tiers.anonymous.events;
    for told in [
        format!("{} EVENTs at once and then {} a second", anonymous.burst, anonymous.per_second),
        format!("from one address {} and {}.", rates.events.burst, rates.events.per_second),
        format!("wait for more than {} seconds", rates.refuse_after_s),
        format!("closes the connection above {} seconds", rates.close_after_s),
        format!("pings a connection after {} seconds of silence", server.ping_after_s),
    ] {
        assert!(page.contains(&told), "{told}");
    }
}

#[test]
fn a_section_or_a_rate_can_be_given_in_part() {
    let text = "tiers.listed.max_limit = 9000\n[tiers.anonymous]\nevents.per_second = 7\n";
    let config = Config::parse("weir.toml", text).expect("valid");
    let mut expected = Config::default();
    expected.tiers.listed.max_limit = 9000;
    expected.tiers.anonymous.events.per_second = 7;
    assert_eq!(config, expected);
}

#[test]
fn an_unknown_key_is_reported_with_its_place_and_the_nearest_known_one() {
    let text = "[limits]\nmax_filtres = 1\nmax_subscriptions = 5\nqwertyuiop = 1\n\n[limit]\nx = 1\n[tiers.anonymous]\n events = { per_secnd = 1 }\n";
    assert_eq!(
        errors(text),
        [
            "weir.toml:2:1: limits.max_filtres: unknown key; did you mean max_filters?",
            "weir.toml:3:1: limits.max_subscriptions: unknown key; did you mean tiers.anonymous.max_subscriptions?",
            "weir.toml:4:1: limits.qwertyuiop: unknown key",
            "weir.toml:6:2: limit: unknown key; did you mean limits?",
            "weir.toml:9:13: tiers.anonymous.events.per_secnd: unknown key; did you mean per_second?",
        ]
    );
}

#[test]
fn every_value_of_the_wrong_type_is_reported_with_its_place() {
    let text = "[limits]\nmax_filters = \"many\"\ndefault_limit = -1\n[access]\ndeny_addresses = [\"10.0.0.1\", \"10.0.0.0/40\"]\ndeny_kinds = [1, \"7-1\"]\nallow_pubkeys = [\"nsec1x\"]\n[auth]\nread = \"nobody\"\nurls = [\"https://x\"]\n";
    let said = errors(text);
    let starts = [
        "weir.toml:2:15: limits.max_filters: invalid type: string \"many\"",
        "weir.toml:3:17: limits.default_limit: invalid value: integer `-1`",
        "weir.toml:5:31: access.deny_addresses: \"10.0.0.0/40\" is neither an address such as",
        "weir.toml:6:18: access.deny_kinds: invalid value: string \"7-1\"",
        "weir.toml:7:18: access.allow_pubkeys: this is a private key",
        "weir.toml:9:8: auth.read: unknown variant `nobody`",
        "weir.toml:10:9: auth.urls: \"https://x\" is not a ws:// or wss:// URL",
    ];
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (said, start) in said.iter().zip(starts) {
        assert!(said.starts_with(start), "{said}\n{start}");
    }
}

#[test]
fn a_value_of_the_wrong_type_in_a_list_of_tables_names_its_table_and_key_and_hides_no_other() {
    let rules =
        "[[storage.retention]]\nkinds = [7]\nkeep = \"none\"\nauthors = 5\n[[storage.retention]]\nkeep = \"some\"\n";
    assert_eq!(
        errors(&format!("{rules}[log]\nlevel = 3\n")),
        [
            "weir.toml:3:8: storage.retention[1].keep: unknown variant `none`, expected `forever`",
            "weir.toml:4:11: storage.retention[1].authors: invalid type: integer `5`, expected a list of keys",
            "weir.toml:6:8: storage.retention[2].keep: unknown variant `some`, expected `forever`",
            "weir.toml:8:9: log.level: invalid type: integer `3`, expected a string",
        ]
    );
}

#[test]
fn nothing_is_called_missing_that_is_there_and_wrong() {
    let stream = |name: &str, keys: &str| format!("[[replication.streams]]\nname = \"{name}\"\n{keys}\n");
    let text = [
        "[server]\n".into(),
        stream("a", "dir = \"dwn\"\nurls = [\"wss://r\"]"),
        stream("b", "dir = \"up\"\nurl = [\"wss://r\"]"),
        stream("c", "dir = \"up\"\nurls = 5"),
        stream("d", ""),
    ]
    .concat();
    let fields = "`name`, `dir`, `urls`, `catch_up_s`, `key_file`, `ca_file`, `filter`";
    assert_eq!(
        errors(&text),
        [
            "weir.toml:4:7: replication.streams[1].dir: unknown variant `dwn`, expected one of `down`, `up`, `both`",
            "weir.toml:6:1: replication.streams[2]: missing field `urls`",
            &format!("weir.toml:9:1: replication.streams[2].url: unknown field `url`, expected one of {fields}"),
            "weir.toml:13:8: replication.streams[3].urls: invalid type: integer `5`, expected a sequence",
            "weir.toml:14:1: replication.streams[4]: missing field `dir`",
        ]
    );
}

#[test]
fn a_syntax_error_is_reported_with_its_place() {
    let said = errors("[limits]\nmax_filters = \n");
    assert!(said[0].starts_with("weir.toml:2:15: "), "{said:?}");
    let said = errors("[limits]\nmax_filters = 1\nmax_filters = 2\n");
    assert!(said[0].starts_with("weir.toml:3:1: "), "{said:?}");
    assert!(Config::parse("weir.toml", "limits = 5").is_err());
    assert!(Config::parse("weir.toml", "limits.max_filters.x = 5").is_err());
}

#[test]
fn values_that_contradict_each_other_are_all_reported() {
    let text = "[limits]\ndefault_limit = 1500\nmax_filters = 0\n[auth]\nwrite = \"listed\"\n[storage]\nmap_bytes = 1048576\nmax_bytes = 1048577\n[rates]\nevents.burst = 0\n";
    assert_eq!(
        errors(text),
        [
            "weir.toml:8:1: storage.max_bytes: exceeds map_bytes, which is 1048576",
            "weir.toml:3:1: limits.max_filters: 0 is below the minimum of 1",
            "weir.toml: tiers.anonymous.max_limit: 1000 is below limits.default_limit, which is 1500",
            "weir.toml:10:1: rates.events: a burst of 0 blocks everything; use at least 1, or per_second = 0 for no limit",
            "weir.toml:5:1: auth.write: access.listed_pubkeys is empty, so this locks everyone out",
        ]
    );
}

#[test]
fn a_plugin_that_could_judge_nothing_is_reported() {
    let text = "[plugin]\ncommand = \" /etc/weir/policy\"\nworkers = 65\nin_flight = 0\ntimeout_ms = 0\nsources = []\n";
    assert_eq!(
        errors(text),
        [
            "weir.toml:3:1: plugin.workers: 65 is not between 1 and 64",
            "weir.toml:4:1: plugin.in_flight: 0 is not between 1 and 4096",
            "weir.toml:5:1: plugin.timeout_ms: 0 is not between 1 and 3600000",
            "weir.toml:2:1: plugin.command: must be one line without spaces around it",
            "weir.toml:6:1: plugin.sources: an empty list asks about nothing; to use no plugin, leave command empty",
        ]
    );
    assert!(
        errors("plugin.on_failure = \"ignore\"")[0].contains("unknown variant `ignore`, expected `reject` or `accept`")
    );
    let old = Config::default();
    let new = Config::parse("weir.toml", "plugin.command = \"policy\"\nplugin.workers = 3").expect("valid");
    let live = ["plugin.command", "plugin.workers"].map(String::from).to_vec();
    assert_eq!(old.changes(&new), Changes { live, restart: Vec::new() });
    assert_eq!(old.with_live_sections_of(new.clone()).settings().plugin, new.plugin);
}

#[test]
fn rules_that_select_nothing_or_contradict_themselves_are_reported_with_their_place() {
    let text = "[storage]\nmax_bytes = 0\n\n[[storage.retention]]\nkinds = [1]\n\n[[storage.retention]]\nauthors = []\n  max_age = \"1h\"\n[[storage.retention]]\nkeep = \"forever\"\nmax_age = \"1d\"\n[[storage.retention]]\nkinds = []\n[[storage.retention]]\nkinds = [7]\nmax_age = \"1d\"\n";
    assert_eq!(
        errors(text),
        [
            "weir.toml:8:1: storage.retention[2].authors: an empty list selects nobody; omit the key to select every author",
            "weir.toml:12:1: storage.retention[3].max_age: keep = \"forever\" contradicts this limit; remove one of them",
            "weir.toml:14:1: storage.retention[4].kinds: an empty list selects nothing; omit the key to select every kind",
            "weir.toml:15:1: storage.retention[5]: this rule never applies: the rules up to rule 3 select all of its events first",
        ]
    );
    let inline =
        format!("storage.retention = [{{ authors = [\"{0}\"], not_authors = [\"{0}\"] }}, {{}}]\n", "ab".repeat(32));
    assert_eq!(
        errors(&inline),
        ["weir.toml:1:22: storage.retention[1]: this rule selects nothing: not_authors lists all of its authors"]
    );
    assert_eq!(errors(&inline.replace("}, {}", "}, {}, { kinds = [5] }")).len(), 2);
}

#[test]
fn events_that_no_rule_selects_get_a_last_rule_if_they_are_kept_only_while_there_is_room() {
    let rules = |text: &str| {
        let config = Config::parse("weir.toml", text).expect("valid");
        let rules = config.storage.retention();
        rules.rules().iter().map(rule_text).collect::<Vec<_>>()
    };
    let last = "everything else, as long as there is room";
    assert_eq!(rules("storage.default_keep = \"forever\""), Vec::<String>::new());
    assert_eq!(rules("storage.default_keep = \"room\"\nstorage.max_events_per_author = 5"), [last]);
    let rule = "[[storage.retention]]\nmax_events = 5\n";
    assert_eq!(rules(&format!("storage.default_keep = \"room\"\n{rule}")), ["max_events = 5"], "a rule takes all");
    assert_eq!(
        rules(&format!("storage.default_keep = \"room\"\n{rule}kinds = [1]")),
        ["kinds = [1], max_events = 5", last]
    );
    assert_eq!(
        errors("storage.max_events_per_author = 5"),
        [
            "weir.toml:1:9: storage.max_events_per_author: has no effect without a rule in storage.retention or default_keep = \"room\": everything is kept forever"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = Config::load(Path::new("/nonexistent/weir.toml")).expect_err("an error").to_string();
    assert!(said.starts_with("/nonexistent/weir.toml: "), "{said}");
}

#[test]
fn a_reload_separates_what_applies_at_once_from_what_needs_a_restart() {
    let old = Config::default();
    let mut new = old.clone();
    assert!(old.changes(&new).is_empty());
    new.limits.max_filters = 3;
    new.tiers.listed.events.burst = 7;
    new.storage.max_readers = 99;
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
    let expected = Changes {
        live: keys(&["limits.max_filters", "tiers.listed.events.burst"]),
        restart: keys(&["storage.max_readers"]),
    };
    assert_eq!(old.changes(&new), expected);
    let in_force = old.with_live_sections_of(new.clone());
    let left = Changes { live: Vec::new(), restart: expected.restart };
    assert_eq!(in_force.changes(&new), left, "changes that need a restart are reported again at the next reload");
    assert_eq!(in_force.settings(), new.settings());
}
