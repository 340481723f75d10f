//! What the operator looks at and is about to do: keys in, commands out. It touches neither the terminal nor the relay.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::figures::Figures;

/// A list of which one row is selected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum List {
    /// The connections.
    #[default]
    Connections,
    /// The slow queries.
    SlowQueries,
}

/// What is to be done with the selected row, once the operator confirms it.
#[derive(Clone, PartialEq, Debug)]
pub struct SelectedAct {
    /// The question.
    pub question: String,
    /// The method.
    pub method: &'static str,
    /// Its parameters.
    pub params: Value,
}

/// What a key leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum KeyEffect {
    /// Nothing but another picture.
    Draw,
    /// A request to the relay.
    Call(SelectedAct),
    /// The end.
    Quit,
}

/// The state of the screen, between two keys.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct State {
    /// The list in front.
    pub list: List,
    /// The selected row of it.
    pub selected: usize,
    /// Whether the selected slow query is explained.
    pub explains: bool,
    /// What waits for a yes.
    pub asked: Option<SelectedAct>,
    /// What became of the last act.
    pub message: String,
}

impl State {
    /// Handles a key.
    pub fn press(&mut self, key: KeyEvent, figures: &Figures) -> KeyEffect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { KeyEffect::Quit } else { KeyEffect::Draw };
        }
        if let Some(act) = self.asked.take() {
            return if key.code == KeyCode::Char('y') { KeyEffect::Call(act) } else { KeyEffect::Draw };
        }
        self.message.clear();
        match key.code {
            KeyCode::Esc if self.explains => self.explains = false,
            KeyCode::Char('q') | KeyCode::Esc => return KeyEffect::Quit,
            KeyCode::Tab => {
                self.list = if self.list == List::Connections { List::SlowQueries } else { List::Connections };
                (self.selected, self.explains) = (0, false);
            }
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected += 1,
            KeyCode::Char('e') | KeyCode::Enter if self.list == List::SlowQueries => self.explains = !self.explains,
            KeyCode::Char('k') => self.ask(figures, "closeconnection"),
            KeyCode::Char('b') => self.ask(figures, "blockip"),
            KeyCode::Char('p') => self.ask(figures, "banpubkey"),
            _ => {}
        }
        self.keep_within(figures);
        KeyEffect::Draw
    }

    /// Selects the last row if there are fewer now.
    pub fn keep_within(&mut self, figures: &Figures) {
        let rows = match self.list {
            List::Connections => figures.connections.len(),
            List::SlowQueries => figures.slow_queries.len(),
        };
        self.selected = self.selected.min(rows.saturating_sub(1));
    }

    /// Asks whether to do this to the selected row.
    fn ask(&mut self, figures: &Figures, method: &'static str) {
        const REASON: &str = "by the operator";
        let address = match self.list {
            List::Connections => figures.connections.get(self.selected).map(|one| &one.connection.address),
            List::SlowQueries => figures.slow_queries.get(self.selected).map(|one| &one.address),
        };
        let connection = figures.connections.get(self.selected).filter(|_| self.list == List::Connections);
        let connection = connection.map(|one| &one.connection);
        let (question, params) = match (method, address, connection) {
            ("closeconnection", Some(address), Some(one)) => {
                (format!("close connection {} from {address}?", one.id), json!([one.id, REASON]))
            }
            ("blockip", Some(address), _) => {
                (format!("ban {address} and close its connections?"), json!([address, REASON]))
            }
            ("banpubkey", _, Some(one)) if !one.key.is_empty() => {
                (format!("ban the key {}?", one.key), json!([one.key, REASON]))
            }
            _ => {
                self.message = "this row has nothing to close, ban or explain".into();
                return;
            }
        };
        self.asked = Some(SelectedAct { question, method, params });
    }
}
