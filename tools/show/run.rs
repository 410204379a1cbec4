//! Standard input to standard output, or with `--tee` to standard error: one line a record, at once.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use psentry_follow::{FollowError, decompressed, from_oldest};
use psentry_local_time::Zone;
use psentry_records::{Reader, Record, Timestamp};
use psentry_stage::{Complaints, Intake, Next, Output, Signals, speak};

use crate::{Flags, Line, ShowError, Tone, render};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`ShowError`]; the end of the input and signals are no errors.
pub fn run(flags: Flags) -> Result<(), ShowError> {
    if flags.check {
        return Ok(());
    }
    if !flags.files.is_empty() {
        return of_files(&flags);
    }
    let signals = Signals::catch().map_err(|errno| ShowError::Signals(errno.into()))?;
    let mut intake = Intake::stdin(signals).map_err(ShowError::Input)?;
    let mut output = Output::stdout("psentry-show").map_err(ShowError::Output)?;
    let mut complaints = Complaints::new("psentry-show");
    let colours =
        if flags.tee { AutoStream::choice(&io::stderr()) } else { AutoStream::choice(&io::stdout()) };
    let mut renderer = Renderer::new(flags.utc, colours);
    loop {
        let item = match intake.next(None).map_err(ShowError::Input)? {
            Next::Item(item) => item,
            Next::Nothing => continue,
            Next::End | Next::Stop => return Ok(()),
            // Its reader has read enough: `psentry-show | head`.
            Next::ReaderGone if !flags.tee => return Ok(()),
            Next::ReaderGone => return Err(ShowError::Output(io::ErrorKind::BrokenPipe.into())),
        };
        match &item.record {
            Err(malformed) => complaints.skipped(item.line, malformed),
            Ok(record) => {
                let lines = renderer.lines(record);
                if flags.tee {
                    output.pass(intake.patience(), intake.raw()).map_err(ShowError::Output)?;
                    let lost = lines.iter().filter(|line| !speak(line)).count();
                    if lost > 0 {
                        complaints
                            .say("standard error takes no more; some records were passed on without a line");
                    }
                } else {
                    for line in lines {
                        match output.pass(intake.patience(), line.as_bytes()) {
                            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                            result => result.map_err(ShowError::Output)?,
                        }
                    }
                }
            }
        }
    }
}

/// The records of files, from the oldest on.
fn of_files(flags: &Flags) -> Result<(), ShowError> {
    let mut renderer = Renderer::new(flags.utc, AutoStream::choice(&io::stdout()));
    let mut complaints = Complaints::new("psentry-show");
    let mut out = BufWriter::new(io::stdout().lock());
    for path in from_oldest(&flags.files)? {
        let failed = |source| ShowError::File(FollowError { path: path.clone(), source });
        let file = BufReader::new(File::open(path).map_err(failed)?);
        let mut reader = Reader::new(decompressed(file).map_err(failed)?);
        while let Some(item) = reader.next_item().map_err(failed)? {
            let lines = match &item.record {
                Ok(record) => renderer.lines(record),
                Err(malformed) => {
                    complaints.skipped(item.line, malformed);
                    continue;
                }
            };
            match lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(ShowError::Output)?,
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ShowError::Output(error)),
        _ => Ok(()),
    }
}

/// Renders records for one stream, and keeps the day of the last line, so that a new day is a line of its own.
pub struct Renderer {
    zone: Zone,
    colours: bool,
    day: String,
}

impl Renderer {
    /// For a stream that takes colours or not, with times in UTC or in local time.
    #[must_use]
    pub fn new(utc: bool, colours: ColorChoice) -> Self {
        let zone = Zone::new(utc);
        let day = zone.day(Timestamp::now());
        Renderer { zone, colours: colours != ColorChoice::Never, day }
    }

    /// The line of a record, after a line with its day if that is not the day of the line before.
    #[must_use]
    pub fn lines(&mut self, record: &Record) -> Vec<String> {
        let Some(Line { day, time, label, tone, text }) = render(record, &self.zone) else {
            return Vec::new();
        };
        let style = if self.colours { style(tone) } else { Style::new() };
        let line = format!("{time} {style}{label:<8}{style:#} {text}");
        if day == self.day {
            return vec![line];
        }
        self.day.clone_from(&day);
        vec![format!("-- {day}"), line]
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Notice => AnsiColor::Yellow.on_default(),
        Tone::Strong => AnsiColor::Red.on_default().bold(),
        Tone::Relief => AnsiColor::Green.on_default(),
        Tone::Alarm => AnsiColor::Magenta.on_default().bold(),
    }
}
