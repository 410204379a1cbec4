//! Whole lines of one file. A line that is being written is no line yet, and one that is too long is passed over, so that a file
//! that is no log takes no memory.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::LONGEST_LINE;
use crate::decompress::{decompressed, is_compressed};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

/// The lines of a file, from some place on.
pub(crate) struct Lines {
    source: Source,
    /// What was read and is not passed on yet.
    buffer: Vec<u8>,
    /// How much of it was passed on.
    start: usize,
    /// How many bytes of the text were passed on, or passed over.
    offset: u64,
    /// The rest of a line that is too long is passed over.
    skips: bool,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// One that is longer than [`LONGEST_LINE`], which was passed over.
    TooLong,
    /// No further line ends yet.
    Nothing,
}

enum Source {
    Plain(File),
    /// It is complete: nothing is appended to it any more.
    Compressed(Box<dyn Read>),
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(file) => file.read(into),
            Source::Compressed(text) => text.read(into),
        }
    }
}

impl Lines {
    /// The lines of a file, from its beginning.
    ///
    /// # Errors
    /// read(2)'s.
    pub(crate) fn new(mut file: File) -> io::Result<Self> {
        let mut start = [0; 4];
        let read = read_up_to(&mut file, &mut start)?;
        file.seek(SeekFrom::Start(0))?;
        let source = match is_compressed(start.get(..read).unwrap_or_default()) {
            true => Source::Compressed(decompressed(BufReader::with_capacity(CHUNK, file))?),
            false => Source::Plain(file),
        };
        Ok(Lines { source, buffer: Vec::new(), start: 0, offset: 0, skips: false })
    }

    /// The file, where lines may still be appended to it.
    pub(crate) fn plain(&self) -> Option<&File> {
        match &self.source {
            Source::Plain(file) => Some(file),
            Source::Compressed(_) => None,
        }
    }

    /// How many bytes of the text come before the next line.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to a place of the text; whether there is as much.
    ///
    /// # Errors
    /// read(2)'s, and that a compressed file is damaged.
    pub(crate) fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let there = match &mut self.source {
            Source::Plain(file) => {
                let there = file.metadata()?.len();
                file.seek(SeekFrom::Start(offset.min(there)))?;
                there
            }
            Source::Compressed(text) => io::copy(&mut text.by_ref().take(offset), &mut io::sink())?,
        };
        self.buffer.clear();
        (self.start, self.skips, self.offset) = (0, false, offset.min(there));
        Ok(there >= offset)
    }

    /// The next line.
    ///
    /// # Errors
    /// read(2)'s, and that a compressed file is damaged.
    pub(crate) fn next(&mut self) -> io::Result<Found> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest.get(..length).unwrap_or_default().to_vec();
                self.pass(length + 1);
                if std::mem::take(&mut self.skips) || length >= LONGEST_LINE {
                    return Ok(Found::TooLong);
                }
                return Ok(Found::Line(line));
            }
            if rest.len() >= LONGEST_LINE {
                self.pass(rest.len());
                self.skips = true;
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK, 0);
            let read = self.source.read(self.buffer.get_mut(before..).unwrap_or_default());
            self.buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                return Ok(Found::Nothing);
            }
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }
}

fn read_up_to(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    while let Some(rest) = into.get_mut(total..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            read => total += read,
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(text: &str) -> Found {
        Found::Line(text.into())
    }

    #[test]
    fn a_line_is_whole_and_of_bounded_length() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::new(file.reopen().unwrap()).unwrap();
        let mut say = |text: &[u8]| file.write_all(text).unwrap();
        say(b"one\nhal");
        assert_eq!((lines.next().unwrap(), lines.next().unwrap()), (line("one"), Found::Nothing));
        say(b"f\n");
        assert_eq!((lines.next().unwrap(), lines.offset()), (line("half"), 9));
        // Too long at once, too long bit by bit, and just not too long.
        say(&[&[b'x'; 3 * CHUNK][..], b"\nshort\n"].concat());
        assert_eq!((lines.next().unwrap(), lines.next().unwrap()), (Found::TooLong, line("short")));
        say(&[b'y'; LONGEST_LINE]);
        assert_eq!(lines.next().unwrap(), Found::Nothing);
        say(b"\n");
        assert_eq!(lines.next().unwrap(), Found::TooLong);
        let long = "z".repeat(LONGEST_LINE - 1);
        say(format!("{long}\n").as_bytes());
        assert_eq!(lines.next().unwrap(), line(&long));
        assert_eq!(lines.offset(), file.as_file().metadata().unwrap().len());
        assert!(lines.skip_to(4).unwrap());
        assert_eq!(lines.next().unwrap(), line("half"));
        assert!(!lines.skip_to(1 << 30).unwrap());
    }
}
