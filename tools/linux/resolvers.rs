//! The resolvers that this machine asks, as resolv.conf(5) names them; behind a stub on this machine those that the
//! stub asks. What cannot be read names none.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use psentry_records::canonical;

/// Where resolvers are named.
const RESOLVERS: &str = "/etc/resolv.conf";

/// Where the stubs of systemd-resolved and of NetworkManager name theirs.
const BEHIND_STUBS: [&str; 2] =
    ["/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

/// The resolvers of this machine.
pub(crate) fn look() -> Vec<IpAddr> {
    named(Path::new(RESOLVERS), &BEHIND_STUBS.map(Path::new))
}

/// Those that `file` names, and where one of them is on this machine, those that `behind` name.
fn named(file: &Path, behind: &[&Path]) -> Vec<IpAddr> {
    // A comment may be in any encoding.
    let read = |path: &Path| {
        fs::read(path).map(|text| resolvers(&String::from_utf8_lossy(&text))).unwrap_or_default()
    };
    let mut named = read(file);
    if named.iter().any(IpAddr::is_loopback) {
        named.extend(behind.iter().flat_map(|path| read(path)));
    }
    named
}

/// The addresses of resolv.conf(5), without their zones.
fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter_map(|word| word.split('%').next()?.parse().ok())
        .map(canonical)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn resolvers_are_read_as_the_manual_has_them() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n\
                    nameserver\tfe80::1%eth0\n nameserver ::1\nnameserver dns.example.org\n\
                    nameserver ::ffff:192.0.2.54\n";
        assert_eq!(resolvers(text), addresses(&["192.0.2.53", "fe80::1", "::1", "192.0.2.54"]));
    }

    #[test]
    fn whoever_a_stub_asks_is_a_resolver() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), b"# B\xfcro\nnameserver 192.0.2.53\n").unwrap();
        fs::write(path("stub"), "nameserver 127.0.0.53\n").unwrap();
        fs::write(path("behind"), "nameserver 198.51.100.53\n").unwrap();
        let named = |file: &str| named(&path(file), &[&path("missing"), &path("behind")]);
        assert_eq!(named("plain"), addresses(&["192.0.2.53"]));
        assert_eq!(named("stub"), addresses(&["127.0.0.53", "198.51.100.53"]));
        assert_eq!(named("missing"), addresses(&[]));
    }
}
