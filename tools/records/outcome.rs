//! An outcome: what became of a verdict on one backend. The blocker writes it, once the kernel or the command has
//! confirmed it.

use serde::{Deserialize, Serialize};

use crate::{Action, Common, Prefix, Timestamp};

/// What was done about a range of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// When; source and port as the verdict had them.
    pub common: Common,
    /// What was done.
    pub body: OutcomeBody,
}

/// The object `outcome` of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeBody {
    /// What the verdict asked for.
    pub action: Action,
    /// Whom it concerned.
    pub scope: Prefix,
    /// Who did it: "nft", "iptables", ...; absent when it never came to a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What came of it.
    pub result: OutcomeResult,
    /// When the block ends; absent: when somebody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What went wrong, or why it was refused, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which rule decided; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, as the verdict said; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, by the verdict; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The ports that alone are shut, of the transport that the record names, or else of TCP and UDP; empty: the source is
    /// shut out as a whole. Where blocks are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// What came of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeResult {
    /// It stands, and the kernel or the command has confirmed it.
    Applied,
    /// It stood already, for at least as long.
    Already,
    /// It would have cut off somebody who must not be cut off.
    Refused,
    /// It did not work, and will be tried again while there is time left.
    Failed,
    /// It was ended by somebody.
    Released,
    /// Its time was over.
    Expired,
}

impl OutcomeResult {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OutcomeResult::Applied => "applied",
            OutcomeResult::Already => "already",
            OutcomeResult::Refused => "refused",
            OutcomeResult::Failed => "failed",
            OutcomeResult::Released => "released",
            OutcomeResult::Expired => "expired",
        }
    }
}
