//! Standard input to standard output, or with `--tee` to standard error: one line a record, at once.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use psentry_stage::{Complaints, Intake, Next, Output, Signals};

use crate::{Flags, Sentence, ShowError, Tone, say};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`ShowError`]; the end of the input and signals are no errors.
pub fn run(flags: Flags) -> Result<(), ShowError> {
    if flags.check {
        return Ok(());
    }
    let zone = if flags.utc { TimeZone::UTC } else { TimeZone::system() };
    let signals = Signals::catch().map_err(|errno| ShowError::Signals(errno.into()))?;
    let mut intake = Intake::stdin(signals).map_err(ShowError::Input)?;
    let mut complaints = Complaints::new("psentry-show");
    let mut output = Output::stdout().map_err(ShowError::Output)?;
    loop {
        let item = match intake.next(None).map_err(ShowError::Input)? {
            Next::Item(item) => item,
            Next::Nothing => continue,
            Next::End | Next::Stop => return Ok(()),
        };
        let sentence = match &item.record {
            Ok(record) => say(record, &zone),
            Err(malformed) => {
                complaints.skipped(item.line, malformed);
                None
            }
        };
        if flags.tee {
            if item.record.is_ok() {
                output.pass(intake.raw()).map_err(ShowError::Output)?;
            }
            if let Some(sentence) = sentence {
                // A terminal that has gone away must not stop the guard.
                let _ = print(&mut anstream::stderr(), &sentence);
            }
        } else if let Some(sentence) = sentence {
            match print(&mut anstream::stdout(), &sentence) {
                // Whoever looked has seen enough: `psentry-show | head`.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                result => result.map_err(ShowError::Output)?,
            }
        }
    }
}

/// One line, in colours where the stream shows them.
fn print(stream: &mut impl Write, sentence: &Sentence) -> io::Result<()> {
    let style = style(sentence.tone);
    let Sentence { time, word, text, .. } = sentence;
    let line = format!("{time} {style}{word:<8}{style:#} {text}\n");
    stream.write_all(line.as_bytes())?;
    stream.flush()
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
