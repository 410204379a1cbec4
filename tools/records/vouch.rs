//! A vouch: a user proved who he is from an address, by logging in. A script writes it; the judge
//! then only watches that address for a while.

use serde::{Deserialize, Serialize};

use crate::Common;

/// Whose address it is, as far as a login proves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Vouch {
    /// When, and from where. A vouch always has a `src_ip`.
    pub common: Common,
    /// Who, how, and for how long.
    pub body: VouchBody,
}

/// The object `vouch` of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VouchBody {
    /// The name of the account that logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How: "ssh", "wireguard", "imap", ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// For how many seconds from `timestamp`; absent: as long as the judge's policy says, and never longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}
