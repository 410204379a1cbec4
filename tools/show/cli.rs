//! The flags of psentry-show.

use clap::Parser;

/// Reads records on standard input and says each in one line on standard output.
#[derive(Debug, Parser)]
#[command(name = "psentry-show", version, max_term_width = 100)]
pub struct Flags {
    /// Pass the records on unchanged on standard output, and say them on standard error
    #[arg(long)]
    pub tee: bool,

    /// Say times in UTC instead of local time
    #[arg(long)]
    pub utc: bool,

    /// Read the configuration, touch nothing, and exit: 0 if it is sound, 78 if not
    #[arg(long)]
    pub check: bool,
}
