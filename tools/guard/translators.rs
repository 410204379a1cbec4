//! The prefixes of translators, as `/etc/psentry/ports` names them: behind one each address stands for one of IPv4
//! (RFC 6052), so that a /64 around a single source would shut out all of IPv4. The file is read again when it changes.

use std::path::PathBuf;

use psentry_ports::{PortTable, PortsFileError};
use psentry_records::Prefix;
use psentry_stage::{FileStamp, file_stamp};

use crate::never_blocked::WIDEST_V4;

/// How many bits come before the IPv4 address.
const TRANSLATOR_LEN: u8 = 96;

/// The prefixes, as the file had them last.
pub(crate) struct Translators {
    file: PathBuf,
    stamp: FileStamp,
    prefixes: Vec<Prefix>,
}

impl Translators {
    /// Those that are compiled in, until [`renew`](Self::renew) finds the file.
    pub(crate) fn of(file: PathBuf) -> Self {
        Translators { file, stamp: None, prefixes: PortTable::builtin().translators }
    }

    /// Reads the file again if it has changed.
    ///
    /// # Errors
    /// What cannot be used, once for each change; then it stays as it was.
    pub(crate) fn renew(&mut self) -> Result<(), PortsFileError> {
        let stamp = file_stamp(&self.file);
        if std::mem::replace(&mut self.stamp, stamp) != stamp {
            self.prefixes = PortTable::read(&self.file)?.translators;
        }
        Ok(())
    }

    /// Why `scope` must not be blocked; `None`: it may.
    pub(crate) fn refusal(&self, scope: Prefix) -> Option<String> {
        let wide = scope.len() < TRANSLATOR_LEN + WIDEST_V4;
        let behind = self.prefixes.iter().find(|prefix| wide && prefix.overlaps(scope))?;
        Some(format!(
            "{scope} is wider than a /{WIDEST_V4} of the IPv4 addresses behind the translator {behind}, of which a single \
             one is a /128"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused(translators: &Translators, scope: &str) -> bool {
        translators.refusal(scope.parse().unwrap()).is_some()
    }

    #[test]
    fn behind_a_translator_no_more_is_blocked_than_of_ipv4() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports");
        let mut translators = Translators::of(file.clone());
        translators.renew().unwrap();
        let why = translators.refusal("64:ff9b::/64".parse().unwrap()).unwrap();
        let want = "64:ff9b::/64 is wider than a /8 of the IPv4 addresses behind the translator 64:ff9b::/96, of which a \
                    single one is a /128";
        assert_eq!(why, want);
        for (scope, want) in [
            ("64:ff9b::/96", true),
            ("64:ff9b::/103", true),
            ("64:ff9b::900:0/104", false),
            ("64:ff9b::192.0.2.7", false),
            ("64::/16", true),
            ("2001:db8::/64", false),
            ("192.0.2.0/24", false),
        ] {
            assert_eq!(refused(&translators, scope), want, "{scope}");
        }
        fs::write(&file, "translator 2001:db8:64::/96\n").unwrap();
        assert!(!refused(&translators, "2001:db8:64::/64"));
        translators.renew().unwrap();
        assert!(refused(&translators, "2001:db8:64::/64") && !refused(&translators, "64:ff9b::/64"));
        // An error in it is reported once, and the former contents stay.
        fs::write(&file, "translator 2001:db8::/64 # too wide\n").unwrap();
        let said = translators.renew().unwrap_err().to_string();
        assert!(said.contains("ports, line 1: 2001:db8::/64 is no /96"), "{said}");
        translators.renew().unwrap();
        assert!(refused(&translators, "2001:db8:64::/64"));
    }
}
