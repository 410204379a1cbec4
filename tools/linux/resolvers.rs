//! The DNS resolvers that this machine asks, from resolv.conf(5). Where that names a stub on this machine, those that
//! the stub asks are added. A file that is missing or cannot be read names none: it is no error.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use psentry_records::canonical;

/// The files that name resolvers: the one that the C library reads, and those in which systemd-resolved and NetworkManager,
/// which run stubs, name the resolvers that these ask.
pub const RESOLVER_FILES: [&str; 3] =
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

pub(crate) fn resolvers() -> Vec<IpAddr> {
    let [resolv_conf, upstream @ ..] = RESOLVER_FILES.map(Path::new);
    read(resolv_conf, &upstream)
}

/// The resolvers of `resolv_conf`, and of the files `upstream` if one of the former has a loopback address.
fn read(resolv_conf: &Path, upstream: &[&Path]) -> Vec<IpAddr> {
    // Not read_to_string(): a comment may be in any encoding.
    let read = |path: &Path| {
        fs::read(path).map(|text| nameservers(&String::from_utf8_lossy(&text))).unwrap_or_default()
    };
    let mut resolvers = read(resolv_conf);
    if resolvers.iter().any(IpAddr::is_loopback) {
        resolvers.extend(upstream.iter().flat_map(|path| read(path)));
    }
    resolvers
}

/// The addresses of the nameserver lines, without their zones (`%eth0`).
fn nameservers(text: &str) -> Vec<IpAddr> {
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
    fn nameserver_lines_are_read_as_the_manual_has_them() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n\
                    nameserver\tfe80::1%eth0\n nameserver ::1\nnameserver dns.example.org\n\
                    nameserver ::ffff:192.0.2.54\n";
        assert_eq!(nameservers(text), addresses(&["192.0.2.53", "fe80::1", "::1", "192.0.2.54"]));
    }

    #[test]
    fn what_a_stub_asks_is_a_resolver() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), b"# B\xfcro\nnameserver 192.0.2.53\n").unwrap();
        fs::write(path("stub"), "nameserver 127.0.0.53\n").unwrap();
        fs::write(path("upstream"), "nameserver 198.51.100.53\n").unwrap();
        let read = |file: &str| read(&path(file), &[&path("missing"), &path("upstream")]);
        assert_eq!(read("plain"), addresses(&["192.0.2.53"]));
        assert_eq!(read("stub"), addresses(&["127.0.0.53", "198.51.100.53"]));
        assert_eq!(read("missing"), addresses(&[]));
    }
}
