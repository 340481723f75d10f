//! What an operator of strfry brings along: its configuration, and scripts that call it.

use std::process::Command;

use super::home::{Home, path_str};
use super::support::event::{author, event};
use weir::nostr::Event;

/// Every key that strfry knows, with its default where that is not empty, and one that it has forgotten.
const EVERY_KEY: &str = r#"
db = "./strfry-db/"
dbParams { maxreaders = 256, mapsize = 10995116277760, noReadAhead = true }
events {
    maxEventSize = 65536
    rejectEventsNewerThanSeconds = 900
    rejectEventsOlderThanSeconds = 94608000
    rejectEphemeralEventsOlderThanSeconds = 60
    ephemeralEventsLifetimeSeconds = 300
    maxNumTags = 2000
    maxTagValSize = 1024
}
relay {
    bind = "::"
    port = 7777
    nofiles = 1000000
    realIpHeader = "x-forwarded-for"
    auth { enabled = true, serviceUrl = "wss://relay.example.com", restrictedReadKinds = "4, 1059" }
    auth.restrictReadToInvolvedPubkey = true
    info {
        name = "A relay"
        description = "For everybody.\nReally."
        pubkey = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        self = "", contact = "mailto:admin@example.com", icon = "https://example.com/icon.png", banner = ""
        privacy = "https://example.com/privacy", terms = "https://example.com/terms", nips = "[1,2]"
    }
    maxWebsocketPayloadSize = 131072
    maxReqFilterSize = 200
    autoPingSeconds = 55
    enableTcpKeepalive = false
    queryTimesliceBudgetMicroseconds = 10000
    maxFilterLimit = 500
    maxTagsPerFilter = 3
    maxFilterLimitCount = 1000000
    maxSubsPerConnection = 200
    maxPendingOutboundBytes = 33554432
    writePolicy { plugin = "/usr/local/bin/plugin.py", timeoutSeconds = 7, lookbackSeconds = 0 }
    compression { enabled = true, slidingWindow = true }
    logging { dumpInAll = false, dumpInEvents = false, dumpInReqs = false, dbScanPerf = false, invalidEvents = true }
    numThreads { ingester = 3, reqWorker = 3, reqMonitor = 3, negentropy = 2 }
    negentropy { enabled = true, maxSyncEvents = 1000000 }
    filterValidation { enabled = true, maxFiltersPerReq = 3, minFiltersPerReq = 1, maxKindsPerFilter = 3 }
    filterValidation { allowedKinds = "", requireAuthorOrTag = false }
}
"#;

#[test]
fn a_configuration_with_every_key_becomes_a_valid_one_and_what_is_left_is_told() {
    let home = Home::new();
    let strfry = home.write("strfry.conf", EVERY_KEY);
    let ran = home.run(&["config", "from-strfry", &strfry]);
    let told: Vec<_> = ran.err.lines().filter_map(|line| line.strip_prefix(&strfry)?.split(": ").nth(1)).collect();
    let expected = [
        "db",
        "dbParams.noReadAhead",
        "events.ephemeralEventsLifetimeSeconds",
        "events.maxTagValSize",
        "relay.nofiles",
        "relay.realIpHeader",
        "relay.info.privacy",
        "relay.info.nips",
        "relay.enableTcpKeepalive",
        "relay.maxTagsPerFilter",
        "relay.maxFilterLimitCount",
        "relay.writePolicy.lookbackSeconds",
        "relay.compression.slidingWindow",
        "relay.logging.dumpInAll",
        "relay.logging.dumpInEvents",
        "relay.logging.dumpInReqs",
        "relay.logging.dbScanPerf",
        "relay.logging.invalidEvents",
        "relay.numThreads.ingester",
        "relay.numThreads.reqWorker",
        "relay.numThreads.reqMonitor",
        "relay.numThreads.negentropy",
        "relay.filterValidation.minFiltersPerReq",
        "relay.filterValidation.maxKindsPerFilter",
        "relay.filterValidation.allowedKinds",
        "relay.filterValidation.requireAuthorOrTag",
    ];
    assert_eq!(told, expected, "{}", ran.err);
    assert!(ran.err.starts_with(&format!("{strfry}:2:1: db: weir keeps its own files")), "{}", ran.err);
    let weir = home.write("weir.toml", ran.good());
    let checked = home.run(&["config", "check", "--config", &weir]);
    assert!(checked.code == Some(0) && checked.out.ends_with("the configuration is valid\n"), "{checked:?}");
    let printed = home.run(&["config", "print", "--config", &weir]).good();
    for line in [
        "listen = \"[::]:7777\"",
        "max_message_length = 131072",
        "max_filters = 3",
        "created_at_lower_limit = 94608000",
        "ping_after_s = 55",
        "outbox_bytes = 33554432",
        "command = \"/usr/local/bin/plugin.py\"",
        "timeout_ms = 7000",
        "urls = [\"wss://relay.example.com\"]",
        "terms_of_service = \"https://example.com/terms\"",
    ] {
        assert!(printed.lines().any(|own| own == line), "{line} is not in {printed}");
    }
}

