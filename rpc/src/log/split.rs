//! Lines out of bytes, with a bound.

/// Longest piece of a line in bytes; a longer line comes in several.
pub const MAX_PIECE: usize = 64 * 1024;
/// An empty buffer above this is given back: most plugins write short lines.
const KEPT_CAPACITY: usize = 4 * 1024;

/// A line, or a part of one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The text without the end of line.
    pub text: &'a [u8],
    /// It continues the piece before it.
    pub continues: bool,
    /// The line ends here; false when the next piece continues it.
    pub ends: bool,
}

impl Piece<'_> {
    /// The piece is a line of its own.
    pub fn is_line(self) -> bool {
        self.ends && !self.continues
    }
}

/// Cuts a byte stream into lines, as Go's `bufio.Reader.ReadLine` does with a buffer of [`MAX_PIECE`].
#[derive(Debug, Default)]
pub struct LineSplitter {
    held: Vec<u8>,
    continues: bool,
}

impl LineSplitter {
    /// A splitter at the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives every piece that is complete with them.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = MAX_PIECE.saturating_sub(self.held.len());
            let window = bytes.get(..room).unwrap_or(bytes);
            let end = window.iter().position(|byte| *byte == b'\n');
            let (text, rest) = bytes.split_at(end.unwrap_or(window.len()));
            self.held.extend_from_slice(text);
            bytes = rest;
            if end.is_some() {
                bytes = bytes.get(1..).unwrap_or_default();
                self.give(true, &mut each);
            } else if self.held.len() >= MAX_PIECE {
                self.give(false, &mut each);
            }
        }
    }

    /// The stream has ended: gives what is left of a line.
    pub fn finish(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            self.give(true, &mut each);
        }
    }

    fn give(&mut self, ends: bool, each: &mut impl FnMut(Piece<'_>)) {
        // A carriage return belongs to the end of line, which may be still to come.
        let carriage_return = self.held.last() == Some(&b'\r');
        if carriage_return {
            self.held.pop();
        }
        each(Piece {
            text: &self.held,
            continues: self.continues,
            ends,
        });
        self.held.clear();
        self.held.shrink_to(KEPT_CAPACITY);
        if carriage_return && !ends {
            self.held.push(b'\r');
        }
        self.continues = !ends;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(usize, bool, bool)> {
        let mut given = Vec::new();
        let mut splitter = LineSplitter::new();
        let mut note =
            |piece: Piece<'_>| given.push((piece.text.len(), piece.continues, piece.ends));
        for piece in pieces {
            splitter.push(piece, &mut note);
        }
        splitter.finish(&mut note);
        given
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let text = b"one\r\n\ntwo\nthree";
        let whole = split(&[text]);
        assert_eq!(
            whole,
            [
                (3, false, true),
                (0, false, true),
                (3, false, true),
                (5, false, true)
            ]
        );
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&single), whole);
    }

    #[test]
    fn ten_mebibytes_without_end_come_in_bounded_pieces() {
        let line = vec![b'x'; 10 * 1024 * 1024];
        let pieces = split(&[&line, b"\n"]);
        assert_eq!(pieces.len(), 161);
        assert!(pieces.iter().all(|(length, _, _)| *length <= MAX_PIECE));
        assert_eq!(pieces.last(), Some(&(0, true, true)));
    }

    #[test]
    fn carriage_return_at_the_cut_stays_with_its_line_end() {
        let mut line = vec![b'x'; MAX_PIECE - 1];
        line.extend_from_slice(b"\r\n");
        assert_eq!(
            split(&[&line]),
            [(MAX_PIECE - 1, false, false), (0, true, true)]
        );
    }
}
