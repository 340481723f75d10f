//! Backups by somebody who can compute a SHA-256: whatever their numbers claim, they are refused at once.

use super::*;

/// A checksum does not tell who wrote it. None of these takes long, or more memory than the backup has bytes.
#[test]
fn a_manifest_that_claims_what_cannot_be_is_refused_before_anything_is_done_with_it() {
    let home = Home::new();
    home.commit(&notes(0..20));
    home.run_at(NOW.0);
    home.commit(&notes(20..30));
    home.run_at(NOW.0 + DAY);
    let honest = home.manifest();
    let list_of_all = honest["states"][1]["held"]["bytes"].as_u64().expect("a number") + 14 * 30;
    let (u40, u64) = (Seq::MAX.0, u64::MAX);
    let order = "the arrival numbers of its parts are out of order";
    let (small, runs) = ("a part is too small for its records", "its runs are out of order");
    let (numbers, more) =
        ("the arrival numbers of its runs are out of order", "a run holds more events than there are");
    let foreign = "it lists a file that is not one of a backup";
    let arrived = "it claims impossible times of arrival";
    let claims: [(&str, serde_json::Value, &str); 27] = [
        ("/states", serde_json::json!([]), "it lists no run"),
        ("/states/1/last_seq", u64.into(), numbers),
        ("/states/1/last_seq", (u40 + 1).into(), numbers),
        ("/states/0/last_seq", u40.into(), numbers),
        ("/records/1/last_seq", 31.into(), "it lists records that came after its last run"),
        ("/states/1/events", u64.into(), more),
        ("/states/1/events", 31.into(), more),
        ("/states/0/events", 21.into(), more),
        ("/states/1/run", u64.into(), runs),
        ("/states/0/run", 2.into(), runs),
        ("/states/0/run", 0.into(), runs),
        ("/states/1/held/bytes", u64.into(), "its files are larger than any disk"),
        ("/states/1/held/bytes", list_of_all.into(), "a list of arrival numbers is too long"),
        ("/records/0/bytes", u64.into(), "its files are larger than any disk"),
        ("/records/0/rows", u64.into(), small),
        ("/records/0/rows", 21.into(), small),
        ("/records/0/bytes", 100.into(), small),
        ("/records/0/first_seq", 0.into(), order),
        ("/records/0/first_seq", 21.into(), order),
        ("/records/1/last_seq", u64.into(), order),
        ("/records/1/last_seq", (u40 + 1).into(), order),
        ("/records/1/first_seq", 20.into(), order),
        ("/records/0/name", "../weir.toml".into(), foreign),
        ("/records/0/name", "records-/../../x.weir".into(), foreign),
        ("/states/0/tombstones/name", "MANIFEST".into(), foreign),
        ("/arrived", serde_json::json!([[1_u64 << 48, 1]]), arrived),
        ("/arrived", serde_json::json!([[1, u40 + 2]]), arrived),
    ];
    let to = home.dir.path().join("new");
    for (key, value, what) in claims {
        let mut json = honest.clone();
        *json.pointer_mut(key).expect("the key") = value.clone();
        home.put_manifest(&json);
        let results = [
            verify(&home.backup(), &mut |_, _| {}).map(drop),
            restore(&home.backup(), &to, options(), (StateChoice::Newest, NOW), &mut |_| {}, &NEVER_STOP).map(drop),
            prune(&home.backup(), NOW, 0).map(drop),
            create(&home.store, &home.backup(), NOW, 0, &mut nothing, &mut |_| {}, &NEVER_STOP).map(drop),
        ];
        let expected = format!("{} is damaged: {what}", home.backup().join("MANIFEST").display());
        for result in results {
            assert_eq!(result.map_err(|error| error.to_string()), Err(expected.clone()), "{key} {value}");
        }
        assert!(!Store::exists(&to));
    }
    home.put_manifest(&honest);
    assert_eq!(home.restored("honest").1, held(&home.store));
}

/// What the numbers of a manifest allow, its files contradict.
#[test]
fn a_list_or_a_part_that_is_not_what_the_manifest_says_is_damaged() {
    let home = Home::new();
    home.commit(&notes(0..20));
    home.run();
    let honest = home.manifest();
    let put = |name: &str, key: &str, change: &dyn Fn(&mut serde_json::Value), bytes: &[u8]| {
        let mut json = honest.clone();
        let sum = crate::nostr::hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
        std::fs::write(home.backup().join(name), bytes).expect("a file");
        *json.pointer_mut(key).expect("the file").get_mut("sha256").expect("its hash") = sum.into();
        *json.pointer_mut(key).expect("the file").get_mut("bytes").expect("its length") = bytes.len().into();
        change(&mut json);
        home.put_manifest(&json);
        let error = verify(&home.backup(), &mut |_, _| {}).expect_err("it is damaged").to_string();
        let said = error.strip_prefix(&format!("{} is damaged: ", home.backup().join(name).display()));
        said.map(String::from).unwrap_or(error)
    };
    let list = |bytes: &[u8], last: u64| {
        let change = |json: &mut serde_json::Value| json["states"][0]["last_seq"] = last.into();
        put("held-1.weir", "/states/0/held", &change, &[b"weir\0bak", bytes].concat())
    };
    // All numbers that there may be, in one run.
    let all = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_eq!(list(&all, Seq::MAX.0), "it holds a different number of events");
    assert_eq!(list(&all, Seq::MAX.0 - 1), "it is not a list of arrival numbers");
    assert_eq!(list(&[0, 20, 0x80], 20), "it is not a list of arrival numbers");
    assert_eq!(list(&[0xff; 14], 20), "it is not a list of arrival numbers");
    assert_eq!(list(&[1, 20], 21), "it does not match the records");
    assert_eq!(list(&[0, 21], 21), "it holds a different number of events");
}
