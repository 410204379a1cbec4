//! What every psentry program does alike, so that it is written once: flags and exit codes ([`run`]), records from
//! standard input until it ends or SIGTERM comes ([`Intake`]), records to standard output ([`Output`]), complaints
//! on standard error that a flood cannot flood ([`Complaints`]), lines into a file whose disk may be full
//! ([`LineFile`]), alike contacts as one record ([`Dedup`]), when counters are due ([`StatsTimer`]), files that are replaced in one step
//! ([`Replacement`], [`replace_file_like`]), configuration that changes ([`FileWatch`]) or is wrong ([`LastGood`], [`IgnoreFiles`]), what the service manager is told ([`report_ready`],
//! [`Watchdog`]), what one thread tells another one that polls ([`Bell`]), locks between
//! processes ([`lock_file`]), files of a user with less rights ([`open_regular`]), systemd's journal ([`Journal`]), records for another stage's FIFO
//! ([`FifoWriter`]), whether a panic holds ([`panic_file`]), durations and
//! ports on the command line.
//!
//! It knows nothing of probes' or verdicts' meaning, and opens no socket but those of the service manager and of its journal.

mod bell;
mod complaints;
mod cpu_time;
mod dedup;
mod directory;
mod durations;
mod exit;
mod fifo;
mod file_stamp;
mod file_watch;
mod ignore_files;
mod intake;
mod journal;
mod last_good;
mod line_file;
mod lock;
mod mode;
mod output;
pub mod panic_file;
mod ports;
mod replace_file;
mod rewrite_file;
mod safe_open;
mod service_manager;
mod signals;
mod stats_timer;
mod text;

pub use bell::Bell;
pub use clap_complete::Shell;
pub use complaints::Complaints;
pub use cpu_time::spent;
pub use dedup::Dedup;
pub use directory::{make_directory, runtime_directory};
pub use durations::parse_duration;
pub use exit::{Exit, Failure, completions, run, run_with};
pub use fifo::FifoWriter;
pub use file_stamp::{FileStamp, file_stamp};
pub use file_watch::FileWatch;
pub use ignore_files::{IgnoreFiles, read_ignore_files};
pub use intake::{Intake, Next, Requests};
pub use journal::{Journal, Priority, journal_end};
pub use last_good::{LastGood, wrong_setting};
pub use line_file::{LineFile, is_survivable};
pub use lock::lock_file;
pub use mode::{Mode, parse_mode};
pub use output::{Output, Patience, host_name};
pub use ports::{PortsError, parse_port, parse_ports};
pub use replace_file::{DraftName, Replacement, replace_file, sync_folder};
pub use rewrite_file::{
    is_mount, read_if_there, remove_if_there, replace_file_like, replace_settings, write_in_place,
};
pub use safe_open::{open_regular, own_like_directory};
pub use service_manager::{Pulse, Watchdog, report_ready, report_status, report_stopping};
pub use signals::{Request, Signals, Stop};
pub use stats_timer::StatsTimer;
pub use text::{clean, counted, print, printable, second, speak};
