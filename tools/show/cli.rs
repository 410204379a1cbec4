//! The flags of psentry-show.

use std::path::PathBuf;

use clap::Parser;

/// Says each record of the files, or of standard input, in one line
#[derive(Debug, Parser)]
#[command(name = "psentry-show", version, max_term_width = 100)]
pub struct Flags {
    /// Files of records, also in gzip or zstd, in whichever order; without any, standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Pass the records on unchanged to standard output, and print the lines on standard error
    #[arg(long, conflicts_with = "files")]
    pub tee: bool,

    /// Print times in UTC instead of local time
    #[arg(long)]
    pub utc: bool,

    /// Check the flags, touch nothing, and exit 0 or 78
    #[arg(long)]
    pub check: bool,
}
