//! Where the log is, and how large it may become, as it is written on a command line.

use std::path::PathBuf;
use std::str::FromStr;

/// The smallest file of a log: some hundred records.
const SMALLEST: u64 = 64 << 10;

/// The most files of a log. Each rotation renames all of them.
const MOST_FILES: u32 = 1000;

/// A log and its bound, as `FILE,SIZE,FILES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The file that is written.
    pub path: PathBuf,
    /// How many bytes it may have before it is rotated.
    pub size: u64,
    /// How many files there are at most, the one that is written included.
    pub files: u32,
}

impl LogSettings {
    /// The rate at which an hour's flood takes half of the log, in bytes a second: whatever happened in that hour is still
    /// there when it is over, and so is what was decided, which is not held to the rate.
    #[must_use]
    pub fn default_rate(&self) -> u64 {
        // The oldest file goes when a new one is begun.
        let whole_files = u64::from(self.files.saturating_sub(1));
        (self.size.saturating_mul(whole_files) / 2 / 3600).max(1)
    }
}

impl FromStr for LogSettings {
    type Err = String;

    /// Reads `/var/log/psentry/records.jsonl,16M,20`. A comma in the name of the file is part of it.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(',').and_then(|(rest, files)| Some((rest.rsplit_once(',')?, files)));
        let Some(((path, size), files)) = parts.filter(|((path, _), _)| !path.is_empty()) else {
            return Err("write a file, its size and how many of them, such as /var/log/records.jsonl,16M,20"
                .to_owned());
        };
        let size = parse_size(size)?;
        if size < SMALLEST {
            return Err("a file of the log has at least 64K".to_owned());
        }
        let files = files.parse().ok().filter(|files| (2..=MOST_FILES).contains(files));
        let files = files.ok_or_else(|| format!("write how many files there may be, 2 to {MOST_FILES}"))?;
        Ok(LogSettings { path: PathBuf::from(path), size, files })
    }
}

/// How many bytes a second a log takes; `None`: as many as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRate(pub Option<u64>);

impl FromStr for LogRate {
    type Err = String;

    /// Reads `64K` or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(LogRate(None));
        }
        let rate =
            parse_size(text).map_err(|_| "write bytes a second as 4096, 64K or 1M, or none".to_owned())?;
        Ok(LogRate(Some(rate)))
    }
}

/// Reads a number of bytes: `4096`, `64K`, `16M`, `1G`, in powers of 1024 as logrotate has them.
fn parse_size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 10),
        None => match (text.strip_suffix('M'), text.strip_suffix('G')) {
            (Some(number), _) => (number, 20),
            (None, Some(number)) => (number, 30),
            (None, None) => (text, 0),
        },
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| number.parse::<u64>().ok()).flatten();
    let size = number.and_then(|number| number.checked_mul(1 << shift)).filter(|size| *size > 0);
    size.ok_or_else(|| "write a size as 4096 (bytes), 64K, 16M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<(String, u64, u32), String> {
        let read = text.parse::<LogSettings>();
        read.map(|log| (log.path.to_str().unwrap().to_owned(), log.size, log.files))
    }

    #[test]
    fn a_file_its_size_and_their_number_are_read() {
        for (text, path, size, files) in [
            ("/var/log/records.jsonl,16M,20", "/var/log/records.jsonl", 16 << 20, 20),
            ("r,64K,2", "r", 64 << 10, 2),
            ("r,65536,1000", "r", 65_536, 1000),
            ("a,b,1G,3", "a,b", 1 << 30, 3),
        ] {
            assert_eq!(settings(text), Ok((path.to_owned(), size, files)), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused_with_advice() {
        for text in [
            "",
            "r",
            "r,16M",
            ",16M,20",
            "r,16M,1",
            "r,16M,1001",
            "r,16M,-2",
            "r,16X,2",
            "r,M,2",
            "r,+1M,2",
            "r,63K,2",
            "r,0,2",
            "r,99999999999999999999,2",
            "r,17179869184G,2",
        ] {
            let said = settings(text).unwrap_err();
            assert!(
                ["write a ", "write how", "a file "].iter().any(|start| said.starts_with(start)),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_rate_is_read() {
        let read = |text: &str| text.parse::<LogRate>();
        assert_eq!((read("none"), read("64K")), (Ok(LogRate(None)), Ok(LogRate(Some(65_536)))));
        assert!(read("0").is_err() && read("64K/s").is_err() && read("").is_err());
    }

    #[test]
    fn an_hour_at_the_default_rate_takes_half_of_what_the_log_holds() {
        for text in ["r,16M,20", "r,64K,2", "r,1G,1000"] {
            let log = text.parse::<LogSettings>().unwrap();
            let hour = log.default_rate() * 3600;
            let holds = log.size * u64::from(log.files - 1);
            assert!(hour <= holds / 2 && hour + 3600 > holds / 2, "{text}: {hour} of {holds}");
        }
    }
}
