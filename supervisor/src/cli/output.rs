//! What reaches the terminal: pages of text, JSON, notes and failures.
//!
//! Nothing else of the command line prints. Texts that a plugin wrote pass [`escape`] on their way
//! into a [`Page`], so that none can move the cursor, colour a lie or turn text around.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use comfy_table::{ContentArrangement, Table, TableStyle};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use pinfold_policy::{escape, is_unprintable};
use serde::Serialize;

use super::exit::{Exit, Failure};

/// Where the results of a command go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write the result")]
pub(super) struct OutputError(#[source] io::Error);

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::new(Exit::Io, error)
    }
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read the result.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Gives a result: as JSON where that was asked for, else as the page that `page` makes.
    pub(super) fn give<T: Serialize>(
        self,
        value: &T,
        page: impl FnOnce(&T) -> Page,
    ) -> Result<(), OutputError> {
        if self.json {
            self.json(value)
        } else {
            self.page(&page(value))
        }
    }

    /// A result for people.
    pub(super) fn page(self, page: &Page) -> Result<(), OutputError> {
        write(page.text.as_bytes())
    }

    /// A result for programs.
    pub(super) fn json<T: Serialize>(self, value: &T) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| OutputError(io::Error::other(error)))?;
        write(format!("{}\n", escape_json(&text)).as_bytes())
    }

    /// A result for programs that comes bit by bit: one line.
    pub(super) fn line<T: Serialize>(self, value: &T) -> Result<(), OutputError> {
        let text =
            serde_json::to_string(value).map_err(|error| OutputError(io::Error::other(error)))?;
        write(format!("{}\n", escape_json(&text)).as_bytes())
    }

    /// JSON text that a plugin made. It is escaped anew whoever reads it: a terminal may stand behind a pipe
    /// too, and to a program the value is the same.
    pub(super) fn raw_json(self, text: &[u8]) -> Result<(), OutputError> {
        let text = String::from_utf8_lossy(text);
        write(format!("{}\n", escape_json(text.trim_end())).as_bytes())
    }

    /// Bytes for a file or another program.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), OutputError> {
        write(bytes)
    }

    /// What people should read before or beside the result: on standard output, which under
    /// `--json` is the result's alone.
    pub(super) fn beside(self, page: &Page) -> Result<(), OutputError> {
        if self.json {
            io::stderr()
                .write_all(page.text.as_bytes())
                .map_err(OutputError)
        } else {
            self.page(page)
        }
    }
}

/// A reader that has gone away wanted no more: not a failure.
fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError(error)),
        _ => Ok(()),
    }
}

/// Whether standard output can still be read by somebody. A file always can; of a pipe or a socket
/// poll(2) tells.
pub(super) fn has_reader() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    match nix::poll::poll(&mut polled, PollTimeout::ZERO) {
        Ok(_) => !polled
            .iter()
            .filter_map(PollFd::revents)
            .any(|now| now.intersects(gone)),
        // Not known: a write will tell.
        Err(_) => true,
    }
}

/// A line beside the result, on standard error. A terminal that is gone is no reason to fail.
pub(super) fn note(text: &str) {
    writeln!(io::stderr(), "{}", escape(text)).unwrap_or_default();
}

/// The next command to run, on standard error.
pub(super) fn hint(text: &str) {
    note(&format!("hint: {text}"));
}

/// Why a command failed, and what to do next.
pub(super) fn failure(failure: &Failure) {
    if failure.is_said() {
        return;
    }
    note(&format!("pinfold: {failure}"));
    if let Some(text) = failure.hint_text() {
        hint(text);
    }
}

/// Whether somebody sits before standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Lines for people. Whatever is put in has its control characters escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// One line.
    pub(super) fn line(&mut self, text: impl Display) -> &mut Self {
        let text = text.to_string();
        self.text.push_str(escape(&text).trim_end());
        self.text.push('\n');
        self
    }

    /// An empty line, unless the page begins here.
    pub(super) fn gap(&mut self) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self
    }

    /// A name and what belongs to it, in two columns; nothing where there is nothing to say.
    pub(super) fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        let value = value.to_string();
        if value.is_empty() {
            return self;
        }
        self.line(format_args!("{name:<12} {value}"))
    }

    /// A heading and its lines, indented; nothing where there are none.
    pub(super) fn list<T: Display>(
        &mut self,
        heading: &str,
        lines: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return self;
        }
        self.gap().line(heading);
        for line in lines {
            self.line(format_args!("  {line}"));
        }
        self
    }

    /// A table, as wide as the terminal at most.
    pub(super) fn table<const N: usize>(
        &mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> &mut Self {
        self.table_within(terminal_width(), header, rows)
    }

    fn table_within<const N: usize>(
        &mut self,
        width: Option<u16>,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> &mut Self {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        if let Some(width) = width {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        table.set_header(header);
        for row in rows {
            table.add_row(row.map(|cell| escape(&cell).into_owned()));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.text.push_str(&table.trim_fmt());
        self.text.push('\n');
        self
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Columns of the terminal on standard output; `None` where it is none.
fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Narrower than this a table is a column of letters: better to have the terminal wrap.
    (size.ws_col >= 40).then_some(size.ws_col)
}

/// JSON text of the same value without such characters. Between values JSON allows line feeds and
/// tabs, and within strings neither.
fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) && !matches!(character, '\n' | '\t' | '\r') {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(escaped, "\\u{unit:04x}").expect("a String takes every text");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b]0;owned\x07\u{9b}2Jb\u{202e}c\nd";

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let shown = "a\\u{1b}]0;owned\\u{7}\\u{9b}2Jb\\u{202e}c\\nd";
        assert_eq!(escape(HOSTILE), shown);
        assert_eq!(escape("plain: grüezi ✓"), "plain: grüezi ✓");
        let mut page = Page::default();
        page.line(HOSTILE)
            .field("name", HOSTILE)
            .list("list", [HOSTILE])
            .table_within(None, ["A"], [[HOSTILE.to_owned()]]);
        let obeyed = page.to_string().replace('\n', "");
        assert!(!obeyed.chars().any(is_unprintable), "{obeyed:?}");
        assert_eq!(page.to_string().matches(shown).count(), 4);
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ HOSTILE: ["\u{7f}", "\u{2067}"] });
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(
            !text.replace('\n', "").chars().any(is_unprintable),
            "{text:?}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn tables_align_and_fit_the_width() {
        let rows = || {
            [
                ["hello".to_owned(), "ready".to_owned()],
                [
                    "a-longer-name".to_owned(),
                    "failed: ".to_owned() + &"why ".repeat(20),
                ],
            ]
        };
        let mut page = Page::default();
        page.table_within(Some(40), ["PLUGIN", "STATE"], rows());
        let text = page.to_string();
        assert!(
            text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(
            text.starts_with("PLUGIN         STATE\nhello          ready\n"),
            "{text}"
        );
        let mut page = Page::default();
        page.table_within(None, ["PLUGIN", "STATE"], rows());
        assert_eq!(page.to_string().lines().count(), 3);
    }
}
