//! The reading end of a pipe: records, and for what is no record the line number and the reason. Skipping and
//! counting is the caller's; the reader itself never stops for a bad line.

use std::io::{self, Read};

use crate::{Lines, Malformed, Record};

/// Reads records from a stream.
pub struct Reader<R> {
    lines: Lines<R>,
}

/// One line: its number, and the record that it holds or what is wrong with it.
#[derive(Debug, PartialEq)]
pub struct Item<T = Record> {
    /// Which line of the input, counted from 1.
    pub line: u64,
    /// The record, or why it is none.
    pub record: Result<T, Malformed>,
}

impl<R: Read> Reader<R> {
    /// A reader of the records in `source`, from its first line.
    pub fn new(source: R) -> Self {
        Reader { lines: Lines::new(source) }
    }

    /// The source, to wait for it.
    pub fn source(&self) -> &R {
        self.lines.source()
    }

    /// The next record that is held already; `None`: [`fill`](Self::fill) first. Empty lines are passed over.
    pub fn held(&mut self) -> Option<Item> {
        self.buffered_as(Record::parse)
    }

    /// The same for a caller who reads lines in a way of its own, which must take what [`Record::parse`] takes.
    pub fn buffered_as<T>(&mut self, read: impl Fn(&str) -> Result<T, Malformed>) -> Option<Item<T>> {
        loop {
            let line = self.lines.next_line()?;
            let record = match line.text {
                Ok(text) if text.trim_ascii().is_empty() => continue,
                Ok(text) => read(text),
                Err(malformed) => Err(malformed),
            };
            return Some(Item { line: line.number, record });
        }
    }

    /// The very bytes of the item that came last, without the newline.
    pub fn raw(&self) -> &[u8] {
        self.lines.current()
    }

    /// Reads once from the source. `false`: it has ended; a last line without newline is then held.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn fill(&mut self) -> io::Result<bool> {
        self.lines.fill()
    }

    /// Whether the beginning of a line is held, and its end is still to be read.
    pub fn is_cut(&self) -> bool {
        self.lines.is_cut()
    }

    /// Reads one byte: so a line that is cut is completed without the beginning of the next.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn fill_one(&mut self) -> io::Result<bool> {
        self.lines.fill_at_most(1)
    }

    /// The next record, waiting for it; `None` at the end.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            if let Some(item) = self.held() {
                return Ok(Some(item));
            }
            if !self.fill()? {
                return Ok(self.held());
            }
        }
    }
}
