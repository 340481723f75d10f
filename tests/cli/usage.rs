//! Compares `weir info` and `weir retention` with an export: every number is recomputed from its lines by other code.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir::nostr::{Event, json::Parser};

use super::home::Home;
use super::support::event::{author, event};

const DAY: u64 = 86_400;

/// Profiles forever, gift wraps for two days, notes for 30 days, the newest 12,000 bytes of reactions, and events that
/// no rule selects.
const RULES: &str = "[storage]\nmax_bytes = 4000000\nmin_free_disk_bytes = 0\n\
    [[storage.retention]]\nkinds = [0]\nkeep = \"forever\"\n\
    [[storage.retention]]\nkinds = [1059]\nmax_age = \"2d\"\n\
    [[storage.retention]]\nkinds = [1]\nmax_age = \"30d\"\n\
    [[storage.retention]]\nkinds = [7]\nmax_bytes = 12000\n";

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Events in no order of age, each at least ten minutes away from the limit of any age or day.
fn events(now: u64) -> Vec<Event> {
    let of = |n: u64| {
        let shuffled = (n * 7919) % 1200;
        let at = now - shuffled * 3600 - 1800;
        let (to, other) = (author(100 + n % 7).to_string(), author(100 + n % 3).to_string());
        match n % 10 {
            0 => event(author(n), 0, at, &[], &"p".repeat(200)),
            1..4 => event(author(n), 1059, now - (shuffled % 90) * 3600 - 1800, &[&["p", &to]], &"w".repeat(600)),
            4 => event(
                author(n),
                1059,
                now - (shuffled % 90) * 3600 - 1800,
                &[&["p", &to], &["p", &other], &["p", &to]],
                "w",
            ),
            5..8 => event(author(n % 13), 1, at, &[&["t", "x"]], &"n".repeat((n % 900) as usize)),
            8 => event(author(n % 5), 7, at, &[&["e", &"ab".repeat(32)]], "+"),
            _ => event(author(n % 5), 30023, at, &[&["d", &n.to_string()]], &"a".repeat(2500)),
        }
    };
    (0..1200).map(of).collect()
}

/// One line of the export, and the size of its event by the arithmetic of the documentation.
struct Line {
    json: Value,
    record: u64,
    takes: u64,
}

impl Line {
    fn new(text: &str) -> Self {
        let record =
            Event::parse(&mut Parser::default(), text.as_bytes()).expect("an event").view().record().len() as u64;
        let json: Value = serde_json::from_str(text).expect("JSON");
        // Four entries of 10, 14, 22 and 16 bytes and one of 22 per indexed tag, each with 10 more, times one and a
        // half.
        let tags = json["tags"].as_array().expect("tags").len() as u64;
        let entries = 30 + 36 + 48 + 39 + 48 * tags;
        let with_header = record + 16;
        let kept = if with_header > 2040 { with_header.div_ceil(4096) * 4096 } else { with_header };
        Self { json, record, takes: entries + kept }
    }

    fn kind(&self) -> u64 {
        self.json["kind"].as_u64().expect("a kind")
    }

    fn at(&self) -> u64 {
        self.json["created_at"].as_u64().expect("a time")
    }

    fn author(&self) -> String {
        self.json["pubkey"].as_str().expect("a key").into()
    }

    fn rule(&self) -> usize {
        [0, 1059, 1, 7].iter().position(|kind| *kind == self.kind()).unwrap_or(4)
    }
}

fn lines(home: &Home) -> Vec<Line> {
    home.export().iter().map(|line| Line::new(line)).collect()
}

/// Events, bytes of records, and total size.
fn sums<'a>(lines: impl Iterator<Item = &'a Line>) -> [u64; 3] {
    lines.fold([0; 3], |[a, b, c], line| [a + 1, b + line.record, c + line.takes])
}

fn amounts(row: &Value) -> [u64; 3] {
    ["events", "bytes", "used_bytes"].map(|key| row[key].as_u64().unwrap_or_else(|| panic!("no {key} in {row}")))
}

/// The rows of a list by key, largest first.
fn ranked(sums: BTreeMap<String, [u64; 3]>) -> Vec<(String, [u64; 3])> {
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_key(|(key, [_, _, takes])| (std::cmp::Reverse(*takes), key.clone()));
    all
}

