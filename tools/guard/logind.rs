//! The record that systemd-logind and elogind keep of sessions: one file for each, which everybody may read
//! (sd-login(3), "Implementation notes"). Nothing else of them is asked.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use psentry_records::canonical;

/// Where they keep it.
pub(crate) const RUN: &str = "/run/systemd";
/// The directory there with a file for each session, which is replaced whenever something about the session changes.
pub(crate) const SESSIONS: &str = "sessions";

/// Whence people are logged in now; `None`: nobody keeps a record of that, or not by address.
#[must_use]
pub fn logged_in() -> Option<HashSet<IpAddr>> {
    remote_addresses(Path::new(RUN))
}

/// Whence people are logged in; `None`: nobody keeps a record, or not by address.
pub(crate) fn remote_addresses(run: &Path) -> Option<HashSet<IpAddr>> {
    // Others make the directory of sessions; a seat is there once logind has run.
    fs::metadata(run.join("seats/seat0")).ok()?;
    let mut addresses = HashSet::new();
    for file in fs::read_dir(run.join(SESSIONS)).ok()? {
        let file = file.ok()?;
        // Beside each file there may be a FIFO, which is opened by nobody else.
        if !file.file_type().ok()?.is_file() {
            continue;
        }
        // A session that ends just now is none.
        let Ok(text) = fs::read(file.path()) else { continue };
        if let Some(host) = remote_host(&String::from_utf8_lossy(&text)) {
            addresses.insert(canonical(host.split('%').next()?.parse().ok()?));
        }
    }
    Some(addresses)
}

/// Whence somebody is logged in, as his session says it.
fn remote_host(session: &str) -> Option<&str> {
    session.lines().find_map(|line| line.strip_prefix("REMOTE_HOST=")).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_say_whence_people_came() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        assert_eq!(remote_addresses(run), None);
        fs::create_dir(run.join("sessions")).unwrap();
        assert_eq!(remote_addresses(run), None, "others make this directory");
        fs::create_dir(run.join("seats")).unwrap();
        fs::write(run.join("seats/seat0"), "").unwrap();
        assert_eq!(remote_addresses(run), Some(HashSet::new()));
        let session = |name: &str, text: &str| fs::write(run.join("sessions").join(name), text).unwrap();
        session("1", "UID=0\nREMOTE=0\nSERVICE=login\n");
        session("2", "UID=0\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\n");
        session("3", "REMOTE=1\nREMOTE_HOST=2001:db8::7\n");
        session("4", "REMOTE=1\nREMOTE_HOST=::ffff:192.0.2.8\n");
        let want = ["192.0.2.7", "2001:db8::7", "192.0.2.8"].map(|addr| addr.parse().unwrap());
        assert_eq!(remote_addresses(run), Some(want.into()));
        // With UseDNS a name stands there: then nobody can be told apart.
        session("5", "REMOTE=1\nREMOTE_HOST=office.example.org\n");
        assert_eq!(remote_addresses(run), None);
    }
}
