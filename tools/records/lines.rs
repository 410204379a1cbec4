//! Bytes into lines, with a bound: at most [`READ_AHEAD`] bytes beyond the line in hand are ever held, so that a
//! stage that is killed loses little, and a line without an end costs no memory.

use std::io::{self, Read};

use crate::{MAX_LINE, Malformed};

/// How much one read(2) asks for, and so what is lost at most when a stage is killed.
pub const READ_AHEAD: usize = 4096;

/// A reader of lines. Reading from the source ([`Lines::fill`]) and taking lines ([`Lines::next_line`]) are two
/// steps, so that a caller may wait for the source by its own means.
pub struct Lines<R> {
    source: R,
    held: Vec<u8>,
    /// Where in `held` the next line begins.
    start: usize,
    /// How far `held` has been searched for a newline.
    searched: usize,
    number: u64,
    /// Where in `held` the line in hand stands.
    current: (usize, usize),
    /// Inside a line that is too long: it is thrown away up to its newline.
    discarding: bool,
    ended: bool,
}

/// A line and its number, counted from 1.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    /// Which line of the input.
    pub number: u64,
    /// Its text without the newline, or what is wrong with it.
    pub text: Result<&'a str, Malformed>,
}

impl<R: Read> Lines<R> {
    /// The lines of `source`, from its first byte.
    pub fn new(source: R) -> Self {
        let held = Vec::with_capacity(MAX_LINE + READ_AHEAD);
        Lines {
            source,
            held,
            start: 0,
            searched: 0,
            number: 0,
            current: (0, 0),
            discarding: false,
            ended: false,
        }
    }

    /// The source, to wait for it.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The bytes of the line that [`next_line`](Self::next_line) gave last, without its newline; empty after
    /// [`fill`](Self::fill).
    pub fn current(&self) -> &[u8] {
        self.held.get(self.current.0..self.current.1).unwrap_or_default()
    }

    /// Whether the beginning of a line is held, and its end is still to be read.
    pub fn is_cut(&self) -> bool {
        self.start < self.held.len()
    }

    /// Reads once from the source. `false`: it has ended.
    ///
    /// # Errors
    /// What read(2) says, except an interruption, which is tried again.
    pub fn fill(&mut self) -> io::Result<bool> {
        self.fill_at_most(READ_AHEAD)
    }

    /// As [`fill`](Self::fill), but at most so many bytes.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn fill_at_most(&mut self, most: usize) -> io::Result<bool> {
        self.held.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.current = (0, 0);
        let mut piece = [0; READ_AHEAD];
        let got = loop {
            match self.source.read(piece.get_mut(..most).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.held.extend_from_slice(piece.get(..got).unwrap_or_default());
        self.ended = got == 0;
        Ok(got > 0)
    }

    /// The next line that is held whole; `None`: read more first. After the end of the source, what is left
    /// counts as a line although no newline ends it.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        loop {
            let fresh = self.held.get(self.searched..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', fresh) else { break };
            let (from, to) = (self.start, self.searched + at);
            self.start = to + 1;
            self.searched = self.start;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            return Some(self.line(from, to));
        }
        self.searched = self.held.len();
        let (from, to) = (self.start, self.held.len());
        if self.discarding {
            self.start = to;
            return None;
        }
        if to - from >= MAX_LINE {
            self.discarding = true;
            self.start = to;
            return Some(self.line(from, to));
        }
        if self.ended && to > from {
            self.start = to;
            return Some(self.line(from, to));
        }
        None
    }

    fn line(&mut self, from: usize, to: usize) -> Line<'_> {
        self.number += 1;
        self.current = (from, to);
        let bytes = self.held.get(from..to).unwrap_or_default();
        let text = if bytes.len() >= MAX_LINE {
            Err(Malformed::Oversized)
        } else {
            std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)
        };
        Line { number: self.number, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line of `input`, read in pieces of `piece` bytes, as (number, text or None).
    fn lines_of(input: &[u8], piece: usize) -> Vec<(u64, Option<String>)> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let most = self.1.min(into.len());
                self.0.read(&mut into[..most])
            }
        }
        let mut lines = Lines::new(Pieces(input, piece));
        let mut found = Vec::new();
        loop {
            while let Some(line) = lines.next_line() {
                found.push((line.number, line.text.ok().map(str::to_owned)));
            }
            assert!(lines.held.capacity() <= MAX_LINE + READ_AHEAD, "it grows");
            if lines.ended {
                return found;
            }
            lines.fill().unwrap();
        }
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let long = "x".repeat(MAX_LINE - 1);
        let input = format!("one\n\ntwo\n{long}\nlast without newline");
        for piece in [1, 2, 3, 100, READ_AHEAD] {
            let want = ["one", "", "two", &long, "last without newline"];
            let want: Vec<_> = want.iter().zip(1..).map(|(text, n)| (n, Some((*text).to_owned()))).collect();
            assert_eq!(lines_of(input.as_bytes(), piece), want);
        }
    }

    #[test]
    fn a_line_too_long_is_one_error_and_the_next_line_is_read() {
        for length in [MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE, 1_000_000] {
            let input = format!("a\n{}\nb\n", "x".repeat(length));
            let want = vec![(1, Some("a".into())), (2, None), (3, Some("b".into()))];
            assert_eq!(lines_of(input.as_bytes(), READ_AHEAD), want, "{length}");
            assert_eq!(lines_of(input.as_bytes(), 777), want, "{length}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_of_their_line() {
        assert_eq!(lines_of(b"\xff\xfe\nok\n", 4096), vec![(1, None), (2, Some("ok".into()))]);
    }
}
