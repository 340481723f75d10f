//! The promises, and that a relay that breaks them is found.

use super::cuts::{Plan, cut, cut_creation};
use crate::corpus::Random;
use crate::support::wire::now;

/// Cuts without `WEIR_POWER_CUTS`.
const CUTS: u64 = 30;

/// Cuts at each call of the creation of a store: enough to tear it, nearly always.
const CREATIONS: u64 = 6;

/// Cuts within which a relay whose syncs are not done is found.
const SOON: u64 = 200;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    let seed = number("WEIR_POWER_SEED", now());
    println!("WEIR_POWER_SEED={seed}");
    seed
}

/// A relay that keeps its promises loses nothing.
#[track_caller]
fn nothing_is_lost(cuts: u64, durability: &'static str) {
    let plan = Plan { seed: seed(), cuts, cuts_per_storm: (cuts / 2).clamp(1, 25), lies: "", durability };
    if let Err(loss) = cut(&plan) {
        panic!("{}\n{:#?}", loss.how, &loss.what[..loss.what.len().min(10)]);
    }
}

#[test]
fn whatever_was_acknowledged_is_there_after_a_power_cut_and_nothing_deleted_is() {
    nothing_is_lost(number("WEIR_POWER_CUTS", CUTS), "full");
}

#[test]
fn a_store_that_a_power_cut_meets_while_it_is_created_is_made_by_the_next_command() {
    match cut_creation(&mut Random(seed()), CREATIONS) {
        Ok(cuts) => println!("{cuts} cuts survived"),
        Err(loss) => panic!("{}\n{:#?}", loss.how, loss.what),
    }
}

#[test]
fn with_relaxed_durability_a_power_cut_loses_only_what_came_since_the_last_complete_sync_began() {
    nothing_is_lost(number("WEIR_POWER_CUTS", CUTS) / 3, "relaxed");
}

/// A relay whose syncs of one kind are not done loses something, and the harness says so.
#[track_caller]
fn is_found(lies: &'static str) {
    let plan = Plan { seed: seed(), cuts: SOON, cuts_per_storm: 20, lies, durability: "full" };
    let loss = cut(&plan).expect_err("a loss is found");
    println!("{}\n{}", loss.how, loss.what[0]);
}

#[test]
fn the_harness_finds_a_relay_whose_log_is_never_synced() {
    is_found("log");
}

#[test]
fn the_harness_finds_a_relay_whose_pages_are_never_synced() {
    is_found("pages");
}

#[test]
fn the_harness_finds_a_relay_whose_commits_are_never_synced() {
    is_found("meta");
}

#[test]
fn the_harness_finds_a_relay_whose_directories_are_never_synced() {
    is_found("directory");
}
