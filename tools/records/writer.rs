//! The writing end of a pipe: a record is one write(2) of at most [`crate::MAX_LINE`] bytes, so that lines of
//! several writers into one FIFO never mix, and a reader never waits for the rest of one.

use std::io::{self, Write};

use crate::Record;

/// Writes records to a stream. Give it a bare file: a buffer in between would join records, or split them.
pub struct Writer<W> {
    sink: W,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A writer of records into `sink`.
    pub fn new(sink: W) -> Self {
        Writer { sink, line: Vec::with_capacity(crate::MAX_LINE) }
    }

    /// The sink, to wait for it.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// The sink, to ask it what became of what was written.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Passes on a line as it was read, without its newline; whole, as a record.
    ///
    /// # Errors
    /// What write(2) says; `BrokenPipe` when the reader is gone.
    pub fn pass(&mut self, line: &[u8]) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        self.sink.write_all(&self.line)
    }

    /// Writes one record, whole, before it returns.
    ///
    /// # Errors
    /// What write(2) says; `BrokenPipe` when the reader is gone.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        record.encode(&mut self.line)?;
        self.sink.write_all(&self.line)
    }
}
