//! Whether psentry acts or only observes, as the flag `--mode` of more than one program says it.

use clap::ValueEnum;

/// What `--mode` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Nobody is shut out; what would have been done is recorded.
    Observe,
    /// Sources are shut out.
    Block,
    /// Nothing: whatever else says so, or to act.
    #[default]
    #[value(skip)]
    Unset,
}

impl Mode {
    /// The word on the command line and in psentry.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Block => "block",
            Mode::Unset => "",
        }
    }
}

/// Reads the value of `--mode`. The units put it together from `MODE=` and `OBSERVE=` of psentry.conf, of which the second is what
/// earlier versions had there: `--observe` or nothing.
///
/// # Errors
/// It is neither; what to write, as a sentence.
pub fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "observe" | "--observe" => Ok(Mode::Observe),
        "block" => Ok(Mode::Block),
        "" => Ok(Mode::Unset),
        _ => Err("write observe or block; in psentry.conf that is one line, MODE=observe or MODE=block, and none with \
                  OBSERVE="
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_guess_is_refused_with_what_to_write() {
        let both = ["observe", "--observe", "block", ""].map(parse_mode);
        assert_eq!(both, [Ok(Mode::Observe), Ok(Mode::Observe), Ok(Mode::Block), Ok(Mode::Unset)]);
        for text in ["no", "--observe=no", "block--observe", "BLOCK", "observe "] {
            assert!(parse_mode(text).is_err_and(|why| why.contains("MODE=block")), "{text}");
        }
    }
}