#[test]
fn what_the_page_has_an_operator_change_in_a_converted_configuration_is_changed_and_good() {
    let page = include_str!("../../docs/from-strfry.md");
    let shell = page.split("```sh\n").find(|block| block.starts_with("sed -i ")).expect("a block");
    let (shell, _) = shell.split_once("```").expect("its end");
    let home = Home::new();
    let strfry = home.write("strfry.conf", EVERY_KEY);
    let file = home.write("weir.toml", home.run(&["config", "from-strfry", &strfry]).good());
    let script = shell.replace("/etc/weir/weir.toml", &file).replace("weir config", "\"$WEIR\" config");
    let mut command = Command::new("sh");
    let ran = command.args(["-ec", &script]).env("WEIR", env!("CARGO_BIN_EXE_weir")).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let mut printed = Command::new(env!("CARGO_BIN_EXE_weir"));
    let printed = printed.args(["config", "print", "--config", &file]).output().expect("it runs").stdout;
    let printed = String::from_utf8(printed).expect("UTF-8");
    let lines = ["listen = \"127.0.0.1:7778\"", "\"127.0.0.1/32\"", "\"::1/128\"", "data = \"/var/lib/weir\""];
    for line in lines {
        assert!(printed.contains(line), "{line} is not in {printed}");
    }
}

#[test]
fn a_configuration_with_a_mistake_is_refused_at_its_place() {
    let home = Home::new();
    let strfry = home.write("strfry.conf", "relay {\n  port = \n}\n");
    let ran = home.run(&["config", "from-strfry", &strfry]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert_eq!(ran.err, format!("weir: {strfry}:3:1: expected a value\n"));
    let missing = path_str(&home.path("none.conf"));
    let ran = home.run(&["config", "from-strfry", &missing]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with(&format!("weir: cannot read {missing}: ")), "{}", ran.err);
}

fn events() -> Vec<Event> {
    (0..20).map(|n| event(author(n % 3), if n < 15 { 1 } else { 7 }, 1000 + n, &[], &n.to_string())).collect()
}

/// Runs the binary under the name strfry.
fn strfry(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let link = home.path("strfry");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command.args(arguments).env_remove("WEIR_CONFIG").env_remove("STRFRY_CONFIG").current_dir(home.dir.path());
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn by_the_name_of_strfry_weir_takes_its_command_line_and_finds_the_store_by_its_configuration() {
    let home = Home::new();
    home.hold(&events());
    let conf = home.write("strfry.conf", format!("db = '{}'\n", home.path("data").display()));
    let conf = format!("--config={conf}");
    let good = |arguments: &[&str]| {
        let (code, out, err) = strfry(&home, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        out
    };
    assert_eq!(good(&[&conf, "scan", "--count", r#"{"kinds":[1]}"#]), "15\n");
    // Without --config it is looked for in the working directory.
    assert_eq!(good(&["scan", "--pause=100", r#"[{"kinds":[7]},{"kinds":[1],"limit":1}]"#]).lines().count(), 6);
    let export = good(&["export", "--since=1010", "--until", "1015", "--reverse"]);
    let newest_first: Vec<String> = events()[10..=15].iter().rev().map(|event| event.view().to_json()).collect();
    assert_eq!(export.lines().collect::<Vec<_>>(), newest_first);
    let would = good(&["delete", "--dry-run", "--filter", r#"{"kinds":[7]}"#]);
    assert!(would.starts_with("5 events would be removed"), "{would}");
    assert!(good(&["delete", "--filter={\"kinds\":[7]}"]).starts_with("5 events removed"));
    assert_eq!(good(&["--verbosity=ERROR", "scan", "--count", "{}"]), "15\n");
    assert_eq!(home.run(&["strfry", "scan", "--count", "{}"]).good(), "15\n");
}

#[test]
fn what_has_no_counterpart_says_so_and_a_store_that_is_not_there_is_named() {
    let home = Home::new();
    home.hold(&events());
    home.write("strfry.conf", "db = './strfry-db/'\n");
    let refused = |arguments: &[&str]| {
        let (code, out, err) = strfry(&home, arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        err
    };
    assert_eq!(refused(&["dict", "stats"]), "weir: strfry dict has no counterpart in weir\n");
    assert!(refused(&["export", "--fried"]).contains("--fried"));
    assert!(refused(&["negentropy", "list"]).contains("NEG-OPEN with any filter"));
    assert!(refused(&["compact", "-"]).contains("weir backup"));
    assert_eq!(refused(&["delete", "--dry-run"]), "weir: delete needs --age or --filter\n");
    let missing = refused(&["scan", "{}"]);
    assert!(missing.starts_with("weir: strfry.conf has db = \"./strfry-db/\""), "{missing}");
    let data = home.path("data").display().to_string();
    let (code, out, _) = strfry(&home, &["--set", &format!("db={data}"), "scan", "--count", "{}"]);
    assert_eq!((code, out.as_str()), (Some(0), "20\n"));
}
