//! The filter table of iptables or ip6tables, by their programs: listed, and changed in one step, in the variant that speaks to
//! nf_tables as in the legacy one.

pub(crate) mod rules;

use self::rules::Rules;
use crate::command::Program;
use crate::error::Error;

/// How many seconds the legacy variant waits for its lock.
const WAIT: &str = "20";

/// The filter table of one family.
#[derive(Clone, Debug)]
pub struct FilterTable {
    iptables: Program,
    restore: Program,
    is_nft: bool,
}

impl FilterTable {
    /// The table by iptables and iptables-restore, or those of IPv6, which are asked which variant they are.
    ///
    /// # Errors
    /// When iptables cannot be run.
    pub fn open(iptables: Program, restore: Program) -> Result<Self, Error> {
        let version = iptables.run_checked(&["-V"], b"")?;
        let is_nft = String::from_utf8_lossy(&version).contains("nf_tables");
        Ok(FilterTable { iptables, restore, is_nft })
    }

    /// Whether nf_tables keeps the rules, and reports changes; the legacy variant does not.
    #[must_use]
    pub fn is_nft(&self) -> bool {
        self.is_nft
    }

    /// The rules that are there, of a table that is dormant or not, which iptables does not say.
    ///
    /// # Errors
    /// When iptables cannot list them.
    pub fn rules(&self, dormant: bool) -> Result<Rules, Error> {
        let listed = self.iptables.run_checked(&["-w", WAIT, "-S"], b"")?;
        Ok(Rules::read(&String::from_utf8_lossy(&listed), dormant))
    }

    /// Makes changes, in the words of iptables-restore: all, or none. In `--noflush` a line `:CHAIN` makes a chain, or empties the one
    /// that is there.
    ///
    /// # Errors
    /// When iptables-restore makes none; see [`Error::is_objection`].
    pub fn change(&self, commands: &[String]) -> Result<(), Error> {
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        self.restore.run_checked(&["-w", WAIT, "--noflush"], script.as_bytes()).map(drop)
    }
}

impl Error {
    /// Whether iptables-restore objected to what it was given, and not to its lock or its rights. Where nf_tables keeps the rules, a
    /// rule or chain that is gone by then is exit status 4, as is a lock of the legacy variant.
    #[must_use]
    pub fn is_objection(&self) -> bool {
        match self {
            Error::Program { code: Some(1 | 2), .. } => true,
            Error::Program { code: Some(4), stderr, .. } => !stderr.contains("lock"),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_no_objection() {
        let is_objection = |code, stderr: &str| {
            let text = || "x".to_owned();
            Error::Program { program: text(), status: text(), code, stderr: stderr.to_owned() }.is_objection()
        };
        assert!(is_objection(Some(2), "Bad argument"));
        assert!(is_objection(Some(4), "RULE_DELETE failed: No such file or directory"));
        assert!(!is_objection(Some(4), "Another app is currently holding the xtables lock"));
        assert!(!is_objection(None, ""));
    }
}
