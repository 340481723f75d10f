//! What a session is finding out: a window that is compared, or one that is read page by page.

use std::time::{Duration, Instant};

use super::comparison::Comparison;
use super::pages::Pages;
use super::window::Window;

/// A negentropy session.
pub struct OpenComparison {
    /// Its name on the line.
    pub name: String,
    /// What is compared.
    pub window: Window,
    /// Both sides so far.
    pub comparison: Comparison,
    /// The next message, while the relay's turn has not come.
    pub next: Option<Vec<u8>>,
    /// When the last message was sent.
    pub since: Instant,
}

impl OpenComparison {
    /// Whether the relay owes an answer.
    pub const fn is_waiting(&self) -> bool {
        self.next.is_none()
    }

    /// Whether an answer has been owed for longer than this.
    pub fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.is_waiting() && now.duration_since(self.since) > timeout
    }

    /// Whether it has not answered at all.
    pub const fn is_unanswered(&self) -> bool {
        self.comparison.rounds == 0
    }
}

/// A window that is read page by page.
pub struct OpenPages {
    /// The name of the query for a page, while one is owed.
    pub name: Option<String>,
    /// The pages so far.
    pub pages: Pages,
    /// When the page was asked for.
    pub since: Instant,
}

impl OpenPages {
    /// Whether a page is owed.
    pub const fn is_waiting(&self) -> bool {
        self.name.is_some()
    }

    /// Whether the page has been owed for longer than this.
    pub fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.is_waiting() && now.duration_since(self.since) > timeout
    }
}
