//! The first line of a plugin's standard output, collected piece by piece.

/// Longest first line in bytes, its end included: what go-plugin's own host reads.
pub const MAX_LINE: usize = 64 * 1024;

/// Why there is no first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FirstLineError {
    /// Standard output ended before anything was printed; usually the process has ended.
    #[error("plugin ended its output without a handshake line")]
    NoLine,
    /// The first line is blank, so the handshake did not come first.
    #[error("first line of output is blank")]
    Blank,
    /// No end of line within the limit.
    #[error("first line of output exceeds {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Collects the first line; what follows it is ignored, for the handshake line alone counts.
#[derive(Debug, Default)]
pub struct FirstLine {
    line: Vec<u8>,
}

impl FirstLine {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of output; gives the line, without its end, once that has come.
    pub fn push(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, FirstLineError> {
        let (head, complete) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => (piece.get(..end).unwrap_or_default(), true),
            None => (piece, false),
        };
        if self.line.len().saturating_add(head.len()) >= MAX_LINE {
            return Err(FirstLineError::TooLong { limit: MAX_LINE });
        }
        self.line.extend_from_slice(head);
        if complete {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The output has ended: what came without an end of line is the line.
    pub fn finish(mut self) -> Result<Vec<u8>, FirstLineError> {
        if self.line.is_empty() {
            Err(FirstLineError::NoLine)
        } else {
            self.take()
        }
    }

    fn take(&mut self) -> Result<Vec<u8>, FirstLineError> {
        let line = std::mem::take(&mut self.line);
        if line.trim_ascii().is_empty() {
            Err(FirstLineError::Blank)
        } else {
            Ok(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_in_pieces_is_given_once_complete() {
        let mut first = FirstLine::new();
        assert_eq!(first.push(b"1|1|un"), Ok(None));
        assert_eq!(
            first.push(b"ix|/s\nmore\n"),
            Ok(Some(b"1|1|unix|/s".to_vec()))
        );
    }

    #[test]
    fn line_without_end_counts_at_the_end_of_output() {
        let mut first = FirstLine::new();
        assert_eq!(first.push(b"1|1|unix|/s"), Ok(None));
        assert_eq!(first.finish(), Ok(b"1|1|unix|/s".to_vec()));
    }

    #[test]
    fn blank_first_line_is_refused() {
        assert_eq!(
            FirstLine::new().push(b" \r\n1|1|unix|/s\n"),
            Err(FirstLineError::Blank)
        );
    }

    #[test]
    fn output_that_ends_at_once_has_no_line() {
        assert_eq!(FirstLine::new().finish(), Err(FirstLineError::NoLine));
    }

    #[test]
    fn endless_line_is_refused_at_the_limit() {
        let mut first = FirstLine::new();
        assert_eq!(first.push(&[b'a'; MAX_LINE - 1]), Ok(None));
        assert_eq!(
            first.push(b"a"),
            Err(FirstLineError::TooLong { limit: MAX_LINE })
        );
    }
}
