//! Storms that end in power cuts: each cut is a disk that the storm may have left, on which the store must hold what
//! was promised.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::disk::{Base, Disk, files_below};
use super::ledger::{Found, Ledger, REACTIONS};
use super::recorder::{Op, Recorder, What};
use super::storm::{Backup, Storm};
use crate::corpus::Random;
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

/// Storms over one store before a new one begins.
const LIVES: u64 = 4;

/// Of this many cuts one is served afterwards, and another restored from its backup.
const SERVED: u64 = 6;

/// What is cut, and how often.
pub struct Plan {
    pub seed: u64,
    pub cuts: u64,
    pub cuts_per_storm: u64,
    /// Syncs that are not done: see `recorder.c`.
    pub lies: &'static str,
    pub durability: &'static str,
}

/// What a cut lost or damaged.
pub struct Loss {
    pub what: Vec<String>,
    /// How to find it again.
    pub how: String,
}

/// Cuts as planned; ends at the first loss.
pub fn cut(plan: &Plan) -> Result<(), Loss> {
    let mut random = Random(plan.seed);
    let (mut done, mut storms) = (0, 0);
    let mut start: Option<(TempDir, Ledger)> = None;
    while done < plan.cuts {
        let (dir, mut ledger) = start.take().unwrap_or_else(new_store);
        let durability = plan.durability;
        let interval = *random.pick(&[100, 100, 10, 0]);
        let config = format!(
            "[storage]\ndurability = \"{durability}\"\nconfirm_removal_percent = 100\n[pipeline]\n\
             commit_interval_ms = {interval}\n[[storage.retention]]\nkinds = [7]\nmax_events = {REACTIONS}\n\
             [verify]\nengine = \"libsecp256k1\"\n"
        );
        let recorder = Recorder::of(dir.path(), plan.lies);
        let base = Base::of(recorder.root());
        let backups = {
            let (ledger, random) = (&mut ledger, &mut random);
            Storm { recorder: &recorder, ledger, config: &config, random, commands: 5 }.run()
        };
        let ops = recorder.ops();
        let storm = Recorded {
            seed: plan.seed,
            number: storms,
            is_expected: !plan.lies.is_empty(),
            root: recorder.root(),
            config: &config,
            is_relaxed: durability == "relaxed",
            ops: &ops,
            ledger: &ledger,
            backups: &backups,
        };
        storm.compare_with_files(base.clone());
        let cuts = plan.cuts_per_storm.min(plan.cuts - done);
        let next = storm.cut(&mut random, base, cuts)?;
        (done, storms) = (done + cuts, storms + 1);
        println!("storm {storms} ({durability}, {interval} ms): {} calls, {done} cuts survived", ops.len());
        if storms % LIVES != 0 {
            start = Some(next);
        }
    }
    Ok(())
}

/// Cuts at each call of the creation of a store, this many times; the next command must make one.
pub fn cut_creation(random: &mut Random, times: u64) -> Result<u64, Loss> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recorder = Recorder::of(dir.path(), "");
    let base = Base::of(recorder.root());
    let mut create = recorder.over(env!("CARGO_BIN_EXE_weir"));
    create.arg("import").arg("--data").arg(recorder.root().join("data"));
    assert!(create.stdin(Stdio::null()).output().expect("weir runs").status.success(), "a store is created");
    let ops = recorder.ops();
    let mut instants: Vec<u64> = ops.iter().flat_map(|op| [op.begin, op.end]).collect();
    instants.sort_unstable();
    let (mut disk, mut cuts) = (Disk::new(base, &ops), 0);
    for instant in instants {
        disk.advance(instant);
        for _ in 0..times {
            let image = tempfile::tempdir().expect("a temporary directory");
            let how = disk.cut(random, image.path());
            for arguments in [&["import"][..], &["check"]] {
                let output = weir(&image.path().join("data"), arguments);
                if !output.status.success() {
                    let what = format!("weir {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
                    return Err(Loss { what: vec![what], how });
                }
            }
            cuts += 1;
        }
    }
    Ok(cuts)
}

fn new_store() -> (TempDir, Ledger) {
    (tempfile::tempdir().expect("a temporary directory"), Ledger::default())
}

