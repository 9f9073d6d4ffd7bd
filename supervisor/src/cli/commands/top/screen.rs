//! The terminal while `pinfold top` has it: another screen, keys without Enter, all given back at
//! the end.

use std::io::{self, IsTerminal as _, Read as _, Stdin, Stdout, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cli::output::Page;

/// Another screen, without a cursor (xterm's control sequences).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// Lines where the terminal does not say how many it has.
const USUAL_LINES: u16 = 24;

/// The terminal. Dropping it gives it back.
pub(super) struct Screen {
    stdout: Stdout,
    keys: Option<Keys>,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Other,
}

struct Keys {
    stdin: AsyncFd<Stdin>,
    before: Termios,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        let screen = Self {
            stdout: io::stdout(),
            keys: Keys::take()?,
        };
        screen.write(ENTER)?;
        Ok(screen)
    }

    /// Draws a page, as much of it as fits.
    pub(super) fn draw(&mut self, page: &Page) -> io::Result<()> {
        let lines = tcgetwinsize(&self.stdout).map_or(0, |size| size.ws_row);
        let lines = if lines == 0 { USUAL_LINES } else { lines };
        self.write(&frame(&page.to_string(), usize::from(lines)))
    }

    /// Waits for a key; for ever where there is no keyboard. Cancel-safe.
    pub(super) async fn key(&self) -> io::Result<Key> {
        match &self.keys {
            Some(keys) => keys.next().await,
            None => std::future::pending().await,
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = self.stdout.lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        self.write(LEAVE).unwrap_or_default();
        if let Some(keys) = &self.keys {
            tcsetattr(keys.stdin.get_ref(), OptionalActions::Flush, &keys.before)
                .unwrap_or_default();
        }
    }
}

impl Keys {
    /// Keys one by one and unseen; Ctrl-C stays a signal.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for descriptors that do not outlive it: standard input does"
    )]
    fn take() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let stdin = AsyncFd::with_interest(io::stdin(), Interest::READABLE)?;
        let before = tcgetattr(stdin.get_ref())?;
        let mut changed = before.clone();
        changed
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(stdin.get_ref(), OptionalActions::Now, &changed)?;
        Ok(Some(Self { stdin, before }))
    }

    async fn next(&self) -> io::Result<Key> {
        let mut ready = self.stdin.readable().await?;
        ready.clear_ready();
        let mut bytes = [0; 64];
        let count = self.stdin.get_ref().lock().read(&mut bytes)?;
        let typed = bytes.get(..count).unwrap_or_default();
        // Nothing to read is the end of the input: the terminal is gone.
        let is_quit = typed.is_empty() || typed.iter().any(|byte| matches!(byte, b'q' | b'Q'));
        Ok(if is_quit { Key::Quit } else { Key::Other })
    }
}

/// What draws this text from the upper left corner, at most so many lines of it, and clears the
/// rest of the screen. The last line is not ended, or the screen would move up.
fn frame(text: &str, lines: usize) -> Vec<u8> {
    let mut frame = b"\x1b[H".to_vec();
    for (at, line) in text.lines().take(lines).enumerate() {
        if at > 0 {
            frame.extend_from_slice(b"\r\n");
        }
        frame.extend_from_slice(line.as_bytes());
        frame.extend_from_slice(b"\x1b[K");
    }
    frame.extend_from_slice(b"\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen_and_clears_what_was_there() {
        assert_eq!(
            frame("a\nb\nc\n", 2),
            b"\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J".to_vec()
        );
        assert_eq!(frame("", 2), b"\x1b[H\x1b[J".to_vec());
    }
}
