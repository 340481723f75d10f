//! `docs/operating.md` and `docs/replication.md`: the configurations that they tell people to write are good.

use std::process::Command;

const PAGE: &str = include_str!("../../docs/operating.md");

/// What stands between each `begin` and the next `end`.
fn blocks<'a>(page: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    page.split(begin).skip(1).map(|rest| rest.split(end).next().expect("a first part")).collect()
}

#[test]
fn every_configuration_on_the_page_is_good() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let files = blocks(PAGE, "cat > /etc/weir/weir.toml <<'END'\n", "\nEND\n");
    let examples = blocks(PAGE, "```toml\n", "```");
    // Of the PROXY protocol, lists, rules about content, the web of trust and admins; of the small disk, the five
    // policies, age by arrival, and whose events a rule is about; and of plugins, members, the page for browsers and
    // the dashboard.
    assert_eq!((files.len(), examples.len()), (1, 17));
    for list in ["denied.txt", "addresses.txt"] {
        std::fs::write(dir.path().join(list), "").expect("the list is written");
    }
    std::fs::write(dir.path().join("relay.key"), "07".repeat(32)).expect("the key is written");
    assert_eq!(examples.iter().filter(|text| text.contains("[[storage.retention]]")).count(), 8);
    for (number, text) in files.into_iter().chain(examples).enumerate() {
        let file = dir.path().join(format!("{number}.toml"));
        std::fs::write(&file, text).expect("the configuration is written");
        let checked = Command::new(env!("CARGO_BIN_EXE_weir")).args(["config", "check", "--config"]).arg(file).output();
        let checked = checked.expect("the binary runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn every_configuration_on_the_page_about_replication_is_good() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let examples = blocks(include_str!("../../docs/replication.md"), "```toml\n", "```");
    // Of streams, of a node, and of the feed of changes for both addresses.
    assert_eq!(examples.len(), 4);
    std::fs::write(dir.path().join("changes.token"), "0a".repeat(32)).expect("the token is written");
    for text in examples {
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, text.replace("/etc/weir/", "")).expect("the configuration is written");
        let checked = Command::new(env!("CARGO_BIN_EXE_weir")).args(["config", "check", "--config"]).arg(file).output();
        let checked = checked.expect("the binary runs");
        assert!(checked.status.success(), "{text}{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn no_proxy_on_the_page_cuts_off_clients_before_they_are_pinged() {
    let ping_after_s = weir::config::Config::default().server.ping_after_s;
    let seconds = |key: &str| {
        let (_, rest) = PAGE.split_once(&format!("    {key} ")).unwrap_or_else(|| panic!("no {key} on the page"));
        rest.split_once('s').and_then(|(number, _)| number.parse::<u64>().ok()).expect("seconds")
    };
    // The client may take as long again to answer, and one ping may be lost.
    for key in ["proxy_read_timeout", "proxy_send_timeout", "timeout tunnel"] {
        assert!(seconds(key) > 3 * ping_after_s, "{key} is {} s", seconds(key));
    }
    assert!(PAGE.contains(&format!("`server.ping_after_s` ({ping_after_s} seconds)")));
    // What a client says of itself is replaced.
    let [nginx, haproxy] = ["```nginx\n", "```haproxy\n"].map(|begin| blocks(PAGE, begin, "```").concat());
    assert!(nginx.contains("proxy_set_header X-Forwarded-For $remote_addr;"));
    let deleted = haproxy.find("http-request del-header X-Forwarded-For").expect("the client's own is deleted");
    assert!(deleted < haproxy.find("option forwardfor").expect("the true one is added"));
}

#[test]
fn every_command_on_the_page_is_one() {
    let shell = blocks(PAGE, "```sh\n", "```").join("\n");
    let mut commands = 0;
    for line in shell.lines().filter_map(|line| line.trim().strip_prefix("weir ")) {
        let mut words = line.split(' ').skip_while(|word| word.starts_with("--") || word.starts_with('/'));
        let Some(command) = words.next() else { continue };
        let help = Command::new(env!("CARGO_BIN_EXE_weir")).args([command, "--help"]).output();
        assert!(help.expect("the binary runs").status.success(), "weir {command}");
        commands += 1;
    }
    assert!(commands >= 10, "the page runs only {commands} commands");
}