fn listed(rows: &Value) -> Vec<(String, [u64; 3])> {
    let rows = rows.as_array().expect("a list");
    rows.iter().map(|row| (row["pubkey"].as_str().expect("a key").into(), amounts(row))).collect()
}

#[test]
fn a_full_info_tells_the_numbers_that_an_export_adds_up_to() {
    let home = Home::new();
    home.hold(&events(now()));
    let rules = home.write("rules.toml", RULES);
    let text = home.run(&["info", "--full", "--json", "--top", "2000", "--config", &rules]).good();
    let info: Value = serde_json::from_str(&text).expect("JSON");
    let (lines, at) = (lines(&home), info["at"].as_u64().expect("a time"));

    let by_rule = |rule: usize| lines.iter().filter(move |line| line.rule() == rule);
    let rows = info["rules"].as_array().expect("rules");
    assert_eq!(
        rows.iter().map(amounts).collect::<Vec<_>>(),
        (0..5).map(|rule| sums(by_rule(rule))).collect::<Vec<_>>()
    );
    assert_eq!(
        rows.iter().map(|row| row["rule"].clone()).collect::<Vec<_>>(),
        [json!(1), json!(2), json!(3), json!(4), json!(null)]
    );
    let whole = sums(lines.iter());
    assert_eq!([&info["events"], &info["used_bytes"], &info["looked_at"]], [whole[0], whole[2], whole[0]]);

    let (mut authors, mut recipients) = (BTreeMap::new(), BTreeMap::new());
    let count = |of: &mut BTreeMap<String, [u64; 3]>, key: &str, line: &Line| {
        let sum = of.entry(key.into()).or_insert([0; 3]);
        *sum = [sum[0] + 1, sum[1] + line.record, sum[2] + line.takes];
    };
    for line in &lines {
        count(&mut authors, &line.author(), line);
        if line.kind() == 1059 {
            let tags = line.json["tags"].as_array().expect("tags").iter();
            let keys: std::collections::BTreeSet<_> = tags.map(|tag| tag[1].as_str().expect("a key")).collect();
            keys.into_iter().for_each(|key| count(&mut recipients, key, line));
        }
    }
    assert_eq!(listed(&info["authors"]), ranked(authors));
    assert_eq!(listed(&info["gift_wrap_recipients"]), ranked(recipients));

    // Growth is derived from the last two days of gift wraps, and from the last week of the others.
    let recent = |rule: usize, days: u64| sums(by_rule(rule).filter(move |line| line.at() >= at - days * DAY));
    let windows = [7, 2, 7, 7, 7];
    let daily = |measure: usize| {
        windows.iter().enumerate().map(|(rule, days)| recent(rule, *days)[measure] as f64 / *days as f64).sum::<f64>()
    };
    let growth = &info["growth_per_day"];
    // Halves may be rounded either way.
    let is_near = |value: &Value, number: f64| (value.as_f64().expect("a number") - number).abs() < 0.501;
    assert!(is_near(&growth["added"]["events"], daily(0)) && is_near(&growth["added"]["used_bytes"], daily(2)));

    // After `days` days: the events that are not too old by then, and new ones; reactions have reached their limit.
    let after = |rule: usize, days: u64, measure: usize| -> f64 {
        let held = sums(by_rule(rule));
        let (a_day, stays) = (recent(rule, windows[rule])[measure] as f64 / windows[rule] as f64, |age: u64| {
            sums(by_rule(rule).filter(move |line| line.at() + age * DAY > at + days * DAY))[measure] as f64
        });
        match rule {
            1 => stays(2) + a_day * days.min(2) as f64,
            2 => stays(30) + a_day * days.min(30) as f64,
            3 => (held[measure] as f64 + a_day * days as f64).min(held[measure] as f64 * 12_000.0 / held[1] as f64),
            _ => held[measure] as f64 + a_day * days as f64,
        }
    };
    let all = |days: u64, measure: usize| (0..5).map(|rule| after(rule, days, measure)).sum::<f64>();
    let net = |measure: usize| (all(7, measure) - all(0, measure)) / 7.0;
    assert!(is_near(&growth["net"]["events"], net(0)) && is_near(&growth["net"]["used_bytes"], net(2)), "{growth}");
    let removed = |measure: usize| daily(measure) - net(measure);
    assert!(is_near(&growth["removed"]["events"], removed(0)) && is_near(&growth["removed"]["used_bytes"], removed(2)));
    let room = (0..=3650).find(|&days| all(days, 2) >= 4_000_000.0 * 31.0 / 32.0);
    let full = (0..=3650).find(|&days| after(0, days, 2) + after(4, days, 2) >= 4_000_000.0);
    let expected =
        json!({"limit": "storage.max_bytes", "limit_used_bytes": 4_000_000, "room_days": room, "full_days": full});
    assert_eq!(info["forecast"], expected);
    assert!(room.is_some() && full > room);
}

