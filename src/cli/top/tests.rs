//! What is computed from two samples, and every cell of the picture.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::figures::Figures;
use super::sample::Sample;
use super::screen;
use super::state::{KeyEffect, List, SelectedAct, State};

fn view(pid: u32, scale: u64) -> Value {
    let metrics = format!(
        "# HELP weir_x X.\n\
         weir_messages_total{{verb=\"event\"}} {}\n\
         weir_events_total{{outcome=\"stored\"}} {}\n\
         weir_messages_total{{verb=\"req\"}} {}\n\
         weir_sent_bytes_total {}\n\
         weir_process_cpu_seconds_total {}.5\n\
         weir_event_ok_seconds_bucket{{le=\"0.001\"}} {}\n\
         weir_event_ok_seconds_bucket{{le=\"0.01\"}} {}\n\
         weir_event_ok_seconds_bucket{{le=\"+Inf\"}} {}\n\
         weir_queue_entries{{queue=\"ingest\"}} 12\n\
         weir_queue_bound{{queue=\"ingest\"}} 4096\n\
         weir_queue_entries{{queue=\"scans\"}} 3\n\
         weir_queue_bound{{queue=\"scans\"}} 4096\n\
         weir_connections 2\n\
         weir_subscriptions 5\n\
         weir_store_entries{{table=\"event\"}} 1234567\n\
         weir_store_used_bytes 5368709120\n\
         weir_storage_writable 1\n\
         weir_refusals_total{{prefix=\"blocked\"}} {}\n\
         weir_refusals_total{{prefix=\"invalid\"}} 7\n\
         # EOF\n",
        200 * scale,
        150 * scale,
        20 * scale,
        2_097_152 * scale,
        scale,
        90 * scale,
        99 * scale,
        100 * scale,
        4 * scale,
    );
    json!({
        "version": "1.2.3",
        "pid": pid,
        "metrics": metrics,
        "connections": [
            {"id": 7, "address": "192.0.2.7", "key": "", "cpu_us": 10, "queries": 0, "unanswered": 0},
            {"id": 9, "address": "2001:db8::1", "key": "ab".repeat(32), "cpu_us": 500_000 * scale, "queries": 2,
             "unanswered": 3, "unsent_bytes": 2048, "filter_bytes": 72},
        ],
        "slow_queries": [{"address": "192.0.2.7", "verb": "REQ", "filters": "[{\"kinds\":[1]}]",
            "plan": "kind index, 1 range", "rows": 40000, "worked_ms": 700, "waited_ms": 900}],
    })
}

fn figures() -> Figures {
    let now = Instant::now();
    let [before, after] = [(1, now), (2, now + Duration::from_secs(2))]
        .map(|(scale, at)| Sample::read(view(42, scale), at).expect("a view"));
    Figures::between(&before, &after)
}

#[test]
fn rates_latencies_and_costs_are_those_of_the_interval() {
    let figures = figures();
    let rates = ["events", "stored", "queries", "rows", "sent_bytes", "cpu"].map(|name| figures.rates[name]);
    assert_eq!(rates, [100.0, 75.0, 10.0, 0.0, 1_048_576.0, 0.5]);
    let took = figures.latencies["event_to_ok"];
    assert_eq!((took.p50_ms, took.p99_ms), (Some(1.0), Some(10.0)));
    assert_eq!(figures.latencies["commit"].p50_ms, None, "nothing was committed");
    assert_eq!(figures.refusals["answers"], [("blocked".to_owned(), 2.0)].into());
    let costs: Vec<_> = figures.connections.iter().map(|cost| (cost.connection.id, cost.cpu)).collect();
    assert_eq!(costs, [(9, 0.25), (7, 0.0)]);
}

#[test]
fn after_a_restart_of_the_relay_everything_of_the_new_process_counts() {
    let now = Instant::now();
    let before = Sample::read(view(41, 9), now).expect("a view");
    let after = Sample::read(view(42, 1), now + Duration::from_secs(1)).expect("a view");
    let figures = Figures::between(&before, &after);
    assert_eq!((figures.rates["events"], figures.connections[0].cpu), (200.0, 0.5));
}

#[test]
fn an_answer_that_lacks_everything_or_is_nothing_is_no_panic() {
    let empty = Sample::read(json!({}), Instant::now()).expect("every field may be absent");
    let figures = Figures::between(&empty, &empty);
    assert_eq!((figures.rates["events"], figures.connections.len(), figures.queues.len()), (0.0, 0, 0));
    draw(&figures, &State::default(), (100, 30));
    draw(&figures, &State { explains: true, list: List::SlowQueries, selected: 9, ..State::default() }, (9, 3));
    for answer in [json!(null), json!({"pid": -1}), json!({"metrics": 5}), json!({"connections": [3]})] {
        assert!(Sample::read(answer.clone(), Instant::now()).is_err(), "{answer}");
    }
    let odd = json!({"metrics": "weir_\nweir_x\nweir_x{\nweir_queue_entries{queue=\"\u{1b}[2J\"} NaN\nweir_y 1e999"});
    draw(&Figures::between(&empty, &Sample::read(odd, Instant::now()).expect("text")), &State::default(), (100, 30));
}

fn draw(figures: &Figures, state: &State, (columns, lines): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal in memory");
    terminal.draw(|frame| screen::draw(frame, figures, state)).expect("it draws");
    terminal
}

fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(usize::from(buffer.area.width));
    cells.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

/// The whole picture of a list. `screen.txt` has them all, one below the other.
#[test]
fn every_cell_is_where_it_belongs() {
    let figures = figures();
    let slow = State { list: List::SlowQueries, ..State::default() };
    let explained = State { explains: true, ..slow.clone() };
    let pictures =
        [State::default(), slow, explained].map(|state| lines(&draw(&figures, &state, (120, 28))).join("\n"));
    let expected = include_str!("screen.txt");
    let drawn = pictures.join("\n====\n") + "\n";
    assert!(drawn == expected, "drawn:\n{drawn}");
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

#[test]
fn an_act_is_asked_about_first_and_only_a_yes_carries_it_out() {
    let (figures, mut state) = (figures(), State::default());
    let press = |state: &mut State, code| state.press(key(code), &figures);
    assert_eq!(press(&mut state, KeyCode::Char('k')), KeyEffect::Draw);
    assert_eq!(press(&mut state, KeyCode::Char('n')), KeyEffect::Draw);
    assert_eq!(state.asked, None);
    press(&mut state, KeyCode::Char('k'));
    let kill = SelectedAct {
        question: "close connection 9 from 2001:db8::1?".into(),
        method: "closeconnection",
        params: json!([9, "by the operator"]),
    };
    assert_eq!(press(&mut state, KeyCode::Char('y')), KeyEffect::Call(kill));
    press(&mut state, KeyCode::Char('p'));
    assert_eq!(
        state.asked.as_ref().map(|act| (act.method, act.params[0].clone())),
        Some(("banpubkey", json!("ab".repeat(32))))
    );
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Char('b'));
    assert_eq!(state.asked.as_ref().map(|act| act.params[0].clone()), Some(json!("192.0.2.7")), "the last row");
    press(&mut state, KeyCode::Char('n'));
    press(&mut state, KeyCode::Char('p'));
    assert_eq!((state.asked.as_ref(), state.message.as_str()), (None, "this row has nothing to close, ban or explain"));
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::Char('e'));
    assert!(state.explains);
    assert_eq!(press(&mut state, KeyCode::Esc), KeyEffect::Draw);
    assert_eq!(press(&mut state, KeyCode::Char('q')), KeyEffect::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(State::default().press(control_c, &figures), KeyEffect::Quit);
}
