//! The file `served` of `--state`: which ports were served here, so that a restart of psentry-trap, or of the machine,
//! traps none of their clients before the services are up again. A port a line, such as `tcp/443`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psentry_ports::Services;
use psentry_records::Proto;
use psentry_stage::replace_file;

use crate::sockets::Listening;

/// It is written so often at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// More bytes than all ports take.
const LONGEST: u64 = 1 << 21;

/// The file, and what it says.
pub(crate) struct ServedFile {
    path: PathBuf,
    saved: Listening,
    next: Instant,
}

impl ServedFile {
    /// Reads the file in `folder`; without one no port was served. Lines that name no port are passed over.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(folder: &Path, now: Instant) -> (Self, io::Result<Listening>) {
        let path = folder.join("served");
        let read = read(&path);
        let saved = read.as_ref().cloned().unwrap_or_default();
        (ServedFile { path, saved, next: now + INTERVAL }, read)
    }

    /// Writes which ports are served, if that has changed and the last time is long enough ago.
    ///
    /// # Errors
    /// It cannot be written; what it said before is still there.
    pub(crate) fn save(&mut self, now: Instant, served: &Listening) -> io::Result<()> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERVAL;
        self.save_now(served)
    }

    /// Writes which ports are served, if that has changed.
    ///
    /// # Errors
    /// It cannot be written; what it said before is still there.
    pub(crate) fn save_now(&mut self, served: &Listening) -> io::Result<()> {
        if *served != self.saved {
            replace_file(&self.path, text(served).as_bytes(), |_| Ok(()))?;
            self.saved = served.clone();
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn read(path: &Path) -> io::Result<Listening> {
    Ok(parse(&read_state(path, LONGEST)?))
}

/// What a file of `--state` says, of so many bytes at most; nothing where there is none.
pub(crate) fn read_state(path: &Path, longest: u64) -> io::Result<String> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > longest => Err(io::Error::new(ErrorKind::InvalidData, "it is too long")),
        Ok(_) => Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Listening {
    let services: Vec<Services> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let of = |proto| {
        let one = services.iter().filter(move |ports| ports.proto == proto && ports.first == ports.last);
        one.map(|ports| ports.first).collect()
    };
    Listening { tcp: of(Proto::Tcp), udp: of(Proto::Udp) }
}

fn text(served: &Listening) -> String {
    let of = |proto: &str, ports: &BTreeSet<u16>| {
        ports.iter().map(|port| format!("{proto}/{port}\n")).collect::<String>()
    };
    of("tcp", &served.tcp) + &of("udp", &served.udp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let served = Listening { tcp: [22, 443].into(), udp: [53].into() };
        let (mut file, before) = ServedFile::open(folder.path(), start);
        assert_eq!(before.unwrap(), Listening::default());
        file.save(start, &served).unwrap();
        assert!(!file.path().exists(), "not so soon");
        file.save(start + INTERVAL, &served).unwrap();
        assert_eq!(ServedFile::open(folder.path(), start).1.unwrap(), served);
        fs::remove_file(file.path()).unwrap();
        file.save_now(&served).unwrap();
        assert!(!file.path().exists(), "nothing has changed");
        file.save_now(&Listening { udp: [].into(), ..served }).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "tcp/22\ntcp/443\n");
    }

    #[test]
    fn what_names_no_port_is_passed_over() {
        let found = parse("tcp/22\n\u{fffd}\ntcp/0\nudp/53\ntcp/1-65535\nsctp/9\n\ntcp/22");
        assert_eq!(found, Listening { tcp: [22].into(), udp: [53].into() });
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_of_the_write() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, read) = ServedFile::open(&folder.path().join("none"), Instant::now());
        assert!(read.is_ok());
        assert!(file.save_now(&Listening { tcp: [22].into(), udp: [].into() }).is_err());
    }
}
