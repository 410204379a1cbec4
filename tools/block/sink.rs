//! Where records go: to standard output, or into a log that this program keeps itself.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use psentry_log::{Log, LogCounts, LogRate};
use psentry_records::Record;
use psentry_stage::{Output, Patience};

use crate::cli::Flags;
use crate::error::Error;

/// Takes records. A log takes them at once; whoever reads standard output may be slow.
pub(crate) enum Sink {
    Stdout(Output),
    /// Nobody reads them: a command has its own answer.
    Nowhere,
    Log(Box<Log>),
}

impl Sink {
    /// Standard output.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn stdout() -> Result<Self, Error> {
        Output::stdout("psentry-block").map(Sink::Stdout).map_err(|why| Error::Output(Arc::new(why)))
    }

    /// The log of `--log`; `None`: it is not given.
    ///
    /// # Errors
    /// The log may not be written, or somebody else writes it.
    pub(crate) fn log(flags: &Flags) -> Result<Option<Self>, Error> {
        let Some(settings) = &flags.log else { return Ok(None) };
        let LogRate(rate) = flags.log_rate.unwrap_or(LogRate(Some(settings.default_rate())));
        let opened = Log::open(settings.clone(), rate, "psentry-block", Instant::now());
        opened.map(|log| Some(Sink::Log(Box::new(log)))).map_err(Error::file(&settings.path, "write the log"))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Of standard output, as [`Output::write`]; a log that cannot be written is none.
    pub(crate) fn write(&mut self, patience: Patience<'_>, record: &Record) -> io::Result<()> {
        match self {
            Sink::Stdout(output) => output.write(patience, record),
            Sink::Nowhere => Ok(()),
            Sink::Log(log) => log.write(record, Instant::now()),
        }
    }

    /// Passes on a record's line as it was read.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn pass(&mut self, patience: Patience<'_>, record: &Record, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stdout(output) => output.pass(patience, line),
            Sink::Nowhere => Ok(()),
            Sink::Log(log) => {
                log.pass(record, line, Instant::now());
                Ok(())
            }
        }
    }

    /// How many records a disk that is full has not taken.
    pub(crate) fn lost(&self) -> u64 {
        match self {
            Sink::Stdout(output) => output.lost(),
            Sink::Nowhere => 0,
            Sink::Log(log) => log.lost(),
        }
    }

    /// Why the last record was lost; `None`: it was not.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Sink::Stdout(output) => output.failure(),
            Sink::Nowhere => None,
            Sink::Log(log) => log.failure(),
        }
    }

    /// What the log counts.
    pub(crate) fn log_counts(&self) -> LogCounts {
        match self {
            Sink::Stdout(_) | Sink::Nowhere => LogCounts::default(),
            Sink::Log(log) => log.counts(),
        }
    }
}