#[test]
fn a_dry_run_tells_the_numbers_that_an_export_adds_up_to_and_samples_that_go() {
    let home = Home::new();
    home.hold(&events(now()));
    let rules = home.write("rules.toml", RULES);
    let dry: Value =
        serde_json::from_str(&home.run(&["retention", "--json", "--config", &rules]).good()).expect("JSON");
    let (lines, at) = (lines(&home), dry["at"].as_u64().expect("a time"));

    let by_rule = |rule: usize| lines.iter().filter(move |line| line.rule() == rule);
    let too_old = |rule: usize, days: u64| by_rule(rule).filter(|line| line.at() < at - days * DAY).collect::<Vec<_>>();
    // The oldest reactions are removed until the rest fit the limit of the rule.
    let mut reactions: Vec<&Line> = by_rule(3).collect();
    reactions.sort_by_key(|line| (std::cmp::Reverse(line.at()), line.json["id"].to_string()));
    let mut bytes: u64 = reactions.iter().map(|line| line.record).sum();
    let mut gone = Vec::new();
    while bytes > 12_000 {
        let line = reactions.pop().expect("a reaction");
        bytes -= line.record;
        gone.push(line);
    }
    let expected = [(2, "age", too_old(1, 2)), (3, "age", too_old(2, 30)), (4, "rule_bytes", gone)];
    let expected: Vec<_> = expected.into_iter().filter(|(_, _, lines)| !lines.is_empty()).collect();
    let causes = dry["causes"].as_array().expect("causes");
    assert_eq!(causes.len(), expected.len());
    for (row, (rule, cause, lines)) in causes.iter().zip(&expected) {
        assert_eq!((&row["rule"], &row["cause"]), (&json!(rule), &json!(cause)));
        assert_eq!(amounts(row), sums(lines.iter().copied()));
        let times = lines.iter().map(|line| line.at());
        assert_eq!((&row["oldest"], &row["newest"]), (&json!(times.clone().min()), &json!(times.max())));
        let samples = row["samples"].as_array().expect("samples");
        assert_eq!(samples.len(), lines.len().min(3));
        for sample in samples {
            let line = lines.iter().find(|line| line.json["id"] == sample["id"]).expect("a sample goes");
            let age = at - line.at();
            let of = json!({"id": line.json["id"], "pubkey": line.author(), "kind": line.kind(), "created_at": line.at(), "age_s": age});
            assert_eq!(*sample, of);
        }
    }
    let total = sums(expected.iter().flat_map(|(_, _, lines)| lines.iter().copied()));
    assert_eq!(amounts(&dry), total);
    let whole = sums(lines.iter());
    assert_eq!([&dry["held_events"], &dry["held_used_bytes"]], [whole[0], whole[2]]);
    let kept = [&dry["removed"], &dry["accepted"], &dry["is_partial"], &dry["missing_bytes"]];
    assert_eq!(kept, [&json!(false), &json!(false), &json!(false), &json!(0)]);

    let ran: Value =
        serde_json::from_str(&home.run(&["retention", "--run", "--json", "--config", &rules]).good()).expect("JSON");
    assert_eq!((amounts(&ran), &ran["removed"]), (total, &json!(true)));
    assert_eq!(home.export().len() as u64, whole[0] - total[0]);
}

