//! Standard input to standard output, or with `--tee` to standard error: one line a record, at once.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use psentry_records::{Record, Timestamp};
use psentry_stage::{Complaints, Intake, Next, Output, Signals, speak};

use crate::sentence::day;
use crate::{Flags, Sentence, ShowError, Tone, say};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`ShowError`]; the end of the input and signals are no errors.
pub fn run(flags: Flags) -> Result<(), ShowError> {
    if flags.check {
        return Ok(());
    }
    let signals = Signals::catch().map_err(|errno| ShowError::Signals(errno.into()))?;
    let mut intake = Intake::stdin(signals).map_err(ShowError::Input)?;
    let mut output = Output::stdout().map_err(ShowError::Output)?;
    let mut complaints = Complaints::new("psentry-show");
    let mut speaker = Speaker::new(&flags);
    loop {
        let item = match intake.next(None).map_err(ShowError::Input)? {
            Next::Item(item) => item,
            Next::Nothing => continue,
            Next::End | Next::Stop => return Ok(()),
            // Whoever looked has seen enough: `psentry-show | head`.
            Next::ReaderGone if !flags.tee => return Ok(()),
            Next::ReaderGone => return Err(ShowError::Output(io::ErrorKind::BrokenPipe.into())),
        };
        match &item.record {
            Err(malformed) => complaints.skipped(item.line, malformed),
            Ok(record) => {
                let lines = speaker.lines(record);
                if flags.tee {
                    output.pass(intake.patience(), intake.raw()).map_err(ShowError::Output)?;
                    let unsaid = lines.iter().filter(|line| !speak(line)).count();
                    if unsaid > 0 {
                        complaints.say("standard error takes no more; some records were passed on unsaid");
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

/// Turns records into lines for one stream, and knows which day it was when it last spoke.
struct Speaker {
    zone: TimeZone,
    colours: bool,
    day: String,
}

impl Speaker {
    fn new(flags: &Flags) -> Self {
        let zone = if flags.utc { TimeZone::UTC } else { TimeZone::system() };
        let choice =
            if flags.tee { AutoStream::choice(&io::stderr()) } else { AutoStream::choice(&io::stdout()) };
        let day = day(Timestamp::now(), &zone);
        Speaker { zone, colours: choice != ColorChoice::Never, day }
    }

    /// The record in a line, after a line with its day if that is not the one that was spoken of last.
    fn lines(&mut self, record: &Record) -> Vec<String> {
        let Some(Sentence { day, time, word, tone, text }) = say(record, &self.zone) else {
            return Vec::new();
        };
        let style = if self.colours { style(tone) } else { Style::new() };
        let line = format!("{time} {style}{word:<8}{style:#} {text}");
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
