//! Whether a psentry-block runs that cannot be asked: it was started without a control socket, or with another one. It is
//! looked for among the processes, by its name and its command line.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::cli::Flags;

/// What its process is called.
const NAME: &str = "psentry-block";

/// The process of a psentry-block that applies verdicts where this one looks; of several, one.
pub(super) fn another() -> Option<u32> {
    let process = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(process);
    let mut others = processes.filter(|process| *process != std::process::id());
    others.find(|process| applies_verdicts(&Path::new("/proc").join(process.to_string())))
}

/// Whether the process in this directory applies verdicts to the network that is seen from here.
fn applies_verdicts(process: &Path) -> bool {
    let called = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == NAME);
    let network = |process: &Path| fs::read_link(process.join("ns/net"));
    let here = |there: PathBuf| network(Path::new("/proc/self")).is_ok_and(|here| here == there);
    // Whoever may not look there may not change its blocks either.
    called
        && network(process).is_ok_and(here)
        && fs::read(process.join("cmdline")).is_ok_and(|line| serves(&line))
}

/// Whether this command line applies verdicts, and is no command of psentry-block that soon ends.
fn serves(line: &[u8]) -> bool {
    let words = line.strip_suffix(b"\0").unwrap_or_default().split(|byte| *byte == 0);
    let flags = Flags::try_parse_from(words.map(|word| OsString::from_vec(word.to_vec())));
    !line.is_empty() && flags.is_ok_and(|flags| flags.command.is_none() && !flags.check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_applies_verdicts_runs() {
        for line in [&b"/usr/bin/psentry-block\0"[..], b"psentry-block\0--backend\0exec\0--exec\0list\0"] {
            assert!(serves(line), "{:?}", String::from_utf8_lossy(line));
        }
        // A process that has ended has no command line.
        for line in
            [&b""[..], b"psentry-block\0flush\0", b"psentry-block\0--check\0", b"psentry-block\0--what\0"]
        {
            assert!(!serves(line), "{:?}", String::from_utf8_lossy(line));
        }
    }
}