#[test]
fn a_table_has_a_line_for_each_rule_and_cause_and_for_each_sample() {
    let home = Home::new();
    let begin = now();
    let old = event(author(1), 7, 1000, &[], "+");
    let older = event(author(2), 7, 500, &[], "+");
    home.hold(&[old.clone(), older.clone(), event(author(1), 1, begin, &[], "stays")]);
    let rules = home.write("rules.toml", "[[storage.retention]]\nkinds = [7]\nmax_age = \"30d\"\n");
    let said = home.run(&["retention", "--config", &rules]).good();
    assert_eq!(home.run(&["retention", "--dry-run", "--config", &rules]).good(), said);
    let age = indicatif::HumanDuration(std::time::Duration::from_secs(begin - 1000));
    let (first, second) = (older.view().id(), old.view().id());
    let frees = [&old, &older].map(|event| event.view().record().len() as u64 + 16 + 153).iter().sum::<u64>();
    let stays = event(author(1), 1, begin, &[], "stays").view().record().len() as u64 + 16 + 153;
    let total = indicatif::BinaryBytes(frees + stays);
    let expected = format!(
        "rule 1: kinds = [7], max_age = \"30d\"\n\n\
         rule  cause                       events         size  oldest               newest\n\
         1     age                              2        {frees} B  1970-01-01 00:08:20  1970-01-01 00:16:40\n\n\
         rule  cause                 kind  some of them                                                      age\n\
         1     age                      7  {first}  {age}\n\
         1     age                      7  {second}  {age}\n\n\
         2 of 3 events would be removed, {frees} B of {total}\n"
    );
    assert_eq!(said, expected);
    let ran = home.run(&["retention", "--run", "--config", &rules]).good();
    assert!(ran.ends_with(&format!("\n2 of 3 events were removed, {frees} B of {total}\n")), "{ran}");
    let none = home.run(&["retention", "--config", &rules]).good();
    assert!(
        none.starts_with("rule 1: kinds = [7], max_age = \"30d\"\n\n0 of 1 events would be removed, 0 B of "),
        "{none}"
    );
}

/// Visits the name of every field, at any depth.
fn each_field(value: &Value, see: &mut dyn FnMut(&str)) {
    value.as_array().into_iter().flatten().for_each(|value| each_field(value, see));
    for (key, value) in value.as_object().into_iter().flatten() {
        see(key);
        // The tables are those of the text output.
        if key != "tables" {
            each_field(value, see);
        }
    }
}

#[test]
fn every_field_of_the_json_is_in_the_documentation() {
    let home = Home::new();
    home.hold(&events(now()));
    let rules = home.write("rules.toml", RULES);
    let page = include_str!("../../docs/operating.md");
    for command in [&["info", "--full"][..], &["retention"]] {
        let text = home.run(&[command, &["--json", "--config", &rules]].concat()).good();
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let is_plain = |key: &str| ["data", "format", "durability"].contains(&key);
        each_field(&report, &mut |key| assert!(is_plain(key) || page.contains(&format!("`{key}`")), "{key}"));
    }
}

#[test]
fn an_estimate_says_so_and_its_rules_add_up_to_the_whole() {
    let home = Home::new();
    let begin = now();
    // More than twice as many events as are examined, a third of them notes.
    let all: Vec<Event> =
        (0..24_000).map(|n| event(author(n % 50), if n % 3 == 0 { 1 } else { 7 }, begin - n, &[], "x")).collect();
    home.hold(&all);
    let rules = home.write("rules.toml", "[[storage.retention]]\nkinds = [7]\nmax_age = \"30d\"\n");
    let info: Value = serde_json::from_str(&home.run(&["info", "--json", "--config", &rules]).good()).expect("JSON");
    assert_eq!((&info["is_estimate"], &info["looked_at"]), (&json!(true), &json!(12_000)));
    let rows: Vec<[u64; 3]> = info["rules"].as_array().expect("rules").iter().map(amounts).collect();
    assert_eq!(rows.iter().map(|row| row[0]).sum::<u64>(), 24_000);
    let used = info["used_bytes"].as_u64().expect("a number");
    assert!(rows.iter().map(|row| row[2]).sum::<u64>().abs_diff(used) <= 2);
    let text = home.run(&["info", "--config", &rules]).good();
    assert!(text.contains("added       about 3,428 events and "));
    for word in ["added", "removed", "room for"] {
        assert!(text.contains(&format!("\n{word} ")), "{word}: {text}");
        assert!(
            include_str!("../../docs/operating.md").contains(&format!("\n- `{word}`: ")),
            "{word} is not explained"
        );
    }
}