/// A storm that is over.
struct Recorded<'a> {
    seed: u64,
    number: u64,
    /// A loss is expected, so nobody looks into it.
    is_expected: bool,
    root: &'a Path,
    config: &'a str,
    is_relaxed: bool,
    ops: &'a [Op],
    ledger: &'a Ledger,
    backups: &'a [Backup],
}

/// What is held after a cut, and what had been promised.
struct Survived {
    held: HashMap<String, String>,
    promised_by: u64,
}

impl Recorded<'_> {
    /// The record is complete: after all calls, the files are what they are.
    fn compare_with_files(&self, base: Base) {
        let mut disk = Disk::new(base, self.ops);
        disk.advance(u64::MAX);
        let (recorded, found) = (disk.live(), files_below(self.root));
        let paths = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&recorded), paths(&found), "a change of a directory was not recorded");
        for (path, bytes) in &recorded {
            assert!(*bytes == found[path], "a write of {} was not recorded", path.display());
        }
    }

    /// Cuts the power at some instants; the disk and the ledger from which the next storm may begin.
    fn cut(&self, random: &mut Random, base: Base, cuts: u64) -> Result<(TempDir, Ledger), Loss> {
        let mut instants: Vec<u64> = (0..cuts).map(|_| self.instant(random)).collect();
        instants.sort_unstable();
        let mut disk = Disk::new(base, self.ops);
        let (continued, mut next) = (random.below(cuts), None);
        for (number, instant) in (0..).zip(instants) {
            disk.advance(instant);
            let image = tempfile::tempdir().expect("a temporary directory");
            let mut again = random.clone();
            let how = disk.cut(random, image.path());
            let survived = self.verify(random, image.path(), instant).map_err(|what| {
                let how = format!("storm {}, cut {number}: {how}\n{}", self.number, self.config);
                Loss { what, how: format!("{how}\n{}", self.kept(&disk, &mut again)) }
            })?;
            if number == continued {
                // As the cut left it: the next storm begins with the recovery, and may be cut during it.
                let image = tempfile::tempdir().expect("a temporary directory");
                disk.cut(&mut again, image.path());
                next = Some((image, survived));
            }
        }
        let (image, survived) = next.expect("one of the cuts");
        Ok((image, self.ledger.settled(&survived.held, survived.promised_by)))
    }

    /// A moment at which much may be lost: just after an answer, or when a call begins or ends.
    fn instant(&self, random: &mut Random) -> u64 {
        let entries = self.ledger.authors.iter().flat_map(|author| &author.entries);
        let answers: Vec<u64> = entries.filter_map(|entry| entry.answer.as_ref()).map(|answer| answer.0).collect();
        let began = self.ops[0].begin;
        let op = match random.below(10) {
            0..=5 => return *random.pick(&answers.into_iter().filter(|at| *at > began).collect::<Vec<_>>()),
            // While the store is created or recovers.
            6 => random.pick(&self.ops[..self.ops.len().min(60)]),
            _ => random.pick(self.ops),
        };
        *random.pick(&[op.begin, op.end - 1, op.end])
    }

    /// Opens what the cut left, as an operator does, and looks.
    fn verify(&self, random: &mut Random, image: &Path, instant: u64) -> Result<Survived, Vec<String>> {
        let promised_by = if self.is_relaxed { self.synced_by(instant) } else { instant };
        let data = image.join("data");
        if !self.ledger.promises_any(promised_by) {
            // There may be no store yet, or a part of one: whoever opens it makes it.
            let opened = weir(&data, &["import"]);
            if !opened.status.success() {
                return Err(vec![format!("weir import, of nothing: {}", text(&opened.stderr))]);
            }
        }
        let checked = weir(&data, &["check", "--signatures", "20"]);
        if !checked.status.success() || !text(&checked.stdout).ends_with("no problems found\n") {
            return Err(vec![format!("weir check: {}{}", text(&checked.stdout), text(&checked.stderr))]);
        }
        let begun = now();
        let held = exported(&data)?;
        let found = Found { accepted_by: promised_by, sent_by: instant, held: &held, read: (begun, now()) };
        let mut wrong = self.ledger.compare(&found);
        if wrong.is_empty() && random.once_in(SERVED) {
            self.serve(image, &held);
        }
        let last = self.backups.iter().rfind(|backup| backup.done <= instant);
        if let Some(backup) = last.filter(|_| wrong.is_empty() && random.once_in(SERVED)) {
            wrong = self.restore(image, backup, instant);
        }
        if wrong.is_empty() { Ok(Survived { held, promised_by }) } else { Err(wrong) }
    }

    /// With relaxed durability: when the last complete sync began, which is of the log and then of the data file.
    fn synced_by(&self, instant: u64) -> u64 {
        let mut logs: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut synced = 0;
        for op in self.ops.iter().take_while(|op| op.begin <= instant) {
            match &op.what {
                What::Sync { path, .. } if path.ends_with("write-ahead.log") => {
                    logs.insert(op.thread, (op.begin, op.end));
                }
                What::Sync { path, .. } if path.ends_with("data.mdb") && op.end <= instant => {
                    let log = logs.remove(&op.thread).filter(|log| log.1 <= op.begin);
                    synced = synced.max(log.map_or(0, |log| log.0));
                }
                _ => {}
            }
        }
        synced
    }

    /// A relay serves what is held, keeps out what was deleted, and takes what is new.
    fn serve(&self, image: &Path, held: &HashMap<String, String>) {
        let relay = Relay::start_in(image, self.config);
        let mut client = relay.connect();
        for author in &self.ledger.authors {
            let kept: Vec<_> = author.entries.iter().filter(|entry| entry.is_kept(now() + 60)).collect();
            for some in kept.chunks(400) {
                let ids: Vec<&str> = some.iter().map(|entry| entry.event.id.as_str()).collect();
                let mut served = client.query(&[json!({ "ids": ids, "limit": 500 })]);
                let mut wanted: Vec<&String> = ids.iter().filter_map(|id| held.get(*id)).collect();
                served.sort();
                wanted.sort();
                assert!(served.iter().eq(wanted), "the relay serves what the store holds");
            }
            for event in author.deleted(held).take(5) {
                client.send(event.message());
                let answer = client.next();
                let refused = format!(r#"["OK","{}",false,"blocked: "#, event.id);
                assert!(answer.starts_with(&refused), "deleted before the cut: {answer}");
            }
        }
        client.publish(&Key::named("after the cut").note("new"));
        drop(client);
        end(relay);
    }

    /// The backup holds what was there when it began.
    fn restore(&self, image: &Path, backup: &Backup, instant: u64) -> Vec<String> {
        let (from, to) = (image.join("backup"), image.join("restored"));
        let from = from.to_str().expect("UTF-8");
        for arguments in [&["backup", from, "--verify"][..], &["restore", from]] {
            let output = weir(&to, arguments);
            if !output.status.success() {
                return vec![format!("weir {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr))];
            }
        }
        let begun = now();
        match exported(&to) {
            Ok(held) => {
                let read = (begun, now());
                let found = Found { accepted_by: backup.begun, sent_by: instant, held: &held, read };
                self.ledger.compare(&found).into_iter().map(|what| format!("in the backup: {what}")).collect()
            }
            Err(wrong) => wrong,
        }
    }

    /// Keeps the disk of a loss, for whoever looks into it.
    fn kept(&self, disk: &Disk<'_>, random: &mut Random) -> String {
        if self.is_expected {
            return format!("seed {}", self.seed);
        }
        let image = tempfile::tempdir().expect("a temporary directory").keep();
        disk.cut(random, &image);
        format!("seed {}; the disk is in {}", self.seed, image.display())
    }
}

fn end(relay: Relay) {
    relay.signal("TERM");
    drop(relay.wait_for_exit());
}

fn weir(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).arg("--data").arg(data).stdin(Stdio::null()).output().expect("weir runs")
}

/// Everything that a store holds, by id.
fn exported(data: &Path) -> Result<HashMap<String, String>, Vec<String>> {
    let output = weir(data, &["export"]);
    if !output.status.success() {
        return Err(vec![format!("weir export: {}", text(&output.stderr))]);
    }
    let id = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event["id"].as_str().expect("an id").to_owned()
    };
    Ok(text(&output.stdout).lines().map(|line| (id(line), line.to_owned())).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
